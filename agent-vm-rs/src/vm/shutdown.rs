//! Ending a machine: by its power button, by QEMU's control socket, by SIGTERM, then by SIGKILL, each with its deadline.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use crate::guest::Guest;
use crate::guest::manifest::PowerOff;
use crate::host::interrupt::{self, Deadline};
use crate::host::process::ProcessId;
use crate::machine::Machine;
use crate::machine::run_state::{self, end_processes_of};
use crate::term::error::Failure;
use crate::vm::qmp;

/// How long a guest may take to power off; it normally takes one second. What a wedged one is given, a user waits for.
const POWER_OFF: Duration = Duration::from_secs(7);
/// How long QEMU may take to end when told to, by its control socket or by SIGTERM.
const TERMINATE: Duration = Duration::from_millis(1_500);
/// How long the kernel may take to end it.
const KILL: Duration = Duration::from_secs(5);

/// What it took to end a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: it did not run.
    NotRunning,
    /// The power button.
    PoweredOff,
    /// QEMU was told to quit, by its control socket or by SIGTERM.
    Terminated,
    /// SIGKILL to QEMU.
    Killed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRunning => "was not running",
            Self::PoweredOff => "powered off",
            Self::Terminated => "did not power off; QEMU was told to quit",
            Self::Killed => "QEMU did not react; stopped with SIGKILL",
        })
    }
}

/// Ends a machine and cleans up after it, within ten seconds whatever its guest and its QEMU do. The caller holds its lock.
///
/// `limit` is the longest time for the guest to power off, if the user gave one.
///
/// # Errors
/// It does not end, or its run directory cannot be removed.
pub fn stop(machine: &Machine, limit: Option<Duration>) -> Result<Outcome> {
    let outcome = end_qemu(machine, limit.map_or(POWER_OFF, |limit| limit.min(POWER_OFF)))?;
    clean_up(machine)?;
    Ok(outcome)
}

fn end_qemu(machine: &Machine, limit: Duration) -> Result<Outcome> {
    let run = machine.run();
    let Some(qemu) = run.qemu() else { return Ok(Outcome::NotRunning) };
    let deadline = Deadline::after(limit);
    // A suspended one handles no signal but SIGKILL, and answers nobody.
    if !qemu.is_suspended() {
        let button = Guest::of(machine).map_or(PowerOff::Acpi, |guest| guest.manifest.power_off);
        match qmp::power_off(&run, button) {
            Ok(()) if gone(&qemu, deadline)? => return Ok(Outcome::PoweredOff),
            Ok(()) => {
                if let Err(error) = qmp::quit(&run) {
                    tracing::warn!("QEMU does not quit: {error:#}");
                } else if gone(&qemu, Deadline::after(TERMINATE))? {
                    return Ok(Outcome::Terminated);
                }
            }
            Err(error) => tracing::warn!("the power button cannot be pressed: {error:#}"),
        }
        qemu.signal(Signal::TERM);
        if gone(&qemu, Deadline::after(TERMINATE))? {
            return Ok(Outcome::Terminated);
        }
    }
    qemu.signal(Signal::KILL);
    if qemu.wait_gone(KILL) {
        return Ok(Outcome::Killed);
    }
    Err(Failure::new(format!("QEMU (pid {}) of {} does not end", qemu.pid, machine.name))
        .with_hint("it waits for the kernel, most likely for a disk; look at dmesg")
        .into())
}

/// Waits for a process to be gone; false if it is not by then.
fn gone(process: &ProcessId, deadline: Deadline) -> Result<bool> {
    while process.alive() {
        interrupt::check()?;
        if deadline.passed() {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(true)
}

/// Ends everything that belongs to the machine, at once, and keeps its logs.
///
/// # Errors
/// A process does not end, or the run directory cannot be removed.
pub fn clean_up(machine: &Machine) -> Result<()> {
    end_processes_of(&machine.dir)?;
    run_state::clear(&machine.dir)
}
