//! Finds the guest of a running machine.

use anyhow::Result;

use super::Guest;
use crate::machine::Machine;
use crate::machine::run_state::RunFacts;
use crate::term::error::Failure;

/// Returns the guest and the run facts of a running machine.
///
/// # Errors
/// The machine is not running.
pub fn running(machine: &Machine) -> Result<(Guest, RunFacts)> {
    let run = machine.run();
    match (run.qemu(), run.facts()) {
        (Some(_), Some(facts)) => Ok((Guest::of(machine)?, facts)),
        _ => {
            let name = &machine.name;
            Err(Failure::new(format!("{name} is not running")).with_hint(format!("agent-vm start {name}")).into())
        }
    }
}
