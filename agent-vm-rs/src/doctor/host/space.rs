//! Free space and inodes where machines and built guests are.

use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use crate::doctor::fault::Fault;
use crate::doctor::finding::Finding;
use crate::host::user_dirs::cache_dir;
use crate::machine::Machine;
use crate::machine::state_dir::StateDir;
use crate::term::text::bytes;

/// Free bytes below which a guest cannot be built.
const LEAST: u64 = 1 << 30;
/// Free bytes below which there is a warning: a guest and a machine need about this.
const LOW: u64 = 5 << 30;
/// Share of the inodes, in percent, below which there is a warning.
const INODES: u64 = 5;

/// A file system's free space.
struct Free {
    bytes: u64,
    inodes: u64,
    all_inodes: u64,
}

/// Checks the file systems of the state directory and of the cache.
pub fn check(state: &StateDir, _: &[Machine]) -> Vec<Finding> {
    let places = [("state-space", Some(state.path().to_owned())), ("cache-space", cache_dir().ok())];
    places.into_iter().filter_map(|(check, place)| Some(judge(check, &place.clone()?, look(&place?)))).collect()
}

fn look(place: &Path) -> Result<Free, String> {
    // A directory that does not exist yet will be on the file system of the one above it.
    let there: PathBuf = place.ancestors().find(|above| above.exists()).unwrap_or(place).to_owned();
    let found = statvfs(&there).map_err(|error| error.to_string())?;
    Ok(Free { bytes: found.f_bavail * found.f_frsize, inodes: found.f_favail, all_inodes: found.f_files })
}

fn judge(check: &'static str, place: &Path, found: Result<Free, String>) -> Finding {
    let shown = place.display();
    let fault = |fault, message| Finding::fault(check, fault, message).with_path(place);
    match found {
        Err(why) => fault(Fault::PlaceUnusable, format!("{shown}: {why}")),
        Ok(free) if free.bytes < LEAST => fault(Fault::SpaceGone, format!("{} free in {shown}", bytes(free.bytes))),
        Ok(free) if free.bytes < LOW => fault(Fault::SpaceLow, format!("{} free in {shown}", bytes(free.bytes))),
        // Some file systems make inodes as they need them.
        Ok(free) if free.all_inodes > 0 && free.inodes / free.all_inodes.div_ceil(100).max(1) < INODES => {
            fault(Fault::InodesLow, format!("{} of {} inodes free in {shown}", free.inodes, free.all_inodes))
        }
        Ok(free) => Finding::ok(check, format!("{} free in {shown}", bytes(free.bytes))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_and_inodes_are_judged() {
        let judged = |bytes, inodes, all_inodes| {
            judge("state-space", Path::new("/state"), Ok(Free { bytes, inodes, all_inodes })).fault
        };
        assert_eq!(judged(LOW, 90, 100), None);
        assert_eq!(judged(LOW, 0, 0), None);
        assert_eq!(judged(LOW - 1, 90, 100), Some(Fault::SpaceLow));
        assert_eq!(judged(LEAST - 1, 90, 100), Some(Fault::SpaceGone));
        assert_eq!(judged(LOW, 40_000, 1_000_000), Some(Fault::InodesLow));
        assert_eq!(judge("x", Path::new("/a b"), Err("denied".into())).fault, Some(Fault::PlaceUnusable));
        assert!(look(Path::new("/no/such/directory")).is_ok());
    }
}
