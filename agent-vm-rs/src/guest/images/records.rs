//! Files beside the images that are about them: lists of files, specifications, users, locks.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{NAME, PREPARED, lock_of, path_of, prepared_of, used_bytes};
use crate::host::files::remove_any;
use crate::host::lock::Lock;

/// Returns the files about an image beside it that exist, without its lock.
pub(super) fn of(guests: &Path, hash: &str) -> Vec<PathBuf> {
    let names = [
        format!(".spec-{hash}.json"),
        format!(".users-{hash}"),
        format!("{PREPARED}{hash}"),
        format!(".{NAME}{hash}.files.json"),
    ];
    names.into_iter().map(|name| guests.join(name)).filter(|path| path.symlink_metadata().is_ok()).collect()
}

/// Returns the hashes of images that do not exist, are not being built and have records, with the space of those.
#[must_use]
pub fn stale_records(guests: &Path) -> Vec<(String, u64)> {
    let names = fs::read_dir(guests).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let mut hashes: Vec<_> = names.filter_map(|name| hash_in(&name)).collect();
    hashes.sort();
    hashes.dedup();
    hashes.retain(|hash| is_stale(guests, hash));
    let bytes = |hash: &String| of(guests, hash).iter().map(|record| used_bytes(record)).sum();
    hashes.into_iter().map(|hash| (hash.clone(), bytes(&hash))).collect()
}

/// Returns the hash in the name of a record or a lock.
fn hash_in(name: &str) -> Option<String> {
    let starts = [".spec-", ".lock-", ".users-", ".debian-"];
    let rest = starts.iter().find_map(|start| name.strip_prefix(start))?;
    let hash = rest.trim_end_matches(".json").trim_end_matches(".files");
    let is_hash = hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| hash.to_owned())
}

/// Returns whether an image neither exists nor is being built: its builder holds the lock.
fn is_stale(guests: &Path, hash: &str) -> bool {
    let lock = lock_of(guests, hash);
    let is_held = || lock.exists() && matches!(Lock::try_take(&lock), Ok(None));
    !exists(guests, hash) && !is_held()
}

fn exists(guests: &Path, hash: &str) -> bool {
    path_of(guests, hash).exists() || prepared_of(guests, hash).exists()
}

/// Removes the records of an image that does not exist. Returns false if it exists or is built by now.
///
/// # Errors
/// One cannot be removed.
pub fn remove_records(guests: &Path, hash: &str) -> Result<bool> {
    let Some(lock) = Lock::try_take(&lock_of(guests, hash))? else { return Ok(false) };
    // A build may have ended meanwhile.
    if exists(guests, hash) {
        return Ok(false);
    }
    of(guests, hash).iter().try_for_each(|record| remove_any(record))?;
    lock.retire()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_removed_without_an_image_and_its_builder() {
        let dir = tempfile::tempdir().unwrap();
        let guests = dir.path().to_owned();
        let (left, built, own, ready) =
            ("fedcba9876543210", "aaaabbbbccccdddd", "0123456789abcdef", "1111222233334444");
        fs::create_dir(path_of(&guests, own)).unwrap();
        fs::create_dir(prepared_of(&guests, ready)).unwrap();
        for hash in [left, built, own, ready] {
            fs::write(lock_of(&guests, hash), "").unwrap();
            fs::write(guests.join(format!(".spec-{hash}.json")), "{}").unwrap();
            fs::create_dir(guests.join(format!(".users-{hash}"))).unwrap();
        }
        fs::write(guests.join("else"), "").unwrap();
        let _builder = Lock::try_take(&lock_of(&guests, built)).unwrap().unwrap();
        let stale: Vec<_> = stale_records(&guests).into_iter().map(|(hash, _)| hash).collect();
        assert_eq!(stale, [left]);
        for (hash, removed) in [(left, true), (built, false), (own, false), (ready, false)] {
            assert_eq!(remove_records(&guests, hash).unwrap(), removed, "{hash}");
            assert_eq!(lock_of(&guests, hash).exists() || !of(&guests, hash).is_empty(), !removed, "{hash}");
        }
        assert!(guests.join("else").exists());
    }
}
