//! Limits of a program that is started. It inherits ours, so these are lowered while it is started: the program prlimit, which
//! could set them, would be one more to start for each git.

use std::io;
use std::sync::RwLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Held for writing while our limits are lowered, so that no other program inherits them.
static STARTING: RwLock<()> = RwLock::new(());

/// Limits in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Of the address space.
    pub(super) memory: Option<u64>,
    /// Of each file that it writes.
    pub(super) file: Option<u64>,
}

impl Limits {
    /// Calls `start`, which starts a program that gets these limits. Every program is started by this function.
    pub(super) fn starting<T>(self, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let all = [(Resource::As, self.memory), (Resource::Fsize, self.file)];
        let limits: Vec<_> = all.into_iter().filter_map(|(resource, limit)| Some((resource, limit?))).collect();
        if limits.is_empty() {
            let _lock = STARTING.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            return start();
        }
        let _lock = STARTING.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before: Vec<_> = limits.iter().map(|(resource, _)| (*resource, getrlimit(*resource))).collect();
        let started = limits.iter().try_for_each(|(resource, limit)| lower(*resource, *limit)).and_then(|()| start());
        for (resource, limit) in before {
            setrlimit(resource, limit)?;
        }
        started
    }
}

/// Lowers a limit that can be raised again.
fn lower(resource: Resource, limit: u64) -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(resource);
    let current = current.map_or(limit, |current| current.min(limit));
    Ok(setrlimit(resource, Rlimit { current: Some(current), maximum })?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::host::process::Invocation;

    #[test]
    fn only_the_program_has_the_limits() {
        let limits = |sh: Invocation| sh.args(["-c", "ulimit -v; ulimit -f; sh -c 'ulimit -v'"]).read().unwrap();
        let sh = || Invocation::new("sh").time_limit(Duration::from_secs(60));
        let before = limits(sh());
        let limited = sh().bounded(8 << 30).writing_at_most(1 << 20);
        let (memory, file) = (8 << 20, (1 << 20) / 512);
        std::thread::scope(|scope| {
            let others: Vec<_> = (0..20).map(|_| scope.spawn(|| limits(sh()))).collect();
            for _ in 0..20 {
                assert_eq!(limits(limited.clone()), format!("{memory}\n{file}\n{memory}"));
            }
            assert!(others.into_iter().all(|other| other.join().unwrap() == before));
        });
        assert_eq!(limits(sh()), before);
    }

    /// `write_all` fails then, or the signal ends the program.
    #[test]
    fn a_program_cannot_exceed_its_limits() {
        let sh = |words: &str| Invocation::new("sh").args(["-c", words]).bounded(8 << 30).writing_at_most(1 << 20);
        let dir = tempfile::tempdir().unwrap();
        let write = |size: usize| sh(&format!("head -c {size} /dev/zero > file")).cwd(dir.path()).output().unwrap();
        assert!(write(1 << 20).status.success(), "control");
        assert!(!write((1 << 20) + 1).status.success());
    }
}
