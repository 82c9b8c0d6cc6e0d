//! `agent-vm run`

use anyhow::Result;
use clap::Args;

use super::fetching::{MAX_SIZE, fetch_from};
use super::{create, destroy, diff, fetch, new_agents, watched};
use crate::cli::{line, resolve_settings, target};
use crate::egress::secrets;
use crate::guest::running::running;
use crate::machine::agents::{self, Preset};
use crate::machine::context::Context;
use crate::machine::name::VmName;
use crate::machine::state_dir::StateDir;
use crate::machine::{Machine, in_use};
use crate::remote::agent::Program;
use crate::remote::sessions;
use crate::remote::ssh::Ssh;
use crate::remote::ssh::terminal::Streams;
use crate::term::error::Failure;
use crate::term::progress::note;

/// Exit code of a shell that does not find a program.
const NOT_FOUND: i32 = 127;

/// Flags of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The agent; with --command, its place is the machine's
    #[arg(value_name = "AGENT")]
    agent: Option<String>,
    /// A branch of the current repository, or a machine's name [default: the current branch]
    #[arg(value_name = "BRANCH|MACHINE")]
    machine: Option<String>,
    /// The same, as a flag
    #[arg(long = "branch", value_name = "BRANCH", hide = true, conflicts_with = "machine")]
    branch: Option<String>,
    /// Run this program of the machine, and no agent
    #[arg(long, value_name = "PROGRAM")]
    command: Option<String>,
    /// Let the agent do everything without asking; the machine is its sandbox
    #[arg(long, conflicts_with = "command")]
    yolo: bool,
    /// Start a session that goes on without this terminal; `attach` shows it
    #[arg(long)]
    detach: bool,
    /// Task for the agent, which works on it without asking, prints its answer and ends
    #[arg(long, value_name = "TEXT", conflicts_with = "command")]
    task: Option<String>,
    /// After the task, fetch what the machine has, and print the changed files
    #[arg(long, conflicts_with = "detach")]
    pub fetch: bool,
    /// After the task, remove the machine as `destroy` does; commits that only it has are kept in a bundle
    #[arg(long, conflicts_with = "detach")]
    pub rm: bool,
    /// Arguments for the agent or program
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<String>,
}

/// What to run, and where.
struct Wanted<'a> {
    command: &'a str,
    /// Name and preset of the agent; None for another program.
    agent: Option<(&'a str, &'static Preset)>,
    machine: Option<&'a str>,
}

impl RunArgs {
    fn wanted(&self, state: &StateDir) -> Result<Wanted<'_>, Failure> {
        if (self.fetch || self.rm) && self.task.is_none() {
            return Err(Failure::usage("--fetch and --rm follow a task").with_hint("give one: --task TEXT"));
        }
        let second = self.machine.as_deref().or(self.branch.as_deref());
        let Some(command) = &self.command else {
            let Some(name) = &self.agent else {
                return Err(Failure::usage("no agent given").with_hint("for example: agent-vm run claude"));
            };
            let preset = agents::find(name).ok_or_else(|| self.no_agent(state, name))?;
            return Ok(Wanted { command: &preset.command, agent: Some((name, preset)), machine: second });
        };
        if let (Some(first), Some(_)) = (&self.agent, second) {
            return Err(Failure::usage(format!("--command runs a program, and no agent {first}"))
                .with_hint("agent-vm run --command PROGRAM BRANCH -- ARGS"));
        }
        Ok(Wanted { command, agent: None, machine: self.agent.as_deref().or(second) })
    }

    /// Returns the error for an unknown agent, which may be a machine or a command instead.
    fn no_agent(&self, state: &StateDir, name: &str) -> Failure {
        let unknown = agents::unknown(name);
        if target::is_known(state, name) || line::is_branch(name) {
            return unknown.with_hint(format!("did you mean: agent-vm start {}", line::join(&[name.to_owned()])));
        }
        let words = [Some(name), self.machine.as_deref()].into_iter().flatten().map(str::to_owned);
        let words: Vec<_> = words.chain(self.arguments.iter().cloned()).collect();
        let known = unknown.hint().unwrap_or_default().to_owned();
        unknown.with_hint(format!("{known}\nto run a command in a machine: agent-vm exec -- {}", line::join(&words)))
    }
}

/// Runs an agent or another program in a machine and returns its exit code. The machine is created and started if necessary.
///
/// # Errors
/// The machine cannot be created or started, runs without the agent, or does not answer.
pub fn run(context: &Context, args: &RunArgs) -> Result<i32> {
    let wanted = args.wanted(&context.state)?;
    let machine = machine(context, args, &wanted)?;
    bring_up(context, &machine)?;
    let (guest, facts) = running(&machine)?;
    let ssh = Ssh::to(&machine, &guest.manifest, &facts, context.verbosity);
    let limit = context.answer_limit();
    ssh.require_connection(limit)?;
    let program = Program {
        command: wanted.command,
        preset: wanted.agent.map(|(_, preset)| preset),
        unattended: args.yolo || args.task.is_some(),
        task: args.task.as_deref(),
        arguments: &args.arguments,
    };
    let words = program.words(&guest.manifest)?;
    let name = &machine.name;
    if args.detach {
        let session = sessions::name_of(wanted.command);
        let running = sessions::all(&ssh, limit)?.into_iter().any(|one| one.session == session && one.running);
        if running {
            return Err(Failure::new(format!("{name} runs a session {session} already"))
                .with_hint(format!("to show it: agent-vm attach {name} --session {session}"))
                .into());
        }
        in_use::note(&machine.dir);
        ssh.read(&sessions::start(&session, &guest.manifest.workspace.path, &words)?, limit)?;
        note(&format!("{name} runs {session}; to show it: agent-vm attach {name}"));
        return Ok(0);
    }
    let streams = if args.task.is_some() { Streams::Pipes } else { Streams::ours() };
    let code = ssh.exec(&words, streams, limit)?;
    if code == NOT_FOUND {
        note(&absent(name, &wanted));
    }
    after(context, args, &machine)?;
    Ok(code)
}

/// Starts a machine if it is not running. If another command is starting it, waits for that.
fn bring_up(context: &Context, machine: &Machine) -> Result<()> {
    let _lock = machine.lock(context.deadline())?;
    let run = machine.run();
    if run.qemu().is_none() || run.facts().is_none() {
        return watched::launch(context, machine, None);
    }
    // It may have been killed.
    watched::watch(context, machine);
    Ok(())
}

/// Explains why a program was not found.
fn absent(name: &VmName, wanted: &Wanted<'_>) -> String {
    let command = wanted.command;
    match wanted.agent {
        Some(_) => format!("{name} was started without {command}; to install it: agent-vm restart {name}"),
        None => format!("{name} has no program {command}; to install a package: agent-vm set {name} packages=LIST"),
    }
}

/// Returns the machine, which is created if it does not exist. A stopped one gets the agent if it lacks it.
fn machine(context: &Context, args: &RunArgs, wanted: &Wanted<'_>) -> Result<Machine> {
    let Some(machine) = target::find_or_none(&context.state, wanted.machine)? else {
        if let (Some((name, preset)), Some(_)) = (wanted.agent, &args.task) {
            require_secret(name, preset)?;
        }
        let flags = create::CreateArgs::with_agent(wanted.machine, wanted.agent.map(|(name, _)| name));
        return Ok(create::make(context, &flags)?.0);
    };
    let Some((agent, preset)) = wanted.agent else { return Ok(machine) };
    let _lock = machine.lock(context.deadline())?;
    let before = machine.settings()?;
    if before.agents.iter().any(|name| name == agent) {
        return Ok(machine);
    }
    let after = new_agents::added(&before, agent, new_agents::is_set);
    let name = &machine.name;
    if machine.run().qemu().is_some() {
        let list = after.agents.join(",");
        return Err(Failure::new(format!("{name} is running without {agent}"))
            .with_hint(format!(
                "stop it, and {agent} is added: agent-vm stop {name}\nor add it yourself: agent-vm set {name} agents={list}\nthen: agent-vm restart {name}"
            ))
            .into());
    }
    secrets::keep(&machine.dir, &after.egress.secrets)?;
    resolve_settings::write(&machine, &before, &after)?;
    note(&new_agents::notice(preset, &after));
    Ok(machine)
}

/// Checks that an agent can work in a machine in which nobody has logged in.
fn require_secret(name: &str, preset: &Preset) -> Result<(), Failure> {
    if preset.secrets_set(new_agents::is_set).next().is_some() {
        return Ok(());
    }
    let names: Vec<_> = preset.secrets.iter().map(|secret| secret.name.as_str()).collect();
    let log_in = if preset.has_login() { format!("\nor log in first: agent-vm run {name}") } else { String::new() };
    Err(Failure::usage(format!("{} has no key to work with in a new machine", preset.title)).with_hint(format!(
        "set {} before: export {}=…{log_in}",
        new_agents::one_of(&names),
        names[0]
    )))
}

/// Fetches the result of a task, and removes the machine, if asked to.
fn after(context: &Context, args: &RunArgs, machine: &Machine) -> Result<()> {
    if args.fetch {
        let fetched = fetch_from(context, machine, true, MAX_SIZE)?;
        fetch::report(machine, &fetched)?;
        diff::stat(context, machine)?;
    }
    if args.rm {
        let _lock = machine.lock(context.deadline())?;
        destroy::destroy_keeping_changes(context, machine)?;
    }
    Ok(())
}
