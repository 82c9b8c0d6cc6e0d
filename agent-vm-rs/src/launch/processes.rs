//! The processes of a run, and how they are known later.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::interrupt::Deadline;
use crate::plan;
use crate::process::{Detached, Invocation};
use crate::run_state::{ProcessId, RunDir};

/// Starts virtiofsd, and waits until it listens.
///
/// # Errors
/// It ends, or the deadline passes.
pub fn start_virtiofsd(daemon: &Invocation, run: &RunDir, deadline: Deadline) -> Result<()> {
    let log = run.file("virtiofsd.log");
    let process = daemon.start_detached(&log)?;
    remember_inner(&process, &log, &run.file("virtiofsd.pid"), deadline)?;
    deadline.poll("virtiofsd", Duration::from_millis(5), || {
        process.check_alive(&log)?;
        Ok(run.file(plan::QEMU_DIR).join(plan::VIRTIOFSD_SOCKET).exists().then_some(()))
    })
}

/// Remembers a process of the run.
///
/// # Errors
/// The file cannot be written.
pub fn remember(process: &Detached, run: &RunDir, file: &str) -> Result<()> {
    // One that has ended already is reported by whoever waits for it.
    match ProcessId::of(process.pid()?) {
        Some(id) => id.write(&run.file(file)),
        None => Ok(()),
    }
}

/// The one child of what makes a namespace, which becomes the program: it is what signals and figures are about.
///
/// # Errors
/// The deadline passes, or the file cannot be written.
pub fn remember_inner(outer: &Detached, log: &Path, file: &Path, deadline: Deadline) -> Result<()> {
    let pid = outer.pid()?;
    let inner = deadline.poll("a process in its namespace", Duration::from_millis(2), || {
        // One that has ended already is reported by whoever waits for it.
        let ended = outer.check_alive(log).is_err();
        Ok(ProcessId::only_child_of(pid).map(Some).or(ended.then_some(None)))
    })?;
    inner.map_or(Ok(()), |program| program.write(file))
}
