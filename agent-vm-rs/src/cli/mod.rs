//! The command line: global flags, and running a command with them.

pub mod commands;
mod completion;
mod json_output;
mod line;
mod man;
mod on_host;
mod refusal;
mod remote;
pub mod resolve_settings;
pub mod target;
mod verb;
pub mod whole_numbers;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::commands::{ssh_config, up};
use self::verb::Verb;
use crate::confine::forward::Forward;
use crate::confine::landlock::Landlocked;
use crate::confine::seccomp::WithoutDevices;
use crate::confine::stage::Staged;
use crate::host::log_file::KeepLog;
use crate::host::timeline::Timeline;
use crate::host::{interrupt, process};
use crate::machine::context::{self, Context};
use crate::machine::state_dir::StateDir;
use crate::machine::sweep;
use crate::remote::other_host::HostUrl;
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
    /// Drive the machines of another host over ssh: ssh://[USER@]HOST[:PORT]
    #[arg(long, global = true, value_name = "URL", env = "AGENT_VM_REMOTE", hide_env_values = true)]
    remote: Option<HostUrl>,
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

impl Global {
    fn context(&self) -> Result<Context> {
        let nix_args = (!self.nix_args.is_empty()).then(|| self.nix_args.clone());
        let verbosity = Verbosity::of_flags(self.verbose, self.debug);
        let state = StateDir::locate(self.state_dir.as_deref())?;
        let timeline = Timeline::default();
        Ok(Context { state, timeout: self.timeout, json: self.json, verbosity, nix_args, timeline })
    }
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
    /// Do what agent-vm of another host asks; `--remote` uses this
    #[command(hide = true)]
    OnHost(on_host::OnHostArgs),
    /// Restrict file access with Landlock, then run a program; used by `start`
    #[command(hide = true)]
    Landlocked(Landlocked),
    /// Forbid the creation of device files, then run a program; used by `start`
    #[command(hide = true)]
    WithoutDevices(WithoutDevices),
    /// Write standard input to a log file of limited size; used by `start`
    #[command(hide = true)]
    KeepLog(KeepLog),
    /// Forward a port with a limited rate; used by `start`
    #[command(hide = true)]
    Forward(Forward),
    /// Mount files at other paths, then run a program; used by `start`
    #[command(hide = true)]
    Staged(Staged),
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
    let outcome = process::restrict_inheritance(sockets).and_then(|()| run(cli, &matches));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            exit_code(&error).into()
        }
    }
}

fn run(cli: Cli, matches: &clap::ArgMatches) -> Result<ExitCode> {
    json_output::check(matches)?;
    let verb = match cli.command {
        Some(Command::Verb(verb)) => Some(verb),
        Some(Command::Landlocked(wall)) => match wall.exec()? {},
        Some(Command::Staged(stage)) => match stage.exec()? {},
        Some(Command::Forward(forward)) => match forward.run()? {},
        Some(Command::WithoutDevices(program)) => match program.exec()? {},
        Some(Command::OnHost(asked)) => return on_host::on_host(&asked),
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
    let context = cli.global.context()?;
    if cli.global.debug {
        process::set_debug();
    }
    if let Some(host) = &cli.global.remote {
        return remote::drive(host, &context, verb.as_ref(), matches);
    }
    // The others leave nothing to clean up, so signals may end them at once.
    if verb.as_ref().is_none_or(Verb::cleans_up) {
        interrupt::install()?;
    }
    let sweeper = verb.as_ref().is_none_or(Verb::sweeps).then(|| sweep::begin(&context.state));
    let ended = match &verb {
        None => up::up(&context).map(|()| ExitCode::SUCCESS),
        Some(verb) => verb.run(&context),
    };
    if verb.as_ref().is_none_or(Verb::changes_the_list) {
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
