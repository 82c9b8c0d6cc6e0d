//! `agent-vm exec`

use anyhow::Result;
use clap::Args;

use super::Target;
use crate::cli::target;
use crate::guest::running::running;
use crate::machine::context::Context;
use crate::remote::ssh::Ssh;

/// Flags of `exec`.
#[derive(Args, Clone, Debug)]
pub struct ExecArgs {
    #[command(flatten)]
    target: Target,
    /// The command and its arguments, run in the workspace without a shell
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
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
    ssh.exec(&args.command, limit)
}
