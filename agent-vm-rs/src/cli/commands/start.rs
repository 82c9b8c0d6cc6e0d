//! `agent-vm start`

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::profile::ProfileOfStart;
use super::{Target, foreground, watched};
use crate::cli::target;
use crate::guest::Guest;
use crate::guest::running::running;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::run_state::RunFacts;
use crate::machine::unknown::no_machine;
use crate::remote::servers::Servers;
use crate::remote::ssh::Ssh;
use crate::status::Report;
use crate::term::error::{Failure, Interrupted};
use crate::term::output::{print, print_json};
use crate::term::progress::{note, timed};
use crate::vm::{disk, launch};

/// Time for MCP servers that are still starting once MCP answers. On an emulated processor this takes some seconds.
const SETTLING: Duration = Duration::from_secs(60);
/// Time limit for querying the servers' states.
const ANSWER: Duration = Duration::from_secs(10);

/// Flags of `start`.
#[derive(Args, Clone, Debug)]
pub struct StartArgs {
    #[command(flatten)]
    target: Target,
    /// Start with a new disk and keep the old one under another name; the workspace is not on it
    #[arg(long)]
    new_disk: bool,
    /// Directory of the repository [default: the current one]
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// Use this guest package for this run; do not build the machine's own
    #[arg(long, value_name = "PATH")]
    guest_package: Option<PathBuf>,
    /// Run until the machine ends; stop it on SIGTERM or SIGINT; report to systemd (Type=notify)
    #[arg(long, conflicts_with = "profile")]
    foreground: bool,
    #[command(flatten)]
    profile: ProfileOfStart,
}

/// Starts a machine, waits until MCP answers, and prints how to connect.
///
/// # Errors
/// The guest cannot be built, or does not start completely.
pub fn start(context: &Context, args: &StartArgs) -> Result<()> {
    let machine = find(context, args)?;
    if args.new_disk {
        put_disk_aside(context, &machine)?;
    }
    let up = || ensure_running(context, &machine, args.guest_package.as_deref());
    if args.foreground {
        return foreground::run(context, &machine, up, || announce(context, &machine));
    }
    if let Err(error) = up() {
        args.profile.show_failed(context, &machine);
        return Err(error);
    }
    if args.profile.is_printed() {
        let (guest, facts) = running(&machine)?;
        settled_servers(context, &machine, &guest, &facts)?;
    } else {
        announce(context, &machine)?;
    }
    args.profile.show(context, &machine)
}

fn find(context: &Context, args: &StartArgs) -> Result<Machine> {
    let named = args.target.as_deref();
    let Some(dir) = &args.source else { return target::find(&context.state, named) };
    let (source, branch) = target::branch_of(&context.state, dir, named)?;
    target::machine_of(&context.state, &source.dir, &branch)?.ok_or_else(|| no_machine(&context.state, branch.as_str()))
}

fn put_disk_aside(context: &Context, machine: &Machine) -> Result<()> {
    let _lock = machine.lock(context.deadline())?;
    let name = &machine.name;
    if machine.run().qemu().is_some() {
        return Err(Failure::new(format!("cannot replace the disk of {name}: the machine is running"))
            .with_hint(format!("agent-vm stop {name}\nthen: agent-vm start {name} --new-disk"))
            .into());
    }
    if let Some(aside) = disk::put_aside(machine)? {
        note(&format!(
            "notice: the old disk of {name} is now {}; remove it when you no longer need it",
            aside.display()
        ));
    }
    Ok(())
}

/// Starts a machine if it is not running. If another command is starting it, waits for that.
///
/// # Errors
/// As [`start`].
pub fn ensure_running(context: &Context, machine: &Machine, package: Option<&Path>) -> Result<()> {
    let _lock = machine.lock(context.deadline())?;
    let run = machine.run();
    match (run.qemu(), run.facts()) {
        (Some(qemu), Some(facts)) => {
            if let Some(package) = package
                && facts.guest_package != std::fs::canonicalize(package).ok()
            {
                let name = &machine.name;
                return Err(Failure::new(format!("{name} is running with another guest package"))
                    .with_hint(format!("stop it first: agent-vm stop {name}"))
                    .into());
            }
            note(&format!("{} is already running", machine.name));
            let joined = launch::join(context, machine, &qemu, &facts);
            watched::watch(context, machine);
            joined
        }
        _ => watched::launch(context, machine, package),
    }
}

/// Prints how to connect to a running machine.
///
/// # Errors
/// It has stopped.
pub fn announce(context: &Context, machine: &Machine) -> Result<()> {
    let (guest, facts) = running(machine)?;
    let servers = settled_servers(context, machine, &guest, &facts)?;
    if context.json {
        return print_json(&Report::gather(context, machine)?);
    }
    let service = &guest.manifest.service;
    let target = machine.name.as_str();
    print(&format!(
        "{target} is running.\n\
         \x20 MCP     {mcp}   (SSE: {sse})\n\
         {servers}\
         \x20 client  agent-vm mcp-config {target} --client CLIENT   (MCP over stdio: agent-vm mcp {target})\n\
         \x20 shell   agent-vm shell {target}\n\
         \x20 logs    agent-vm logs {target}\n\
         \x20 stop    agent-vm stop {target}\n",
        mcp = facts.url(&service.mcp_path),
        sse = facts.url(&service.sse_path),
        servers = servers.map_or_else(String::new, |servers| format!("  servers {}\n", servers.line())),
    ))
}

/// Waits until no MCP server is still starting, or for [`SETTLING`]. Returns the servers' states, and prints their
/// problems. None if the guest does not report states.
///
/// # Errors
/// The command was interrupted.
fn settled_servers(context: &Context, machine: &Machine, guest: &Guest, facts: &RunFacts) -> Result<Option<Servers>> {
    let ssh = Ssh::to(machine, &guest.manifest, facts, context.verbosity);
    let deadline = context.deadline().at_most(SETTLING);
    let mut last = None;
    let begin = context.timeline.now();
    let (settled, took) = timed("servers", None, || {
        deadline.poll("the MCP servers", Duration::from_millis(500), || {
            last = Servers::ask(&ssh, &guest.manifest, ANSWER)?;
            Ok(last.as_ref().is_none_or(Servers::settled).then_some(()))
        })
    });
    context.timeline.record("servers", begin, took);
    if let Err(error) = settled {
        if error.is::<Interrupted>() {
            return Err(error);
        }
        tracing::info!("failed to query the servers' states: {error:#}");
    }
    for trouble in last.iter().flat_map(|servers| servers.troubles(machine.name.as_str())) {
        note(&format!("notice: {trouble}"));
    }
    Ok(last)
}
