//! The limits that the kernel really has for a process, in the cgroups that it is in, also those that others made.

use std::fs;
use std::path::{Path, PathBuf};

use super::cgroup::MOUNT;

/// A limit and the cgroup that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Its value.
    pub value: u64,
    /// Path of the cgroup, below the root of all cgroups.
    pub cgroup: PathBuf,
}

/// The smallest limits of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllInForce {
    /// Memory in bytes.
    pub memory: Option<InForce>,
    /// Processor time in percent of one core.
    pub cpu_quota: Option<InForce>,
    /// Processes and threads.
    pub pids: Option<InForce>,
    /// Disk transfers in bytes a second.
    pub disk_bandwidth: Option<InForce>,
    /// Disk operations a second.
    pub disk_iops: Option<InForce>,
}

impl AllInForce {
    /// Returns the limits of a process; none if it is in no cgroup of version 2 that is visible here.
    #[must_use]
    pub fn of(pid: i32) -> Self {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let own = text.lines().find_map(|line| line.strip_prefix("0::/")).filter(|path| !path.starts_with(".."));
        own.map_or_else(Self::default, |own| Self::below(Path::new(MOUNT), Path::new(own)))
    }

    fn below(mount: &Path, own: &Path) -> Self {
        let smallest = |read: &dyn Fn(&Path) -> Option<u64>| {
            let all = own.ancestors().filter_map(|cgroup| {
                Some(InForce { value: read(&mount.join(cgroup))?, cgroup: Path::new("/").join(cgroup) })
            });
            all.min_by_key(|limit| limit.value)
        };
        Self {
            memory: smallest(&|dir| text(dir, "memory.max")?.trim().parse().ok()),
            cpu_quota: smallest(&|dir| quota(&text(dir, "cpu.max")?)),
            pids: smallest(&|dir| text(dir, "pids.max")?.trim().parse().ok()),
            disk_bandwidth: smallest(&|dir| of_disk(&text(dir, "io.max")?, "wbps=")),
            disk_iops: smallest(&|dir| of_disk(&text(dir, "io.max")?, "wiops=")),
        }
    }
}

fn text(dir: &Path, file: &str) -> Option<String> {
    fs::read_to_string(dir.join(file)).ok()
}

/// Returns a quota of processor time in percent of one core; None for no limit.
fn quota(text: &str) -> Option<u64> {
    let mut words = text.split_whitespace();
    let (quota, period): (u64, u64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (quota * 100).checked_div(period)
}

/// Returns the smallest limit of any disk; None for no limit.
fn of_disk(text: &str, key: &str) -> Option<u64> {
    text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_of_all_cgroups_above_counts() {
        let mount = tempfile::tempdir().unwrap();
        let write = |cgroup: &str, file: &str, text: &str| {
            let dir = mount.path().join(cgroup);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(file), text).unwrap();
        };
        write("a/b", "cpu.max", "max 100000\n");
        write("a", "cpu.max", "150000 100000\n");
        write("a/b", "pids.max", "512\n");
        write("a", "pids.max", "99\n");
        write("a/b", "memory.max", "max\n");
        write("a/b", "io.max", "8:0 rbps=max wbps=1000 riops=max wiops=max\n254:0 wbps=2000\n");
        let found = AllInForce::below(mount.path(), Path::new("a/b"));
        let limit = |value, cgroup: &str| Some(InForce { value, cgroup: cgroup.into() });
        assert_eq!(found.cpu_quota, limit(150, "/a"));
        assert_eq!(found.pids, limit(99, "/a"));
        assert_eq!(found.disk_bandwidth, limit(1000, "/a/b"));
        assert_eq!((found.memory, found.disk_iops), (None, None));
    }
}
