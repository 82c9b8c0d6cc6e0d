//! Makes one process at a time write a machine's references into a source repository, and removes the locks of one that was
//! killed: git would refuse to write for ever.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, OFlags, flock};

use crate::host::interrupt::Deadline;

/// File in the git directory that a writer locks. It has a content while references are written.
const FILE: &str = "agent-vm-fetch";
/// Locks that git takes for all references.
const OF_ALL: [&str; 2] = ["packed-refs.lock", "reftable/tables.list.lock"];
/// Longest wait for another writer.
const LONGEST: Duration = Duration::from_secs(600);

/// The right to write. Dropping it gives it back.
pub struct Writing(File);

impl Writing {
    /// Waits for other writers. If the one before was killed, its locks below `prefix` (such as `refs/agent-vm/MACHINE/`) and
    /// its locks of all references are removed.
    ///
    /// # Errors
    /// The git directory cannot be written, or another writer takes too long.
    pub fn begin(git_dir: &Path, prefix: &str) -> Result<Self> {
        let path = git_dir.join(FILE);
        let failed = || format!("failed to write {}", path.display());
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
            remove_locks(git_dir, prefix, since).context("failed to remove the locks of a killed fetch")?;
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

/// Removes the locks below `prefix`, and those of all references that are not older than `since`.
fn remove_locks(git_dir: &Path, prefix: &str, since: SystemTime) -> Result<()> {
    let below = walkdir::WalkDir::new(git_dir.join(prefix)).into_iter().flatten().map(walkdir::DirEntry::into_path);
    let below = below.filter(|path| path.extension().is_some_and(|end| end == "lock"));
    let is_later =
        |path: &PathBuf| path.symlink_metadata().and_then(|found| found.modified()).is_ok_and(|at| at >= since);
    let of_all = OF_ALL.map(|name| git_dir.join(name)).into_iter().filter(is_later);
    for path in below.chain(of_all) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("failed to remove {}", path.display()));
            }
            _ => tracing::debug!("removed {}", path.display()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_killed_writer_leaves_locks_to_remove() {
        let dir = tempfile::tempdir().unwrap();
        let refs = dir.path().join("refs/agent-vm/app/heads");
        fs::create_dir_all(&refs).unwrap();
        let locks = [refs.join("main.lock"), dir.path().join("packed-refs.lock")];
        let make = || locks.iter().for_each(|lock| fs::write(lock, "").unwrap());
        let there = || locks.iter().filter(|lock| lock.exists()).count();
        make();
        drop(Writing::begin(dir.path(), "refs/agent-vm/app/").unwrap());
        assert_eq!(there(), 2, "somebody else's");
        // As a process that is killed: the kernel gives the lock back, and the content stays.
        let killed = Writing::begin(dir.path(), "refs/agent-vm/app/").unwrap();
        make();
        fs::write(refs.join("main"), "1").unwrap();
        let (copy, since) = (killed.0.try_clone().unwrap(), killed.0.metadata().unwrap().modified().unwrap());
        drop(killed);
        (&copy).write_all(b"writing\n").unwrap();
        copy.set_modified(since).unwrap();
        drop(copy);
        drop(Writing::begin(dir.path(), "refs/agent-vm/app/").unwrap());
        assert_eq!(there(), 0);
        assert!(refs.join("main").exists());
    }
}
