//! Why a run of a machine failed. QEMU's exit status is known only to the command that started it, which may have ended; what
//! a run leaves in `run/` shows its failure to every command.

use std::fs;

use anyhow::Result;

use crate::host::files::{read_if_there, read_text, remove_any, write_unsynced};
use crate::host::process::ProcessId;
use crate::machine::Machine;
use crate::machine::events::{self, What};
use crate::machine::paths::MachinePath;
use crate::vm::console;
use crate::vm::diagnosis::{Ending, Evidence};

/// Contents of the file that says that the end of a run is recorded, if the machine was stopped.
const STOPPED: &str = "stopped";

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
    record(machine, end, "");
}

/// Records the event with which a command or a time limit has stopped a machine. If this process is killed before it has removed
/// the run, the next command does not take the end of QEMU for a crash.
pub fn record_stop(machine: &Machine, what: What) {
    record(machine, what, STOPPED);
}

fn record(machine: &Machine, what: What, how: &str) {
    events::record(&machine.dir, what);
    if let Err(error) = write_unsynced(&machine.run().file(MachinePath::EndRecorded), how, 0o600) {
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
    if read_text(&run.file(MachinePath::EndRecorded)).is_ok_and(|how| how == STOPPED) {
        return None;
    }
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
    if killed && ProcessId::is_of_earlier_boot(&run.file(MachinePath::QemuPid)) {
        return Some("this host restarted while the machine ran".to_owned());
    }
    killed.then(|| {
        let what = "QEMU crashed or was killed".to_owned();
        cause(Ending::Killed(None)).map_or_else(|| what.clone(), |cause| format!("{what}: {cause}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::run_state::RunFacts;
    use crate::machine::state_dir::StateDir;

    /// Returns a machine with a run whose QEMU was killed.
    fn killed(dir: &std::path::Path) -> Machine {
        let machine = Machine::new(&StateDir::locate(Some(dir)).unwrap(), "app-main".parse().unwrap());
        let run = machine.run();
        fs::create_dir_all(run.file(MachinePath::Qemu)).unwrap();
        let facts = serde_json::json!({
            "started": "1970-01-01T00:00:00Z", "host": "127.0.0.1", "port": 1, "ssh_port": 1,
            "accel": "tcg", "share": "9p",
        });
        run.write_facts(&serde_json::from_value::<RunFacts>(facts).unwrap()).unwrap();
        fs::write(run.file(MachinePath::QemuRuns), "1").unwrap();
        machine
    }

    fn events(machine: &Machine) -> Vec<What> {
        events::all(&machine.dir).into_iter().map(|event| event.what).collect()
    }

    #[test]
    fn a_restart_of_the_host_is_no_crash_of_qemu() {
        let dir = tempfile::tempdir().unwrap();
        let machine = killed(dir.path());
        assert!(of_last_run(&machine).unwrap().starts_with("QEMU crashed or was killed"), "control");
        fs::write(machine.run().file(MachinePath::QemuPid), "1 1 another-boot\n").unwrap();
        assert_eq!(of_last_run(&machine).unwrap(), "this host restarted while the machine ran");
    }

    #[test]
    fn a_stop_that_was_cut_short_is_no_crash() {
        let dir = tempfile::tempdir().unwrap();
        let machine = killed(dir.path());
        let stop = What::IdleStop { outcome: "killed".to_owned(), idle_seconds: 9 };
        record_stop(&machine, stop.clone());
        // The process that stopped it is killed here.
        assert_eq!(of_last_run(&machine), None);
        keep(&machine);
        assert_eq!((events(&machine), of_last_run(&machine)), (vec![stop], None));
        // Control: without the record it is.
        let dir = tempfile::tempdir().unwrap();
        let machine = killed(dir.path());
        keep(&machine);
        assert!(matches!(events(&machine)[..], [What::Crashed { .. }]) && of_last_run(&machine).is_some());
    }
}
