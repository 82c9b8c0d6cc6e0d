//! The command line: global flags, verbs, and running them.

pub mod commands;
mod completion;
mod json_output;
mod line;
mod man;
mod refusal;
pub mod resolve_settings;
pub mod target;
pub mod whole_numbers;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::commands::{
    apply, checkout, cp, create, destroy, diff, edit, egress, exec, fetch, kept, list, log, logs, mcp, mcp_config,
    merge, open, port, prune, push, relink, restart, set, shell, ssh_config, start, status, stop, up, update,
};
use crate::confine::landlock::Landlocked;
use crate::confine::seccomp::WithoutDevices;
use crate::confine::stage::Staged;
use crate::host::log_file::KeepLog;
use crate::host::{interrupt, process};
use crate::machine::context::{self, Context};
use crate::machine::state_dir::StateDir;
use crate::machine::sweep;
use crate::remote::ssh::forwards;
use crate::term::error::{exit_code, report};
use crate::term::verbosity::Verbosity;
use crate::term::{logging, terminal};

/// Widest line of a help text, in columns.
const WIDEST_HELP: usize = 100;

/// Give every git branch its own virtual machine for coding agents and their MCP servers.
///
/// Without a command: create the current branch's machine if it does not exist, start it if it is stopped, or show its
/// status if it is running.
#[derive(Debug, Parser)]
#[command(name = "agent-vm", version, infer_subcommands = false, args_override_self = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Global flags.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Directory of all machines [default: agent-vms in the user's data directory]
    #[arg(long, global = true, value_name = "DIR", env = "AGENT_VM_STATE_DIR", hide_env_values = true)]
    state_dir: Option<PathBuf>,
    /// Verbose output, including the programs it runs
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Debug output
    #[arg(short, long, global = true)]
    debug: bool,
    #[arg(help = time_limit(), long, global = true, value_name = "SECONDS", value_parser = whole_numbers::seconds)]
    timeout: Option<Duration>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// Extra argument for every Nix call, such as --nix-arg=--override-input; can be repeated. `create` stores these
    /// in the machine's settings; with other commands they replace the stored ones
    #[arg(long = "nix-arg", global = true, value_name = "ARG", allow_hyphen_values = true)]
    nix_args: Vec<String>,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
}

fn time_limit() -> String {
    let [start, emulated, answer] =
        [context::START, context::EMULATED_START, context::ANSWER].map(|limit| limit.as_secs());
    format!(
        "Time limit in seconds, not including the build of a guest [default: {start} for a start, {emulated} if the machine is \
         emulated; {answer} for an answer of a running machine]"
    )
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Verb(Verb),
    /// Print a completion script for a shell
    Completions(completion::CompletionsArgs),
    /// Write the manual pages
    Man(man::ManArgs),
    /// Complete a command line; used by the completion scripts
    #[command(hide = true)]
    Complete(completion::CompleteArgs),
    /// Restrict file access with Landlock, then run a program; used by `start`
    #[command(hide = true)]
    Landlocked(Landlocked),
    /// Forbid the creation of device files, then run a program; used by `start`
    #[command(hide = true)]
    WithoutDevices(WithoutDevices),
    /// Write standard input to a log file of limited size; used by `start`
    #[command(hide = true)]
    KeepLog(KeepLog),
    /// Mount files at other paths, then run a program; used by `start`
    #[command(hide = true)]
    Staged(Staged),
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a machine for a branch without starting it
    Create(create::CreateArgs),
    /// Change a machine's settings
    Set(set::SetArgs),
    /// Apply a machine's fetched commits to the source repository, or the settings of a file to the machine
    Apply(apply::ApplyArgs),
    /// Start a machine and wait until MCP answers
    Start(start::StartArgs),
    /// Power a machine off
    Stop(stop::StopArgs),
    /// Stop a machine if it is running, then start it
    Restart(restart::RestartArgs),
    /// Update a machine's guest to the newest nixpkgs; the next start builds it
    Update(update::UpdateArgs),
    /// Remove a machine; commits that only it has are kept in a bundle
    Destroy(destroy::DestroyArgs),
    /// Remove machines whose repository or declaration is missing; commits are kept
    Prune(prune::PruneArgs),
    /// List, restore and remove what destroyed machines left: bundles and workspaces
    Kept(kept::KeptArgs),
    /// Fetch a machine's commits and changes into its source repository
    Fetch(fetch::FetchArgs),
    /// Show the fetched commits that the source repository's own branches lack
    Log(log::LogArgs),
    /// Show the fetched changes of a machine, committed or not
    Diff(diff::DiffArgs),
    /// Merge a machine's fetched commits into the checked-out branch
    Merge(merge::MergeArgs),
    /// Check out a branch that tracks a machine's fetched branch
    Checkout(checkout::CheckoutArgs),
    /// Bring the source repository's newer commits into a machine's origin
    #[command(visible_alias = "sync")]
    Push(push::PushArgs),
    /// Set a machine's source repository after a move
    Relink(relink::RelinkArgs),
    /// Show a machine's status
    Status(status::StatusArgs),
    /// Open a shell in a machine
    Shell(shell::ShellArgs),
    /// Run one command in a machine's workspace
    Exec(exec::ExecArgs),
    /// Forward ports of this host to a machine, at once and at every start, or list them
    Port(port::PortArgs),
    /// Copy a file or directory between this host and a machine
    Cp(cp::CpArgs),
    /// Forward a port of a machine, print its URL, and open it in a browser
    Open(open::OpenArgs),
    /// Open a machine's workspace in an editor of this host, over ssh
    Edit(edit::EditArgs),
    /// Print or install the configuration with which ssh, scp, rsync and editors reach machines
    SshConfig(ssh_config::SshConfigArgs),
    /// Connect standard input and output to a machine's sshd; ssh uses this
    #[command(hide = true)]
    SshProxy(ssh_config::SshProxyArgs),
    /// Keep a running machine's ports forwarded; used by `start` and `port`
    #[command(hide = true)]
    KeepForwards(commands::Target),
    /// Show and change a machine's egress: the hosts it may reach
    Egress(egress::EgressArgs),
    /// Show the log of a machine's agent service, or its console
    Logs(logs::LogsArgs),
    /// List the machines
    List(list::ListArgs),
    /// Bridge a machine's MCP server to stdio (for MCP clients)
    Mcp(mcp::McpArgs),
    /// Print or install MCP client configuration
    McpConfig(mcp_config::McpConfigArgs),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let command = Cli::command().term_width(terminal::help_width().min(WIDEST_HELP));
    let parsed = command.try_get_matches().and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return refusal::refuse(&error),
    };
    match cli.global.color {
        ColorChoice::Always => anstream::ColorChoice::Always.write_global(),
        ColorChoice::Never => anstream::ColorChoice::Never.write_global(),
        ColorChoice::Auto => {}
    }
    logging::start(Verbosity::of_flags(cli.global.verbose, cli.global.debug));
    let sockets = match &cli.command {
        Some(Command::Landlocked(wall)) => wall.sockets(),
        Some(Command::Staged(stage)) => stage.sockets(),
        _ => 0,
    };
    let outcome =
        process::restrict_inheritance(sockets).and_then(|()| Ok(json_output::check(&matches)?)).and_then(|()| run(cli));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            exit_code(&error).into()
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let verb = match cli.command {
        Some(Command::Verb(verb)) => Some(verb),
        Some(Command::Landlocked(wall)) => match wall.exec()? {},
        Some(Command::Staged(stage)) => match stage.exec()? {},
        Some(Command::WithoutDevices(program)) => match program.exec()? {},
        Some(Command::KeepLog(log)) => return log.keep().map(|()| ExitCode::SUCCESS),
        // These need no state directory.
        Some(Command::Completions(args)) => return completion::completions(&args).map(|()| ExitCode::SUCCESS),
        Some(Command::Man(args)) => return man::man(&args).map(|()| ExitCode::SUCCESS),
        Some(Command::Complete(args)) => {
            let state_dir = cli.global.state_dir.as_deref();
            return completion::print_candidates(state_dir, &args).map(|()| ExitCode::SUCCESS);
        }
        None => None,
    };
    let Global { state_dir, verbose, debug, timeout, json, nix_args, .. } = cli.global;
    let state = StateDir::locate(state_dir.as_deref())?;
    let nix_args = (!nix_args.is_empty()).then_some(nix_args);
    let context = Context { state, timeout, json, verbosity: Verbosity::of_flags(verbose, debug), nix_args };
    if debug {
        process::set_debug();
    }
    // These leave nothing to clean up, so signals may end them at once.
    if !matches!(verb, Some(Verb::Logs(_) | Verb::Mcp(_) | Verb::SshProxy(_))) {
        interrupt::install()?;
    }
    let done = |()| ExitCode::SUCCESS;
    // Commands that run for long or often do not clean up after other machines.
    let sweeps = !matches!(
        verb,
        Some(Verb::Shell(_) | Verb::Exec(_) | Verb::Logs(_) | Verb::Mcp(_) | Verb::KeepForwards(_) | Verb::SshProxy(_))
    );
    let sweeper = sweeps.then(|| sweep::begin(&context.state));
    let ended = match &verb {
        None => up::up(&context).map(done),
        Some(Verb::Create(args)) => create::create(&context, args).map(done),
        Some(Verb::Set(args)) => set::set(&context, args).map(done),
        Some(Verb::Apply(args)) => apply::apply(&context, args).map(done),
        Some(Verb::Prune(args)) => prune::prune(&context, args).map(done),
        Some(Verb::Start(args)) => start::start(&context, args).map(done),
        Some(Verb::Stop(args)) => stop::stop(&context, args).map(done),
        Some(Verb::Restart(args)) => restart::restart(&context, args).map(done),
        Some(Verb::Update(args)) => update::update(&context, args).map(done),
        Some(Verb::Destroy(args)) => destroy::destroy(&context, args).map(done),
        Some(Verb::Kept(args)) => kept::kept(&context, args).map(done),
        Some(Verb::Fetch(args)) => fetch::fetch(&context, args).map(done),
        Some(Verb::Log(args)) => log::log(&context, args).map(done),
        Some(Verb::Diff(args)) => diff::diff(&context, args).map(done),
        Some(Verb::Merge(args)) => merge::merge(&context, args).map(done),
        Some(Verb::Checkout(args)) => checkout::checkout(&context, args).map(done),
        Some(Verb::Push(args)) => push::push(&context, args).map(done),
        Some(Verb::Relink(args)) => relink::relink(&context, args).map(done),
        Some(Verb::Status(args)) => status::status(&context, args).map(done),
        Some(Verb::Shell(args)) => shell::shell(&context, args).map(commands::exit_with),
        Some(Verb::Exec(args)) => exec::exec(&context, args).map(commands::exit_with),
        Some(Verb::Port(args)) => port::port(&context, args).map(done),
        Some(Verb::KeepForwards(of)) => {
            let machine = target::find_used(&context.state, of.as_deref());
            machine.and_then(|machine| forwards::keep(&context, &machine)).map(done)
        }
        Some(Verb::Cp(args)) => cp::cp(&context, args).map(done),
        Some(Verb::Open(args)) => open::open(&context, args).map(done),
        Some(Verb::Edit(args)) => edit::edit(&context, args).map(commands::exit_with),
        Some(Verb::SshConfig(args)) => ssh_config::ssh_config(&context, args).map(done),
        Some(Verb::SshProxy(args)) => ssh_config::ssh_proxy(&context, args).map(done),
        Some(Verb::Egress(args)) => egress::egress(&context, args).map(done),
        Some(Verb::Logs(args)) => logs::logs(&context, args).map(commands::exit_with),
        Some(Verb::List(args)) => list::list(&context, args).map(done),
        Some(Verb::Mcp(args)) => mcp::mcp(&context, args).map(done),
        Some(Verb::McpConfig(args)) => mcp_config::mcp_config(&context, args).map(done),
    };
    if matches!(verb, None | Some(Verb::Create(_) | Verb::Destroy(_) | Verb::Prune(_))) {
        ssh_config::refresh(&context);
    }
    if let Some(sweeper) = sweeper {
        sweeper.finish();
    }
    ended
}

#[cfg(test)]
mod pages;

#[cfg(test)]
mod repeated_flags;

#[cfg(test)]
mod quoted_commands;

#[cfg(test)]
mod troubleshooting;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_text_matches_its_snapshot() {
        let mut root = Cli::command().term_width(100);
        root.build();
        let mut text = root.render_long_help().to_string();
        for verb in root.get_subcommands_mut() {
            if verb.get_name() != "help" {
                text += &format!("\n==== {}\n{}", verb.get_name(), verb.clone().term_width(100).render_long_help());
            }
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn global_flags_are_parsed_before_and_after_the_command() {
        for line in [
            ["agent-vm", "--json", "-v", "--timeout", "5", "list"],
            ["agent-vm", "list", "--json", "-v", "--timeout", "5"],
        ] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert!(cli.global.json && cli.global.verbose && cli.global.timeout == Some(Duration::from_secs(5)));
        }
        for wrong in ["0", "-1", "x", "1.5"] {
            assert!(Cli::try_parse_from(["agent-vm", &format!("--timeout={wrong}"), "list"]).is_err());
        }
    }
}
