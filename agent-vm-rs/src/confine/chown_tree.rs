//! Changing the owner of files: to the account of a machine's processes, and back to the user.

use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, Gid, Uid, chownat};
use rustix::process::{getegid, geteuid};

use super::Account;
use crate::host::files::walk::walk;

/// Changes the owner of a file, or of a directory and everything in it, to an account. It works by descriptors, so that files
/// that are replaced meanwhile do no harm. Links themselves are changed, not their targets. All hard links of a file are in
/// the workspace: the guest and virtiofsd see no other directory. chown(2) clears setuid bits.
///
/// # Errors
/// The owner of something cannot be changed.
pub fn chown_tree(path: &Path, account: &Account) -> Result<()> {
    change_owner(path, Uid::from_raw(account.uid), Gid::from_raw(account.gid))
        .context("failed to change the owner of files to the machine's account")
}

/// Changes the owner of everything at a path to the user who runs agent-vm, as [`chown_tree`] does. The machine must not
/// run any more. Only root's machines have another owner.
///
/// # Errors
/// The owner of something cannot be changed.
pub fn take_tree(path: &Path) -> Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    change_owner(path, geteuid(), getegid()).context("failed to change the owner of files to root")
}

fn change_owner(path: &Path, uid: Uid, gid: Gid) -> Result<()> {
    walk(path, |held, found| {
        if found.st_uid == uid.as_raw() && found.st_gid == gid.as_raw() {
            return Ok(());
        }
        Ok(chownat(held, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::host::files::tree::tests::{seen, while_exchanged};

    #[test]
    fn links_are_changed_and_their_targets_are_not() {
        if !rustix::process::geteuid().is_root() {
            crate::term::skip_test("only root can change the owner of a file");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, "").unwrap();
        let inside = dir.path().join("inside");
        fs::create_dir_all(inside.join("deep")).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("deep/link")).unwrap();
        std::os::unix::fs::symlink(dir.path(), inside.join("up")).unwrap();
        chown_tree(&inside, &Account { uid: 65534, gid: 65534, groups: Vec::new(), stage: None }).unwrap();
        let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
        assert_eq!(owner(&outside), 0);
        assert_eq!([owner(&inside), owner(&inside.join("deep/link")), owner(&inside.join("up"))], [65534; 3]);
    }

    /// Tests a tree deeper than `PATH_MAX`, which a guest can create.
    #[test]
    fn trees_deeper_than_any_path_are_changed() {
        if !rustix::process::geteuid().is_root() {
            crate::term::skip_test("only root can change the owner of a file");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        crate::host::files::walk::tests::deep(&tree, 100);
        chown_tree(&tree, &Account { uid: 65534, gid: 65534, groups: Vec::new(), stage: None }).unwrap();
        let mut given = 0;
        walk(&tree, |_, found| {
            given += usize::from(found.st_uid == 65534);
            Ok(())
        })
        .unwrap();
        assert_eq!(given, 201);
        crate::host::files::tree::remove_tree(&tree).unwrap();
    }

    #[test]
    fn a_link_that_replaces_a_directory_is_never_followed() {
        if !rustix::process::geteuid().is_root() {
            crate::term::skip_test("only root can change the owner of a file");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let outside = crate::host::files::tree::tests::outside(dir.path());
        let before = seen(&outside);
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let account = Account { uid: 65534, gid: 65534, groups: Vec::new(), stage: None };
        // Either outcome is possible, depending on timing.
        while_exchanged(&tree, &outside, || drop(chown_tree(&tree, &account)));
        assert_eq!(seen(&outside), before);
        chown_tree(&tree, &account).unwrap();
        assert!(seen(&tree).values().all(|(uid, ..)| *uid == 65534));
    }
}
