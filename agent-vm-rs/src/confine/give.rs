//! Files given to the account of a machine's processes.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fstat, openat, openat2};
use rustix::path::Arg;

use super::Account;
use crate::state::tree::entries;

/// Gives a file, or a directory with all that is in it, to an account: by descriptors, so that nothing but what is there is
/// given. Links are given themselves, not what they lead to. A file with more names than one has them all in the workspace:
/// the guest, and what serves it, have no other directory to link from, and chown(2) clears setuid bits.
///
/// # Errors
/// Something cannot be given.
pub fn give(path: &Path, account: &Account) -> Result<()> {
    let failed = |place: &Path| format!("failed to give {} to the account of the machines", place.display());
    let root = hold(CWD, path).with_context(|| failed(path))?;
    let mut directories = Vec::new();
    if give_held(&root, account).with_context(|| failed(path))? {
        directories.push(PathBuf::from("."));
    }
    while let Some(directory) = directories.pop() {
        let shown = path.join(&directory);
        let opened = open_inside(&root, &directory).with_context(|| failed(&shown))?;
        for entry in entries(&opened).with_context(|| failed(&shown))? {
            let (name, _) = entry.with_context(|| failed(&shown))?;
            let place = directory.join(OsStr::from_bytes(name.to_bytes()));
            let held = hold(&opened, &name).with_context(|| failed(&path.join(&place)))?;
            if give_held(&held, account).with_context(|| failed(&path.join(&place)))? {
                directories.push(place);
            }
        }
    }
    Ok(())
}

/// Holds what has a name now, a link itself if it is one.
fn hold(dir: impl AsFd, name: impl Arg) -> io::Result<OwnedFd> {
    Ok(openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens a directory below another, through no link.
fn open_inside(root: &OwnedFd, directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat2(root, directory, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)?)
}

/// Gives what is held; says whether it is a directory.
fn give_held(held: &OwnedFd, account: &Account) -> io::Result<bool> {
    let found = fstat(held)?;
    if found.st_uid != account.uid || found.st_gid != account.gid {
        let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
        chownat(held, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    }
    Ok(FileType::from_raw_mode(found.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::state::tree::tests::{seen, while_exchanged};

    #[test]
    fn links_are_given_and_what_they_lead_to_is_not() {
        if !rustix::process::geteuid().is_root() {
            // Only root gives files away.
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, "").unwrap();
        let inside = dir.path().join("inside");
        fs::create_dir_all(inside.join("deep")).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("deep/link")).unwrap();
        std::os::unix::fs::symlink(dir.path(), inside.join("up")).unwrap();
        give(&inside, &Account { uid: 65534, gid: 65534, groups: Vec::new() }).unwrap();
        let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
        assert_eq!(owner(&outside), 0);
        assert_eq!([owner(&inside), owner(&inside.join("deep/link")), owner(&inside.join("up"))], [65534; 3]);
    }
    #[test]
    fn what_is_exchanged_for_a_link_meanwhile_is_not_given() {
        if !rustix::process::geteuid().is_root() {
            // Only root gives files away.
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let outside = crate::state::tree::tests::outside(dir.path());
        let before = seen(&outside);
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let account = Account { uid: 65534, gid: 65534, groups: Vec::new() };
        // Whether it succeeds depends on who is faster.
        while_exchanged(&tree, &outside, || drop(give(&tree, &account)));
        assert_eq!(seen(&outside), before);
        give(&tree, &account).unwrap();
        assert!(seen(&tree).values().all(|(uid, ..)| *uid == 65534));
    }
}
