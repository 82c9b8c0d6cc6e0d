//! Who uses a running machine: commands of the user lock a file while they do, and queries of our own are marked, because they
//! make the machine work and are no use of it.

use std::fs::{File, FileTimes, OpenOptions};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};
use rustix::io::Errno;

use crate::host::interrupt::{self, Deadline};
use crate::machine::paths::MachinePath;

/// Address that our own connections to a machine come from. Clients do not use it, and every address of 127.0.0.0/8 is this host.
pub const OWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 86, 77, 1);

/// Longest time for which the watcher stops a machine, and between two looks whether it has.
const STOPPING: Duration = Duration::from_secs(30);
const MOMENT: Duration = Duration::from_millis(20);

/// Number of marks after which the file of the marks gives its space back, in bytes: a whole number of any file system's blocks.
const GIVEN_BACK: u64 = 64 << 10;

/// A use that lasts as long as this value. It also ends with this process.
#[derive(Debug)]
pub struct InUse(Option<File>);

/// Begins a use of the machine in `machine`. Waits while the watcher stops it. A machine that does not run is not used.
#[must_use]
pub fn begin(machine: &Path) -> InUse {
    begin_within(machine, STOPPING)
}

/// Begins a use as [`begin`] does. A watcher that needs longer is suspended, and stops nothing.
fn begin_within(machine: &Path, limit: Duration) -> InUse {
    let deadline = Deadline::after(limit);
    let locked = |file: &File| loop {
        match flock(file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => return true,
            // Not a lock that waits: no signal would end it.
            Err(Errno::WOULDBLOCK | Errno::INTR) if !deadline.passed() && interrupt::pause(MOMENT).is_ok() => {}
            Err(_) => return false,
        }
    };
    InUse(open(&MachinePath::InUse.of(machine)).filter(locked).inspect(touch))
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.iter().for_each(touch);
    }
}

/// Records a use that ends at once.
pub fn note(machine: &Path) {
    drop(begin(machine));
}

/// The uses of a machine at one moment.
#[derive(Debug, PartialEq, Eq)]
pub struct Uses {
    /// Whether a command uses it now.
    pub now: bool,
    /// When the last use began or ended.
    pub last: Option<SystemTime>,
}

/// Returns the uses of the machine in `machine`.
#[must_use]
pub fn uses(machine: &Path) -> Uses {
    let last = last(machine);
    Uses { now: last.is_some() && unused(machine).is_none(), last }
}

/// Returns when the last use of the machine in `machine` began or ended.
#[must_use]
pub fn last(machine: &Path) -> Option<SystemTime> {
    MachinePath::InUse.of(machine).symlink_metadata().ok()?.modified().ok()
}

/// Returns a lock that no use can begin under; None if the machine is used.
#[must_use]
pub fn unused(machine: &Path) -> Option<File> {
    let file = open(&MachinePath::InUse.of(machine))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

/// A query of our own, as long as this value. Its begin and its end are marked.
#[derive(Debug)]
pub struct Query(PathBuf);

impl Query {
    /// Begins a query of the machine in `machine`.
    #[must_use]
    pub fn begin(machine: &Path) -> Self {
        let query = Self(MachinePath::Queries.of(machine));
        query.mark();
        query
    }

    fn mark(&self) {
        if let Some(mut file) = open(&self.0) {
            drop(file.write_all(b".").and_then(|()| give_back(&file)));
        }
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        self.mark();
    }
}

/// Gives back the space of a file whose length is the number of marks, and keeps the length. Marks need no lock that way.
fn give_back(file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    if length.is_multiple_of(GIVEN_BACK) {
        fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, length)?;
    }
    Ok(())
}

/// Returns the number of begins and ends of our own queries in this run. Those that were killed have no end.
#[must_use]
pub fn marks(machine: &Path) -> u64 {
    MachinePath::Queries.of(machine).symlink_metadata().map_or(0, |found| found.len())
}

fn open(path: &Path) -> Option<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path).ok()
}

fn touch(file: &File) {
    drop(file.set_times(FileTimes::new().set_modified(SystemTime::now())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_last_as_long_as_their_values() {
        let dir = tempfile::tempdir().unwrap();
        let machine = dir.path();
        // Without a run, nothing is recorded.
        drop(begin(machine));
        drop(Query::begin(machine));
        assert_eq!((uses(machine), marks(machine)), (Uses { now: false, last: None }, 0));
        std::fs::create_dir(MachinePath::Run.of(machine)).unwrap();
        let (first, second) = (begin(machine), begin(machine));
        assert!(uses(machine).now && unused(machine).is_none());
        drop(first);
        assert!(uses(machine).now);
        let began = uses(machine).last;
        drop(second);
        let after = uses(machine);
        assert!(!after.now && after.last > began, "{after:?} {began:?}");
        note(machine);
        assert!(uses(machine).last > after.last);
        let locked = unused(machine).unwrap();
        assert!(unused(machine).is_none());
        // A watcher that was suspended while it stopped the machine holds up no command for ever.
        let limit = Duration::from_millis(50);
        assert!(begin_within(machine, limit).0.is_none());
        drop(locked);
        assert!(begin_within(machine, limit).0.is_some());
        let query = Query::begin(machine);
        assert_eq!(marks(machine), 1);
        drop(query);
        assert_eq!(marks(machine), 2);
    }

    #[test]
    fn marks_take_no_more_space_the_longer_a_machine_runs() {
        use std::os::unix::fs::MetadataExt as _;

        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(MachinePath::Run.of(dir.path())).unwrap();
        let file = MachinePath::Queries.of(dir.path());
        let space = || file.metadata().unwrap().blocks() * 512;
        std::fs::write(&file, vec![b'.'; usize::try_from(4 * GIVEN_BACK - 1).unwrap()]).unwrap();
        assert!(space() >= 3 * GIVEN_BACK);
        let query = Query::begin(dir.path());
        assert_eq!(marks(dir.path()), 4 * GIVEN_BACK);
        assert!(space() < GIVEN_BACK, "{}", space());
        drop(query);
        assert_eq!(marks(dir.path()), 4 * GIVEN_BACK + 1);
    }
}
