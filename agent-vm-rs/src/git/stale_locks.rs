//! Removes the locks that a killed git left: it would refuse to write for ever. Locks of a git that runs must stay.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

use super::git_processes::in_use;
use crate::host::interrupt::{Deadline, check};

/// Age at which a lock counts as left over: git holds one for a moment.
const OLD: Duration = Duration::from_secs(3);

/// Where a killed command may have left locks.
pub struct Killed<'a> {
    /// The git directory.
    pub git_dir: &'a Path,
    /// Directories in it, with all below them.
    pub dirs: &'a [&'a str],
    /// Locks in it.
    pub locks: &'a [&'a str],
    /// When the command began to write.
    pub since: SystemTime,
    /// The longest time that it can have written.
    pub longest: Duration,
}

impl Killed<'_> {
    /// Removes its locks. Those that another git may have made, before or later, stay, and so do all while a process may hold
    /// one.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn remove_locks(&self) -> Result<()> {
        let is_old = |path: &PathBuf| age(path).is_none_or(|age| age >= OLD);
        let mut found = self.found();
        if !found.iter().all(is_old) {
            let wait = Deadline::after(2 * OLD);
            let all_old = || Ok(self.found().iter().all(is_old).then_some(()));
            drop(wait.poll("git", Duration::from_millis(100), all_old));
            check()?;
            found = self.found();
        }
        let old: Vec<_> = found.into_iter().filter(is_old).collect();
        let newest = old.iter().filter_map(|path| changed(path)).max();
        // A git that was stopped, or that runs a hook, can hold one for any time.
        if newest.is_none_or(|newest| in_use(self.git_dir, &old, newest)) {
            return Ok(());
        }
        for path in &old {
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("failed to remove {}", path.display()));
                }
                _ => tracing::debug!("removed {}", path.display()),
            }
        }
        Ok(())
    }

    fn found(&self) -> Vec<PathBuf> {
        let below = self.dirs.iter().flat_map(|dir| walkdir::WalkDir::new(self.git_dir.join(dir)));
        let below = below.flatten().map(walkdir::DirEntry::into_path);
        let below = below.filter(|path| path.extension().is_some_and(|end| end == "lock"));
        let all = below.chain(self.locks.iter().map(|name| self.git_dir.join(name)));
        let until = self.since + self.longest;
        all.filter(|path| changed(path).is_some_and(|at| at >= self.since && at <= until)).collect()
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    path.symlink_metadata().ok().filter(fs::Metadata::is_file)?.modified().ok()
}

fn age(path: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(changed(path)?).ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_lock_that_a_process_holds_stays() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("packed-refs.lock");
        File::create(&lock).unwrap();
        // The process starts before the lock, as far as clocks tell.
        let mut holder = Command::new("sleep").arg("1000").stdin(File::open(&lock).unwrap()).spawn().unwrap();
        let since = SystemTime::now() - Duration::from_secs(60);
        File::options().write(true).open(&lock).unwrap().set_modified(SystemTime::now()).unwrap();
        let killed = Killed { git_dir: dir.path(), dirs: &[], locks: &["packed-refs.lock"], since, longest: 60 * OLD };
        killed.remove_locks().unwrap();
        assert!(lock.exists());
        holder.kill().unwrap();
        holder.wait().unwrap();
        killed.remove_locks().unwrap();
        assert!(!lock.exists());
    }
}
