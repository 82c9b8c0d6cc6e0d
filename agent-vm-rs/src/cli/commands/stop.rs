//! `agent-vm stop`

use anyhow::Result;
use clap::Args;

use super::Target;
use crate::cli::target;
use crate::machine::context::Context;
use crate::term::output::print_json;
use crate::term::progress::note;
use crate::vm::shutdown;

/// Flags of `stop`.
#[derive(Args, Clone, Debug)]
pub struct StopArgs {
    #[command(flatten)]
    target: Target,
}

/// Powers a machine off and prints how it ended.
///
/// # Errors
/// Even SIGKILL does not end it.
pub fn stop(context: &Context, args: &StopArgs) -> Result<()> {
    let machine = target::find_used(&context.state, args.target.as_deref())?;
    let _lock = machine.lock(context.deadline())?;
    let outcome = shutdown::stop(&machine, context.timeout)?;
    if context.json {
        return print_json(&serde_json::json!({ "name": machine.name, "outcome": outcome }));
    }
    note(&format!("{}: {outcome}", machine.name));
    Ok(())
}
