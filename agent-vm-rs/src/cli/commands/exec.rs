//! `agent-vm exec`

use anyhow::Result;
use clap::Args;

use super::Target;
use crate::cli::target;
use crate::guest::running::running;
use crate::machine::context::Context;
use crate::machine::name::VmName;
use crate::remote::ssh::Ssh;
use crate::remote::ssh::terminal::Streams;
use crate::term::progress::note;

/// Exit code of a shell that does not find a program.
const NOT_FOUND: i32 = 127;

/// Flags of `exec`.
#[derive(Args, Clone, Debug)]
pub struct ExecArgs {
    #[command(flatten)]
    target: Target,
    /// Run the command on a terminal [default: if standard input and output are terminals]
    #[arg(short = 't', long = "tty", overrides_with = "no_tty")]
    tty: bool,
    /// Run the command without a terminal
    #[arg(short = 'T', long = "no-tty", overrides_with = "tty")]
    no_tty: bool,
    /// Run the command as root of the machine
    #[arg(long)]
    root: bool,
    /// The command and its arguments, run in the workspace; for pipes, variables and &&: sh -c '...'
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

impl ExecArgs {
    fn streams(&self) -> Streams {
        match (self.tty, self.no_tty) {
            (true, _) => Streams::Terminal,
            (_, true) => Streams::Pipes,
            _ => Streams::ours(),
        }
    }
}

/// Runs a command in a machine and returns its exit code.
///
/// # Errors
/// The machine is not running, or does not answer.
pub fn exec(context: &Context, args: &ExecArgs) -> Result<i32> {
    let machine = target::find(&context.state, args.target.as_deref())?;
    let (guest, facts) = running(&machine)?;
    let ssh = Ssh::to(&machine, &guest.manifest, &facts, context.verbosity);
    let limit = context.answer_limit();
    ssh.require_connection(limit)?;
    let ssh = if args.root { ssh.as_root(&guest.manifest)? } else { ssh };
    let code = ssh.exec(&args.command, args.streams(), limit)?;
    if let Some(line) = for_a_shell(args, &machine.name).filter(|_| code == NOT_FOUND) {
        note(&format!("exec takes a program and its arguments; for a shell's command line: {line}"));
    }
    Ok(code)
}

/// Returns the command that runs a line in a shell; None if the command is not such a line in one word.
fn for_a_shell(args: &ExecArgs, machine: &VmName) -> Option<String> {
    let [line] = args.command.as_slice() else { return None };
    let quoted = shlex::try_quote(line).ok().filter(|_| line.contains(char::is_whitespace))?;
    Some(format!("agent-vm exec {machine} -- sh -c {quoted}"))
}
