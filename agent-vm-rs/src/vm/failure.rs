//! Why a run of a machine failed. QEMU's exit status is known only to the command that started it, which may have ended; what
//! a run leaves in `run/` shows its failure to every command.

use std::fs;

use anyhow::Result;

use crate::host::files::{read_if_there, remove_any, write_unsynced};
use crate::machine::Machine;
use crate::machine::events::{self, What};
use crate::machine::paths::MachinePath;
use crate::vm::console;
use crate::vm::diagnosis::{Ending, Evidence};

/// Returns why the last run of a machine failed; None if it still runs, was stopped, powered off, or did not
/// start completely.
#[must_use]
pub fn of_last_run(machine: &Machine) -> Option<String> {
    left(machine).or_else(|| Some(read_if_there(&MachinePath::Failure.of(&machine.dir)).ok()??.trim().to_owned()))
}

/// Keeps the reason why a run failed, before `run/` is removed. A file that cannot be written is only logged: a full disk must
/// not prevent a machine from being removed.
pub fn keep(machine: &Machine) {
    record_end(machine);
    let Some(reason) = left(machine) else { return };
    let file = MachinePath::Failure.of(&machine.dir);
    if let Err(error) = forget(machine).and_then(|()| write_unsynced(&file, reason + "\n", 0o600)) {
        tracing::warn!("failed to record why the run failed: {error:#}");
    }
}

/// Records the end of a run that no command stopped as an event, once. The caller holds the machine's lock.
pub fn record_end(machine: &Machine) {
    let run = machine.run();
    let recorded = run.file(MachinePath::EndRecorded);
    if run.facts().is_none() || run.qemu().is_some() || recorded.exists() {
        return;
    }
    let end = left(machine).map_or(What::PoweredOff, |reason| What::Crashed { reason: events::short(&reason) });
    events::record(&machine.dir, end);
    if let Err(error) = write_unsynced(&recorded, "", 0o600) {
        tracing::warn!("{error:#}");
    }
}

/// Removes the reason why an earlier run failed.
///
/// # Errors
/// The file cannot be removed.
pub fn forget(machine: &Machine) -> Result<()> {
    remove_any(&MachinePath::Failure.of(&machine.dir))
}

/// Returns the failure that `run/` shows.
fn left(machine: &Machine) -> Option<String> {
    let run = machine.run();
    // A start that does not get that far reports its own failure.
    run.facts()?;
    if run.qemu().is_some() {
        return None;
    }
    // QEMU exits by itself after a panic.
    let killed = fs::symlink_metadata(run.file(MachinePath::QemuRuns)).is_ok();
    let panic = console::panic(&run.file(MachinePath::RunConsole)).map(|panic| panic.to_string());
    let cause = |ending| Evidence::of(machine, ending).cause().map(|cause| cause.text);
    if let Some(panic) = panic {
        return Some(cause(Ending::Exited).map_or_else(|| panic.clone(), |cause| format!("{panic}: {cause}")));
    }
    killed.then(|| {
        let what = "QEMU crashed or was killed".to_owned();
        cause(Ending::Killed(None)).map_or_else(|| what.clone(), |cause| format!("{what}: {cause}"))
    })
}
