//! `agent-vm shell`

use anyhow::Result;
use clap::Args;

use super::Target;
use crate::cli::target;
use crate::guest::running::running;
use crate::machine::context::Context;
use crate::remote::ssh::Ssh;

/// Flags of `shell`.
#[derive(Args, Clone, Debug)]
pub struct ShellArgs {
    #[command(flatten)]
    target: Target,
}

/// Opens a shell in a machine and returns its exit code.
///
/// # Errors
/// The machine is not running, or does not answer.
pub fn shell(context: &Context, args: &ShellArgs) -> Result<i32> {
    let machine = target::find(&context.state, args.target.as_deref())?;
    let (guest, facts) = running(&machine)?;
    let ssh = Ssh::to(&machine, &guest.manifest, &facts, context.verbosity);
    let limit = context.answer_limit();
    ssh.require_connection(limit)?;
    ssh.shell(limit)
}
