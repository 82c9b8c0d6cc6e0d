//! `agent-vm shell`

use anyhow::Result;
use clap::Args;

use super::Target;
use crate::cli::target;
use crate::guest::running::running;
use crate::machine::context::Context;
use crate::remote::ssh::Ssh;
use crate::term::error::Failure;

/// Flags of `shell`.
#[derive(Args, Clone, Debug)]
pub struct ShellArgs {
    #[command(flatten)]
    target: Target,
    /// Open the shell as root of the machine
    #[arg(long)]
    root: bool,
    /// A command, which only `exec` takes
    #[arg(last = true, hide = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Opens a shell in a machine and returns its exit code.
///
/// # Errors
/// The machine is not running, or does not answer, or the user gave a command.
pub fn shell(context: &Context, args: &ShellArgs) -> Result<i32> {
    if !args.command.is_empty() {
        let words = args.target.as_deref().into_iter().chain(["--"]).chain(args.command.iter().map(String::as_str));
        let words = shlex::try_join(words).unwrap_or_default();
        return Err(Failure::usage("shell takes no command").with_hint(format!("agent-vm exec {words}")).into());
    }
    let machine = target::find(&context.state, args.target.as_deref())?;
    let (guest, facts) = running(&machine)?;
    let ssh = Ssh::to(&machine, &guest.manifest, &facts, context.verbosity);
    let limit = context.answer_limit();
    ssh.require_connection(limit)?;
    let ssh = if args.root { ssh.as_root(&guest.manifest)? } else { ssh };
    ssh.shell(limit)
}
