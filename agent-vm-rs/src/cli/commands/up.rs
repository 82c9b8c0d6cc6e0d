//! `agent-vm` without a verb.

use anyhow::Result;

use super::{create, start, status, watched};
use crate::cli::target;
use crate::machine::context::Context;

/// Creates the current branch's machine if it does not exist, starts it if it is stopped, or shows its status if it is
/// running.
///
/// # Errors
/// As the verbs that it runs.
pub fn up(context: &Context) -> Result<()> {
    let machine = match target::current_machine(&context.state)? {
        Some(machine) => machine,
        None => create::make(context, &create::CreateArgs::default())?.0,
    };
    let lock = machine.lock(context.deadline())?;
    if machine.run().qemu().is_none() {
        watched::launch(context, &machine, None)?;
        drop(lock);
        return start::announce(context, &machine);
    }
    drop(lock);
    status::show(context, &machine)?;
    // The JSON output is the status alone.
    if context.json { Ok(()) } else { start::announce(context, &machine) }
}
