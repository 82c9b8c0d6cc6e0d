//! Makes one process at a time write a machine's references into a source repository, and removes the locks of one that was
//! killed: git would refuse to write for ever.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, OFlags, flock};

use crate::git::stale_locks::Killed;
use crate::host::files::has_file;
use crate::host::interrupt::Deadline;

/// File in the git directory that a writer locks. It has a content while references are written.
const FILE: &str = "agent-vm-fetch";
/// Directory of the references that are written, of any machine.
const WRITTEN: [&str; 1] = ["refs/agent-vm"];
/// Locks that git takes for all references, and a file that it makes under them.
const OF_ALL: [&str; 3] = ["packed-refs.lock", "packed-refs.new", "reftable/tables.list.lock"];
/// Longest wait for another writer, and longest time that one writes.
const LONGEST: Duration = Duration::from_secs(600);

/// The right to write. Dropping it gives it back.
pub struct Writing(File);

impl Writing {
    /// Waits for other writers. If the one before was killed, its locks are removed.
    ///
    /// # Errors
    /// The git directory cannot be written, or another writer takes too long.
    pub fn begin(git_dir: &Path) -> Result<Self> {
        let path = git_dir.join(FILE);
        let failed = || format!("failed to write {}", path.display());
        has_file(&path)?;
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).custom_flags(flags).open(&path);
        let file = file.with_context(failed)?;
        Deadline::after(LONGEST).poll("another fetch into this repository", Duration::from_millis(20), || {
            Ok(flock(&file, FlockOperation::NonBlockingLockExclusive).ok())
        })?;
        let found = file.metadata().with_context(failed)?;
        if found.len() > 0 {
            let since = found.modified().with_context(failed)?;
            let killed = Killed { git_dir, dirs: &WRITTEN, locks: &OF_ALL, since, longest: LONGEST };
            killed.remove_locks().context("failed to remove the locks of a killed fetch")?;
        }
        file.set_len(0)
            .and_then(|()| (&file).write_all(b"writing\n"))
            .and_then(|()| file.sync_all())
            .with_context(failed)?;
        Ok(Self(file))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        drop(self.0.set_len(0));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn only_a_killed_writer_leaves_locks_to_remove() {
        let dir = tempfile::tempdir().unwrap();
        let refs = dir.path().join("refs/agent-vm/app/heads");
        fs::create_dir_all(&refs).unwrap();
        let locks = [refs.join("main.lock"), dir.path().join("packed-refs.lock"), dir.path().join("packed-refs.new")];
        let ago = |seconds| SystemTime::now() - Duration::from_secs(seconds);
        let make = |at: SystemTime| {
            for lock in &locks {
                File::create(lock).unwrap().set_modified(at).unwrap();
            }
        };
        let there = || locks.iter().filter(|lock| lock.exists()).count();
        make(ago(5));
        drop(Writing::begin(dir.path()).unwrap());
        assert_eq!(there(), 3, "somebody else's");
        // As a process that is killed: the kernel gives the lock back, and the content stays.
        let killed = |at: SystemTime| {
            let marker = dir.path().join(FILE);
            fs::write(&marker, "writing\n").unwrap();
            File::open(marker).unwrap().set_modified(at).unwrap();
        };
        fs::write(refs.join("main"), "1").unwrap();
        // A lock from before, and one from long after, may be those of a git that runs.
        for (at, began, left) in [(ago(50), ago(40), 3), (ago(50), ago(7000), 3), (ago(30), ago(40), 0)] {
            make(at);
            killed(began);
            drop(Writing::begin(dir.path()).unwrap());
            assert_eq!(there(), left);
        }
        assert!(refs.join("main").exists());
    }
}
