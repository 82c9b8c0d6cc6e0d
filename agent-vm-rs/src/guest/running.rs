//! The guest of a machine that runs.

use anyhow::Result;

use super::Guest;
use crate::machine::Machine;
use crate::machine::run_state::RunFacts;
use crate::term::error::Failure;

/// The guest and the facts of a machine that runs.
///
/// # Errors
/// It does not run.
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
