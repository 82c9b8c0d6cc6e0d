//! `agent-vm restart`

use anyhow::Result;
use clap::Args;

use super::{Target, start, watched};
use crate::cli::target;
use crate::machine::context::Context;
use crate::term::progress::note;
use crate::vm::{launch, shutdown};

/// Flags of `restart`.
#[derive(Args, Clone, Debug)]
pub struct RestartArgs {
    #[command(flatten)]
    target: Target,
}

/// Stops a machine if it is running, then starts it.
///
/// # Errors
/// As `stop` and `start`.
pub fn restart(context: &Context, args: &RestartArgs) -> Result<()> {
    let machine = target::find(&context.state, args.target.as_deref())?;
    // One lock for both, so that no other command starts it in between.
    let lock = machine.lock(context.deadline())?;
    // A run keeps the guest package that it was started with.
    let package = machine.run().facts().and_then(|facts| facts.guest_package);
    if package.is_none() {
        // What cannot be built must not stop the machine.
        launch::build(context, &machine)?;
    }
    let outcome = shutdown::stop(&machine, context.timeout)?;
    note(&format!("{}: {outcome}", machine.name));
    watched::launch(context, &machine, package.as_deref())?;
    // Waiting for the MCP servers needs no lock.
    drop(lock);
    start::announce(context, &machine)
}
