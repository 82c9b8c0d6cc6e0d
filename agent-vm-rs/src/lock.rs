//! One command at a time for each machine, and one build at a time for each guest.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::interrupt::Deadline;
use crate::state::make_private_dir;

/// A lock that the kernel gives back when it is dropped, or when its owner dies.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock, waiting for whoever holds it; says once that it waits.
    ///
    /// # Errors
    /// The file cannot be made, or the deadline passes.
    pub fn take(path: &Path, deadline: Deadline) -> Result<Self> {
        let file = open(path)?;
        let mut told = false;
        deadline.poll(&format!("another agent-vm that holds {}", path.display()), Duration::from_millis(25), || {
            if try_lock(&file, path)? {
                return Ok(Some(()));
            }
            if !told {
                told = true;
                crate::progress::note("waiting for another agent-vm that works on this machine…");
            }
            Ok(None)
        })?;
        Ok(Self { file })
    }

    /// Takes the lock if nobody has it.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn try_take(path: &Path) -> Result<Option<Self>> {
        let file = open(path)?;
        Ok(try_lock(&file, path)?.then_some(Self { file }))
    }

    /// Shares the lock with every program started while it is held: it is free when the last of them has ended, even
    /// if we are killed first.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn shared_with_children(self) -> Result<Self> {
        fcntl_setfd(&self.file, FdFlags::empty()).context("failed to share a lock with a program")?;
        Ok(self)
    }
}

fn open(path: &Path) -> Result<File> {
    if let Some(dir) = path.parent() {
        make_private_dir(dir)?;
    }
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("failed to open the lock {}", path.display()))
}

fn try_lock(file: &File, path: &Path) -> Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("failed to lock {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Has a test run in a process of its own, and says whether this is that one: what other tests start at the same time
    /// has our descriptors until it becomes its program.
    fn alone(test: &str) -> bool {
        const ALONE: &str = "AGENT_VM_TEST_ALONE";
        if std::env::var_os(ALONE).is_some() {
            return true;
        }
        let own = std::env::current_exe().unwrap();
        let name = format!("lock::tests::{test}");
        let done = Command::new(own).args(["--exact", &name]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && said.contains("1 passed"), "{said}");
        false
    }

    #[test]
    fn a_held_lock_is_waited_for_and_comes_back() {
        if !alone("a_held_lock_is_waited_for_and_comes_back") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks/vm");
        let held = Lock::try_take(&path).unwrap().unwrap();
        assert!(Lock::try_take(&path).unwrap().is_none());
        let error = Lock::take(&path, Deadline::after(Duration::from_millis(60))).unwrap_err();
        assert_eq!(crate::error::exit_code(&error), crate::error::EXIT_TIMEOUT);
        drop(held);
        assert!(Lock::try_take(&path).unwrap().is_some());
    }

    #[test]
    fn a_shared_lock_lasts_as_long_as_the_program_that_was_started() {
        if !alone("a_shared_lock_lasts_as_long_as_the_program_that_was_started") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        for (shared, still_held) in [(false, false), (true, true)] {
            let mut lock = Lock::try_take(&path).unwrap().unwrap();
            if shared {
                lock = lock.shared_with_children().unwrap();
            }
            let mut program = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
            drop(lock);
            assert_eq!(Lock::try_take(&path).unwrap().is_none(), still_held);
            drop(program.stdin.take());
            program.wait().unwrap();
            assert!(Lock::try_take(&path).unwrap().is_some());
        }
    }
}
