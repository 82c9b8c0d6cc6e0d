//! Terminates programs that this process has started.

use std::time::Duration;

use duct::Handle;
use procfs::process::{Process, all_processes};
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};

use super::id::has_ended;
use crate::host::interrupt::Deadline;

/// Longest time that a program may take to end after a signal.
const PATIENCE: Duration = Duration::from_secs(2);

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
    let process = pid_of(handle);
    for signal in [Signal::TERM, Signal::KILL] {
        if let Some(process) = process {
            // An error means that it has already ended.
            let _ = kill_process(process, signal);
        }
        if matches!(handle.wait_timeout(PATIENCE), Ok(Some(_)) | Err(_)) {
            return;
        }
    }
}

/// Terminates a process group: SIGTERM, then SIGKILL to the remaining processes once the program has ended or two seconds have
/// passed. Its children have ended too when this returns, unless the kernel keeps one for two more seconds.
pub(super) fn terminate_group(handle: &Handle) {
    let group = pid_of(handle);
    for signal in [Signal::TERM, Signal::KILL] {
        if let Some(group) = group {
            // An error means that no process is left in the group.
            let _ = kill_process_group(group, signal);
        }
        drop(handle.wait_timeout(PATIENCE));
    }
    if let Some(group) = group {
        // Its children are not ours: nothing else tells when the signal has reached them.
        let deadline = Deadline::after(PATIENCE);
        while runs(group) && !deadline.passed() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn pid_of(handle: &Handle) -> Option<Pid> {
    handle.pids().first().and_then(|pid| Pid::from_raw(i32::try_from(*pid).ok()?))
}

/// Returns whether a process of a group runs.
fn runs(group: Pid) -> bool {
    let is_member = |process: Process| {
        process.stat().is_ok_and(|stat| stat.pgrp == group.as_raw_nonzero().get() && !has_ended(&stat))
    };
    test_kill_process_group(group).is_ok()
        && all_processes().is_ok_and(|mut all| all.any(|one| one.is_ok_and(is_member)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;

    use super::*;
    use crate::host::process::ProcessId;

    #[test]
    fn no_child_of_a_terminated_program_is_left() {
        // Its memory takes time to be freed, which the program's end does not wait for.
        let child = "import os, time; open('new', 'w').write(str(os.getpid())); held = b'x' * 400_000_000; \
                     os.rename('new', 'pid'); time.sleep(1000)";
        for last in ["exit", "wait"] {
            let dir = tempfile::tempdir().unwrap();
            let words = format!("python3 -c \"{child}\" & {last}");
            let expression = duct::cmd!("sh", "-c", words).dir(dir.path()).unchecked().before_spawn(|command| {
                command.process_group(0);
                Ok(())
            });
            let handle = expression.start().unwrap();
            let pid = || Ok(std::fs::read_to_string(dir.path().join("pid")).ok());
            let pid =
                Deadline::after(Duration::from_secs(60)).poll("the child", Duration::from_millis(2), pid).unwrap();
            let child = ProcessId::of(pid.trim().parse().unwrap()).unwrap();
            terminate_group(&handle);
            assert!(!child.alive(), "{child:?} is left running");
        }
    }
}
