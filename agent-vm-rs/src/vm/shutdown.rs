//! Stops a machine: with a power-off request to the guest, a quit command to QEMU, SIGTERM and SIGKILL, each with a deadline.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;
use serde::Serialize;

use crate::guest::Guest;
use crate::guest::manifest::PowerOff;
use crate::host::interrupt::{self, Deadline};
use crate::host::process::ProcessId;
use crate::limits::Means;
use crate::machine::Machine;
use crate::machine::events::What;
use crate::machine::run_state::{self, end_processes_of};
use crate::term::error::Failure;
use crate::vm::workspace_guard::{self, Step};
use crate::vm::{failure, qmp};

/// Time for a guest to power off; it normally needs one second. The user waits this long for a guest that hangs.
const POWER_OFF: Duration = Duration::from_secs(7);
/// Time for QEMU to exit after a quit command or SIGTERM.
const TERMINATE: Duration = Duration::from_millis(1_500);
/// Time for the kernel to end QEMU after SIGKILL.
const KILL: Duration = Duration::from_secs(5);

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was not running.
    NotRunning,
    /// The guest powered off.
    PoweredOff,
    /// A quit command or SIGTERM ended QEMU.
    Terminated,
    /// SIGKILL ended QEMU.
    Killed,
}

impl Outcome {
    /// Returns its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotRunning => "not-running",
            Self::PoweredOff => "powered-off",
            Self::Terminated => "terminated",
            Self::Killed => "killed",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRunning => "was not running",
            Self::PoweredOff => "powered off",
            Self::Terminated => "did not power off; stopped by ending QEMU",
            Self::Killed => "QEMU did not respond; stopped with SIGKILL",
        })
    }
}

/// Stops a machine and cleans up after it, within ten seconds even if the guest or QEMU hangs. The caller holds its
/// lock.
///
/// `limit` is the time for the guest to power off, if the user gave one.
///
/// # Errors
/// QEMU does not end, or the run directory cannot be removed.
pub fn stop(machine: &Machine, limit: Option<Duration>) -> Result<Outcome> {
    stop_as(machine, limit, |outcome| What::Stopped { outcome })
}

/// Stops a machine as [`stop`] does, and records another event; `event` gets the name of the outcome.
///
/// # Errors
/// See [`stop`].
pub fn stop_as(machine: &Machine, limit: Option<Duration>, event: impl Fn(String) -> What) -> Result<Outcome> {
    let outcome = end_qemu(machine, limit.map_or(POWER_OFF, |limit| limit.min(POWER_OFF)))?;
    if outcome == Outcome::NotRunning {
        failure::keep(machine);
    } else {
        failure::record_stop(machine, event(outcome.name().to_owned()));
    }
    end_all(machine)?;
    Ok(outcome)
}

fn end_qemu(machine: &Machine, limit: Duration) -> Result<Outcome> {
    let run = machine.run();
    let Some(qemu) = run.qemu() else { return Ok(Outcome::NotRunning) };
    let deadline = Deadline::after(limit);
    // A suspended QEMU handles no signal but SIGKILL, and its socket does not answer.
    if !qemu.is_suspended() {
        let unpaused = match workspace_guard::read(&run).step {
            Step::Paused => qmp::go_on(&run),
            _ => qmp::go_on_after_full_disk(&run).map(drop),
        };
        if let Err(error) = unpaused {
            tracing::info!("{error:#}");
        }
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
            Err(error) => tracing::warn!("failed to send the power-off request: {error:#}"),
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
    Err(Failure::new(format!("cannot stop {}: QEMU (pid {}) does not end", machine.name, qemu.pid))
        .with_hint("it is probably blocked on disk I/O; see: dmesg")
        .into())
}

/// Waits for a process to end; returns whether it ended before the deadline.
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

/// Kills all of a machine's processes, and keeps its logs and, after a failed run, the reason.
///
/// # Errors
/// A process does not end, or the run directory cannot be removed.
pub fn clean_up(machine: &Machine) -> Result<()> {
    failure::keep(machine);
    end_all(machine)
}

fn end_all(machine: &Machine) -> Result<()> {
    end_processes_of(&machine.dir)?;
    Means::of_run(&machine.dir).remove();
    run_state::clear(&machine.dir)
}
