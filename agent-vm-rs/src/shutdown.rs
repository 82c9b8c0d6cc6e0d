//! Ending a machine: by its power button, then by SIGTERM, then by SIGKILL, each with its deadline.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use crate::error::Failure;
use crate::guest::Guest;
use crate::machine::Machine;
use crate::manifest::PowerOff;
use crate::run_state::{self, end_processes_of};
use crate::{interrupt, qmp};

/// How long a guest may take to power off; it normally takes one second.
const POWER_OFF: Duration = Duration::from_secs(20);
/// How long QEMU may take to end when told to.
const TERMINATE: Duration = Duration::from_secs(5);

/// What it took to end a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: it did not run.
    NotRunning,
    /// The power button.
    PoweredOff,
    /// SIGTERM to QEMU.
    Terminated,
    /// SIGKILL to QEMU.
    Killed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRunning => "was not running",
            Self::PoweredOff => "powered off",
            Self::Terminated => "did not power off in time; stopped with SIGTERM",
            Self::Killed => "did not react to SIGTERM; stopped with SIGKILL",
        })
    }
}

/// Ends a machine and cleans up after it. The caller holds its lock.
///
/// # Errors
/// It does not end, or its run directory cannot be removed.
pub fn stop(machine: &Machine, timeout: Duration) -> Result<Outcome> {
    let outcome = end_qemu(machine, timeout)?;
    clean_up(machine)?;
    Ok(outcome)
}

fn end_qemu(machine: &Machine, timeout: Duration) -> Result<Outcome> {
    let run = machine.run();
    let Some(qemu) = run.qemu() else { return Ok(Outcome::NotRunning) };
    let button = Guest::of(machine).map_or(PowerOff::Acpi, |guest| guest.manifest.power_off);
    match qmp::power_off(&run, button) {
        Ok(()) => {
            let patience = POWER_OFF.min(timeout);
            let deadline = interrupt::Deadline::after(patience);
            while qemu.alive() && !deadline.passed() {
                interrupt::check()?;
                std::thread::sleep(Duration::from_millis(10));
            }
            if !qemu.alive() {
                return Ok(Outcome::PoweredOff);
            }
        }
        Err(error) => tracing::warn!("the power button cannot be pressed: {error:#}"),
    }
    for (signal, outcome) in [(Signal::TERM, Outcome::Terminated), (Signal::KILL, Outcome::Killed)] {
        qemu.signal(signal);
        if qemu.wait_gone(TERMINATE) {
            return Ok(outcome);
        }
    }
    Err(Failure::new(format!("QEMU (pid {}) of {} does not end", qemu.pid, machine.name))
        .hint("it waits for the kernel, most likely for a disk; look at dmesg")
        .into())
}

/// Ends everything that belongs to the machine, at once, and keeps its logs.
///
/// # Errors
/// A process does not end, or the run directory cannot be removed.
pub fn clean_up(machine: &Machine) -> Result<()> {
    end_processes_of(&machine.dir)?;
    run_state::clear(&machine.dir)
}
