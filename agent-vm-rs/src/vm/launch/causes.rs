//! Tells what went wrong by its cause, and not by what follows from it.

use anyhow::Result;

use crate::machine::Machine;
use crate::machine::helpers;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunFacts;
use crate::vm::console;

/// Checks that nothing ends a machine's start. `end` fails if QEMU has ended; `again` is the command that starts the machine again.
///
/// # Errors
/// The kernel panicked, QEMU has ended, or another process of the machine has.
pub fn check(machine: &Machine, facts: &RunFacts, again: &str, end: &dyn Fn() -> Result<()>) -> Result<()> {
    let console = machine.run().file(MachinePath::RunConsole);
    let panic = || console::check(&console, again, machine.name.as_str());
    by_cause(&[&panic, end, &|| helpers::check(machine, facts)])
}

/// Returns the error of the first look that fails. What each of them is about ends what those after it are about: a panic of the
/// kernel ends QEMU, and QEMU ends its helpers. So it looks after them: what happens between two looks would else be told as one
/// of its consequences.
///
/// # Errors
/// Those of the looks.
fn by_cause(looks: &[&dyn Fn() -> Result<()>]) -> Result<()> {
    let mut told = Ok(());
    for look in looks.iter().rev() {
        told = look().and(told);
    }
    told
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use anyhow::ensure;

    use super::*;

    #[test]
    fn no_consequence_is_told_whenever_the_cause_comes() {
        let causes = ["panic", "QEMU", "helper"];
        for first in 0..causes.len() {
            for comes in 0..=causes.len() {
                let now = Cell::new(0);
                let look = |which: usize| {
                    let has_come = now.replace(now.get() + 1) >= comes;
                    ensure!(!has_come || which < first, "{}", causes[which]);
                    Ok(())
                };
                let told = by_cause(&[&|| look(0), &|| look(1), &|| look(2)]).map_err(|error| error.to_string());
                assert!(told.as_ref().err().is_none_or(|told| told == causes[first]), "{first} at {comes}: {told:?}");
                assert_eq!(told.is_ok(), comes > causes.len() - 1 - first, "{first} at {comes}");
            }
        }
    }
}
