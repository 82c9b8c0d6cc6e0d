//! How much of the host's file system a machine occupies.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use procfs::process::Process;
use rustix::fs::statvfs;

use crate::host::process::{Invocation, ProcessId};

/// Largest number of files with several names that are counted only once.
const MOST_LINKED: usize = 1 << 20;
/// Most memory that counting may take, in bytes: files with several names are remembered.
const MEMORY: u64 = 1 << 30;
/// Time of a count above which growth since is estimated.
const SLOW: Duration = Duration::from_millis(500);
/// Shortest time between two counts of the workspace, and the share of the time that counting may take.
const PAUSE: Duration = Duration::from_secs(2);
const SHARE: u32 = 10;
/// Shortest time between two counts while nothing suggests that the workspace grew, and their share of the time.
const LONG_PAUSE: Duration = Duration::from_secs(60);
const SMALL_SHARE: u32 = 100;

/// Free space of a file system.
#[derive(Clone, Copy, Debug)]
pub struct Free {
    /// Bytes that this user can use.
    pub bytes: u64,
    /// Size of the whole file system in bytes.
    pub total: u64,
    /// Inodes in percent; None if the file system does not count them.
    pub inodes: Option<u64>,
}

/// Returns the free space of the file system of `place`.
///
/// # Errors
/// It cannot be read.
pub fn free(place: &Path) -> Result<Free> {
    let all = statvfs(place).with_context(|| format!("failed to read the free space of {}", place.display()))?;
    let inodes = (all.f_files > 0).then(|| u128::from(all.f_favail) * 100 / u128::from(all.f_files));
    let bytes = |blocks: u64| blocks.saturating_mul(all.f_frsize);
    let inodes = inodes.and_then(|percent| u64::try_from(percent).ok());
    Ok(Free { bytes: bytes(all.f_bavail), total: bytes(all.f_blocks), inodes })
}

/// Returns the space that the files in a directory occupy, in bytes. A file with several names counts once.
#[must_use]
pub fn size(dir: &Path) -> u64 {
    // Root can read everything. Another user could not enter directories whose mode the guest changed, but for the namespace.
    let is_root = rustix::process::geteuid().is_root();
    let namespace = || Invocation::new("unshare").args(["--user", "--map-root-user", "--"]);
    let in_namespace = (!is_root).then(|| by_du(dir, Some(namespace()))).flatten();
    in_namespace.or_else(|| by_du(dir, None)).unwrap_or_else(|| by_walk(dir))
}

/// Returns what du counts. It follows no links, and reaches directories whose paths are longer than the kernel accepts.
fn by_du(dir: &Path, within: Option<Invocation>) -> Option<u64> {
    let du = Invocation::new("du").args(["--summarize", "--block-size=1", "--one-file-system", "--"]).arg(dir).cwd("/");
    let du = match within {
        Some(namespace) => du.within(namespace),
        None => du,
    };
    // It fails if the guest removes a file meanwhile, and prints the size all the same.
    let output = du.bounded(MEMORY).output().ok()?;
    String::from_utf8_lossy(&output.stdout).split_whitespace().next()?.parse().ok()
}

/// Returns what can be counted without du.
fn by_walk(dir: &Path) -> u64 {
    let mut linked = HashSet::new();
    let mut blocks = 0_u64;
    for file in walkdir::WalkDir::new(dir).follow_links(false).into_iter().flatten() {
        let Ok(file) = file.metadata() else { continue };
        let is_first = file.nlink() == 1
            || file.is_dir()
            || linked.len() >= MOST_LINKED
            || linked.insert((file.dev(), file.ino()));
        if is_first {
            blocks = blocks.saturating_add(file.blocks());
        }
    }
    blocks.saturating_mul(512)
}

/// Returns the space that a file occupies, in bytes.
#[must_use]
pub fn of_file(file: &Path) -> u64 {
    file.symlink_metadata().map_or(0, |file| file.blocks().saturating_mul(512))
}

/// Returns the number of bytes that processes have written; None if the kernel does not say.
#[must_use]
pub fn written(processes: &[ProcessId]) -> Option<u64> {
    processes.iter().map(|process| Some(Process::new(process.pid).ok()?.io().ok()?.wchar)).sum()
}

/// A count of the workspace's size in a thread of its own, which is repeated when the workspace may have grown beyond a limit.
#[derive(Debug, Default)]
pub struct Count {
    running: Option<(Instant, Mark, JoinHandle<u64>)>,
    last: Option<Counted>,
}

/// What was known when a count began. Whatever is written later may not be in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    /// Bytes written by the processes that serve the workspace, if known.
    pub written: Option<u64>,
    /// Free bytes of the file system.
    pub free: u64,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    size: u64,
    mark: Mark,
    ended: Instant,
    took: Duration,
}

impl Count {
    /// Returns the last counted size; None before the first count has ended. Begins another count if the workspace may have
    /// grown beyond `limit` since, or if `always`.
    pub fn size(&mut self, workspace: &Path, mark: Mark, limit: u64, always: bool) -> Option<u64> {
        if let Some((began, mark, count)) = self.running.take_if(|(.., count)| count.is_finished()) {
            let ended = Instant::now();
            let size = count.join().unwrap_or_default();
            self.last = Some(Counted { size, mark, ended, took: ended - began });
        }
        if self.running.is_none() && self.last.is_none_or(|last| last.is_due(mark, limit, always)) {
            let place = workspace.to_owned();
            self.running = Some((Instant::now(), mark, std::thread::spawn(move || size(&place))));
        }
        self.last.map(|last| last.estimate(mark))
    }
}

impl Counted {
    /// Returns the size, with what was probably written since if counting is slow: both written and taken from the free space.
    fn estimate(&self, now: Mark) -> u64 {
        let grown = self.mark.written.zip(now.written).map_or(0, |(before, now)| now.saturating_sub(before));
        let grown = grown.min(self.mark.free.saturating_sub(now.free));
        if self.took > SLOW { self.size.saturating_add(grown) } else { self.size }
    }

    fn is_due(&self, now: Mark, limit: u64, always: bool) -> bool {
        let age = self.ended.elapsed();
        let may_exceed = self.size.saturating_add(self.mark.growth(now)) > limit;
        age >= LONG_PAUSE.max(self.took * SMALL_SHARE) || (may_exceed || always) && age >= PAUSE.max(self.took * SHARE)
    }
}

impl Mark {
    /// Returns by how much the workspace can have grown. fallocate(2) writes nothing, and takes free space.
    fn growth(&self, now: Self) -> u64 {
        let written = self.written.zip(now.written).map(|(before, now)| now.saturating_sub(before));
        let taken = self.free.saturating_sub(now.free);
        // Without figures, as much may have been written as there was space.
        written.unwrap_or(self.free).max(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::{tree, walk};

    #[test]
    fn files_are_counted_by_the_space_that_they_occupy() {
        for size in [size, by_walk] {
            let dir = tempfile::tempdir().unwrap();
            let empty = size(dir.path());
            std::fs::write(dir.path().join("a"), vec![1; 1 << 20]).unwrap();
            std::fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
            std::fs::File::create(dir.path().join("sparse")).unwrap().set_len(1 << 30).unwrap();
            std::os::unix::fs::symlink("/usr", dir.path().join("link")).unwrap();
            let grown = size(dir.path()) - empty;
            assert!((1 << 20..=(1 << 20) + (64 << 10)).contains(&grown), "{grown}");
            assert_eq!(of_file(&dir.path().join("missing")), 0);
            assert!(of_file(&dir.path().join("a")) >= 1 << 20);
        }
    }

    /// A guest can make paths that the kernel does not accept, and close directories to the user.
    #[test]
    fn nothing_is_too_deep_or_closed_to_be_counted() {
        use rustix::fs::{CWD, Mode, OFlags, openat};
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("deep");
        let depth = 40;
        walk::tests::deep(&deep, depth);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut inner = openat(CWD, &deep, flags, Mode::empty()).unwrap();
        for _ in 0..depth {
            inner = openat(&inner, "d".repeat(200), flags, Mode::empty()).unwrap();
        }
        let file = openat(&inner, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
        std::io::Write::write_all(&mut std::fs::File::from(file), &vec![1; 8 << 20]).unwrap();
        assert!(size(dir.path()) >= 8 << 20);
        // Control: a walk by paths does not find it.
        assert!(by_walk(dir.path()) < 8 << 20);
        tree::remove_tree(&deep).unwrap();

        let closed = dir.path().join("closed");
        std::fs::create_dir(&closed).unwrap();
        std::fs::write(closed.join("file"), vec![1; 8 << 20]).unwrap();
        std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
        assert!(size(dir.path()) >= 8 << 20);
        std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    }

    #[test]
    fn a_file_system_has_free_space() {
        let free = free(Path::new("/")).unwrap();
        assert!(free.bytes > 0 && free.inodes.is_none_or(|percent| percent <= 100), "{free:?}");
    }

    #[test]
    fn growth_is_what_was_written_or_taken() {
        let mark = |written, free| Mark { written, free };
        assert_eq!(mark(Some(10), 100).growth(mark(Some(15), 100)), 5);
        assert_eq!(mark(Some(10), 100).growth(mark(Some(15), 80)), 20);
        assert_eq!(mark(Some(10), 100).growth(mark(Some(15), 300)), 5);
        assert_eq!(mark(None, 100).growth(mark(None, 100)), 100);
    }

    #[test]
    fn the_count_is_repeated_when_the_limit_may_be_exceeded() {
        let ended = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        let mark = Mark { written: Some(0), free: 0 };
        let last = Counted { size: 80, mark, ended, took: Duration::from_millis(1) };
        let due = |written, always| last.is_due(Mark { written: Some(written), ..mark }, 100, always);
        assert!(!due(20, false) && due(21, false) && due(0, true));
        let slow = Counted { took: Duration::from_secs(1), ..last };
        assert!(!slow.is_due(Mark { written: Some(99), ..mark }, 100, true));
        let old = Counted { ended: ended.checked_sub(Duration::from_secs(100)).unwrap(), ..last };
        assert!(old.is_due(mark, 100, false));
    }

    #[test]
    fn growth_since_a_slow_count_is_estimated() {
        let mark = Mark { written: Some(10), free: 100 };
        let last = Counted { size: 80, mark, ended: Instant::now(), took: Duration::from_secs(9) };
        let of = |last: Counted, written, free| last.estimate(Mark { written, free });
        assert_eq!((of(last, Some(40), 60), of(last, Some(40), 90), of(last, Some(15), 60)), (110, 90, 85));
        assert_eq!((of(last, None, 60), of(last, Some(40), 200)), (80, 80), "nothing of it is known");
        assert_eq!(of(Counted { took: Duration::from_millis(9), ..last }, Some(40), 60), 80, "it is counted soon");
    }

    #[test]
    fn the_kernel_counts_what_a_process_writes() {
        let own = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let before = written(std::slice::from_ref(&own)).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &[0; 1 << 20]).unwrap();
        assert!(written(&[own]).unwrap() >= before + (1 << 20));
    }
}
