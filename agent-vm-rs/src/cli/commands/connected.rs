//! Connects a command to a running machine.

use anyhow::Result;

use crate::cli::target;
use crate::guest::running::running;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::remote::ssh::Ssh;

/// Calls `each` with the machine that the user means and a connection to it.
///
/// # Errors
/// The machine is not running or does not answer, or `each` fails.
pub fn with_ssh<T>(
    context: &Context,
    named: Option<&str>,
    each: impl FnOnce(&Machine, &Ssh<'_>) -> Result<T>,
) -> Result<T> {
    let machine = target::find_used(&context.state, named)?;
    let (guest, facts) = running(&machine)?;
    let ssh = Ssh::to(&machine, &guest.manifest, &facts, context.verbosity);
    ssh.require_connection(context.answer_limit())?;
    each(&machine, &ssh)
}
