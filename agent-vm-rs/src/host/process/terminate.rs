//! Terminates programs that this process has started.

use std::time::Duration;

use duct::Handle;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The process group of a program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// Its own: Ctrl-C in a terminal signals only this process, which ends the whole group.
    Own,
    /// That of this process, which may read from the terminal.
    Ours,
}

impl Group {
    /// Terminates the program, and in a group of its own also its children.
    pub(super) fn terminate(self, handle: &Handle) {
        match self {
            Self::Own => terminate_group(handle),
            Self::Ours => terminate(handle),
        }
    }
}

/// Terminates a process: SIGTERM, then SIGKILL after two seconds.
pub(super) fn terminate(handle: &Handle) {
    let process = handle.pids().first().and_then(|pid| Pid::from_raw(i32::try_from(*pid).ok()?));
    for signal in [Signal::TERM, Signal::KILL] {
        if let Some(process) = process {
            // An error means that it has already ended.
            let _ = kill_process(process, signal);
        }
        if matches!(handle.wait_timeout(Duration::from_secs(2)), Ok(Some(_)) | Err(_)) {
            return;
        }
    }
}

/// Terminates a process group: SIGTERM, then SIGKILL to the remaining processes after two seconds.
pub(super) fn terminate_group(handle: &Handle) {
    let group = handle.pids().first().and_then(|pid| Pid::from_raw(i32::try_from(*pid).ok()?));
    for (signal, timeout) in [(Signal::TERM, 2_000), (Signal::KILL, 2_000)] {
        if let Some(group) = group {
            // An error means that no process is left in the group.
            let _ = kill_process_group(group, signal);
        }
        if matches!(handle.wait_timeout(Duration::from_millis(timeout)), Ok(Some(_)) | Err(_)) && signal == Signal::KILL
        {
            return;
        }
    }
}
