//! One command at a time for each machine, and one build at a time for each guest.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::host::files::{has_dir, has_file, make_private_dir, remove_file};
use crate::host::interrupt::Deadline;
use crate::term::progress::note;

/// Waiting that is worth a word.
const WORTH_A_WORD: Duration = Duration::from_millis(200);

/// A lock that the kernel gives back when it is dropped, or when its owner dies.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock, waiting for whoever holds it; says once that it waits.
    ///
    /// # Errors
    /// The file cannot be made, or the deadline passes.
    pub fn take(path: &Path, deadline: Deadline) -> Result<Self> {
        let (began, mut told) = (Instant::now(), false);
        deadline.poll(&format!("another agent-vm that holds {}", path.display()), Duration::from_millis(25), || {
            let lock = Self::try_take(path)?;
            if lock.is_none() && !told && began.elapsed() > WORTH_A_WORD {
                told = true;
                note("waiting for another agent-vm that works on this machine…");
            }
            Ok(lock)
        })
    }

    /// Takes the lock if nobody has it.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn try_take(path: &Path) -> Result<Option<Self>> {
        let file = open(path)?;
        if !try_lock(&file, path)? {
            return Ok(None);
        }
        // Whoever had it before may have removed the file: then others lock the one that has its name now.
        let named = fs::symlink_metadata(path).ok();
        let opened = file.metadata().with_context(|| format!("failed to look at the lock {}", path.display()))?;
        let same = named.is_some_and(|named| (named.dev(), named.ino()) == (opened.dev(), opened.ino()));
        Ok(same.then(|| Self { file, path: path.to_owned() }))
    }

    /// Gives the lock back and removes its file: of a machine that is gone.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn retire(self) -> Result<()> {
        remove_file(&self.path)
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

/// Opens the file. Nothing but a file can be locked, and there is nothing in it: what else has its name, or that of its
/// directory, is removed, unless something is in it.
fn open(path: &Path) -> Result<File> {
    if let Some(dir) = path.parent() {
        if let Err(wrong) = has_dir(dir) {
            fs::remove_file(dir).map_err(|_| wrong)?;
        }
        make_private_dir(dir)?;
    }
    if let Err(wrong) = has_file(path) {
        fs::remove_file(path).or_else(|_| fs::remove_dir(path)).map_err(|_| wrong)?;
    }
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
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
        let (_, module) = module_path!().split_once("::").unwrap();
        let name = format!("{module}::{test}");
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
        assert_eq!(crate::term::error::exit_code(&error), crate::term::error::EXIT_TIMEOUT);
        drop(held);
        assert!(Lock::try_take(&path).unwrap().is_some());
    }

    #[test]
    fn a_lock_that_was_removed_meanwhile_is_taken_anew() {
        if !alone("a_lock_that_was_removed_meanwhile_is_taken_anew") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks/vm");
        let held = Lock::try_take(&path).unwrap().unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| Lock::take(&path, Deadline::after(Duration::from_secs(20))).unwrap());
            std::thread::sleep(Duration::from_millis(40));
            held.retire().unwrap();
            let taken = waits.join().unwrap();
            // Control: it is the file of this name that is locked.
            assert!(path.exists() && Lock::try_take(&path).unwrap().is_none());
            taken.retire().unwrap();
        });
        assert!(!path.exists());
    }

    #[test]
    fn what_else_has_its_name_is_removed_unless_something_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let (locks, elsewhere) = (dir.path().join("locks"), dir.path().join("elsewhere"));
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &locks).unwrap();
        let path = locks.join("vm");
        drop(Lock::try_take(&path).unwrap().unwrap());
        assert!(locks.symlink_metadata().unwrap().is_dir() && fs::read_dir(&elsewhere).unwrap().next().is_none());
        fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
        drop(Lock::try_take(&path).unwrap().unwrap());
        fs::remove_file(&path).unwrap();
        fs::create_dir_all(path.join("full")).unwrap();
        let error = Lock::try_take(&path).unwrap_err();
        assert!(error.to_string().contains("is a directory, not a file"), "{error:#}");
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
