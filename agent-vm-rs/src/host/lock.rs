//! File locks: one command at a time per machine, and one build at a time per guest.

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

/// Waiting longer than this prints a notice.
const WORTH_A_WORD: Duration = Duration::from_millis(200);

/// A lock that is released when it is dropped or its process dies.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock and waits while another process holds it; prints a notice when the wait is long.
    ///
    /// # Errors
    /// The file cannot be created, or the deadline passes.
    pub fn take(path: &Path, deadline: Deadline) -> Result<Self> {
        let (began, mut noted) = (Instant::now(), false);
        deadline.poll(
            &format!("another agent-vm command that holds the lock {}", path.display()),
            Duration::from_millis(25),
            || {
                let lock = Self::try_take(path)?;
                if lock.is_none() && !noted && began.elapsed() > WORTH_A_WORD {
                    noted = true;
                    note("waiting for another agent-vm command that is using this machine…");
                }
                Ok(lock)
            },
        )
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn try_take(path: &Path) -> Result<Option<Self>> {
        let file = open(path)?;
        if !try_lock(&file, path)? {
            return Ok(None);
        }
        // A previous holder may have removed the file. Others then lock the new file of this name.
        let named = fs::symlink_metadata(path).ok();
        let opened =
            file.metadata().with_context(|| format!("failed to read the status of the lock {}", path.display()))?;
        let same = named.is_some_and(|named| (named.dev(), named.ino()) == (opened.dev(), opened.ino()));
        Ok(same.then(|| Self { file, path: path.to_owned() }))
    }

    /// Releases the lock and removes its file, for a machine that is destroyed.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn retire(self) -> Result<()> {
        remove_file(&self.path)
    }

    /// Shares the lock with all programs started while it is held: it is released when the last of them has ended, even if
    /// this process is killed first.
    ///
    /// # Errors
    /// The kernel rejects the change.
    pub fn shared_with_children(self) -> Result<Self> {
        fcntl_setfd(&self.file, FdFlags::empty()).context("failed to let child processes inherit a lock")?;
        Ok(self)
    }
}

/// Returns the path of a lock in a directory that has more than locks. The user may have put a link to another disk in its place,
/// which [`Lock`] would remove as something that is no directory.
#[must_use]
pub fn lock_beside(dir: &Path, name: &str) -> PathBuf {
    dir.canonicalize().unwrap_or_else(|_| dir.to_owned()).join(name)
}

/// Opens the lock file. Anything else at its path or its directory's path is removed, except a directory that is not empty:
/// a lock file holds no data.
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

    /// Reruns a test in a process of its own and returns whether this is that process: children of other tests inherit our
    /// descriptors until they execute their program.
    fn alone(test: &str) -> bool {
        const ALONE: &str = "AGENT_VM_TEST_ALONE";
        if std::env::var_os(ALONE).is_some() {
            return true;
        }
        let own = std::env::current_exe().unwrap();
        let (_, module) = module_path!().split_once("::").unwrap();
        let name = format!("{module}::{test}");
        let done = Command::new(own).args(["--exact", &name]).env(ALONE, "1").output().unwrap();
        let output = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && output.contains("1 passed"), "{output}");
        false
    }

    #[test]
    fn taking_a_held_lock_waits_until_it_is_released() {
        if !alone("taking_a_held_lock_waits_until_it_is_released") {
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
    fn a_lock_with_a_replaced_file_is_taken_on_the_new_file() {
        if !alone("a_lock_with_a_replaced_file_is_taken_on_the_new_file") {
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
            // Control: the lock is on the file that has this name now.
            assert!(path.exists() && Lock::try_take(&path).unwrap().is_none());
            taken.retire().unwrap();
        });
        assert!(!path.exists());
    }

    /// Makes a directory and a link to it; returns the link and the directory.
    fn linked(dir: &Path) -> (PathBuf, PathBuf) {
        let (link, elsewhere) = (dir.join("link"), dir.join("elsewhere"));
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        (link, elsewhere)
    }

    #[test]
    fn other_file_kinds_at_the_lock_path_are_removed_if_empty() {
        let dir = tempfile::tempdir().unwrap();
        let (locks, elsewhere) = linked(dir.path());
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
    fn a_link_in_place_of_a_directory_with_more_than_locks_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (link, elsewhere) = linked(dir.path());
        drop(Lock::try_take(&lock_beside(&link, ".lock-x")).unwrap().unwrap());
        assert!(link.is_symlink() && elsewhere.join(".lock-x").is_file());
        // A directory that does not exist yet is made.
        drop(Lock::try_take(&lock_beside(&dir.path().join("new"), ".lock-x")).unwrap().unwrap());
        assert!(dir.path().join("new/.lock-x").is_file());
    }

    #[test]
    fn a_shared_lock_is_held_until_the_child_ends() {
        if !alone("a_shared_lock_is_held_until_the_child_ends") {
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
