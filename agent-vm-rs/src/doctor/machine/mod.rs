//! Checks of one machine.

mod certificates;
mod files;
mod run;

use std::collections::BTreeMap;
use std::path::PathBuf;

use procfs::process::all_processes;

use super::fault::Fault;
use super::finding::Finding;
use crate::host::process::MARKER;
use crate::machine::Machine;

/// The processes that have a machine's marker, by the machine's directory.
pub type Marked = BTreeMap<PathBuf, Vec<i32>>;

/// Finds the processes of all machines at once.
#[must_use]
pub fn marked() -> Marked {
    let mut marked = Marked::new();
    for process in all_processes().into_iter().flatten().flatten() {
        // The environment of other users' processes and of ended ones cannot be read.
        let of = process.environ().ok().and_then(|mut all| all.remove(std::ffi::OsStr::new(MARKER)));
        if let Some(dir) = of {
            marked.entry(dir.into()).or_default().push(process.pid);
        }
    }
    marked
}

/// Checks one machine.
#[must_use]
pub fn check(machine: &Machine, marked: &Marked) -> Vec<Finding> {
    let settings = match machine.settings() {
        Ok(settings) => settings,
        Err(error) => {
            let found = Finding::fault("settings", Fault::SettingsUnusable, format!("{error:#}"));
            return vec![found.of_machine(machine.name.as_str())];
        }
    };
    let left = marked.get(&machine.dir).map_or(&[][..], Vec::as_slice);
    let mut all = vec![Finding::ok("settings", format!("{} on {}", settings.branch, settings.source.display()))];
    all.extend(files::check(machine, &settings));
    all.extend(certificates::check(machine));
    all.extend(run::check(machine, &settings, left));
    all.into_iter().map(|found| found.of_machine(machine.name.as_str())).collect()
}
