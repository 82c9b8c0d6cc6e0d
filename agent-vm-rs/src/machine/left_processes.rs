//! The processes of a machine that killed commands left. A command that only reads a machine needs no lock, and has marked
//! processes too.

use std::ffi::OsString;
use std::path::Path;

use procfs::process::Process;

use crate::host::process::ProcessId;
use crate::host::programs::replaced;
use crate::machine::run_state::processes_of;

/// Returns the processes with the marker of the machine in `dir` that no running command has started.
#[must_use]
pub fn left_processes_of(dir: &Path) -> Vec<ProcessId> {
    let marked = processes_of(dir);
    let own = program_of(std::process::id().cast_signed());
    let is_command =
        |pid: i32| own.is_some() && program_of(pid) == own && marked.iter().all(|process| process.pid != pid);
    let is_left = |process: &&ProcessId| !ancestors(process.pid).any(is_command);
    marked.iter().filter(is_left).cloned().collect()
}

/// Returns the parent of a process, and that one's parents. A process that was left has another parent than before.
fn ancestors(pid: i32) -> impl Iterator<Item = i32> {
    let parent = |pid: &i32| Some(Process::new(*pid).ok()?.stat().ok()?.ppid).filter(|parent| *parent > 0);
    std::iter::successors(parent(&pid), parent)
}

/// Returns the file name of a process's program, which an update may have replaced.
fn program_of(pid: i32) -> Option<OsString> {
    let exe = Process::new(pid).ok()?.exe().ok()?;
    let name = exe.file_name()?;
    Some(replaced(name).unwrap_or(name).to_owned())
}
