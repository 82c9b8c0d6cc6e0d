//! Files given to the account of a machine's processes.

use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, Gid, Uid, chownat};

use super::Account;
use crate::host::files::walk::walk;

/// Gives a file, or a directory with all that is in it, to an account: by descriptors, so that nothing but what is there is
/// given. Links are given themselves, not what they lead to. A file with more names than one has them all in the workspace:
/// the guest, and what serves it, have no other directory to link from, and chown(2) clears setuid bits.
///
/// # Errors
/// Something cannot be given.
pub fn chown_tree(path: &Path, account: &Account) -> Result<()> {
    walk(path, |held, found| {
        if found.st_uid == account.uid && found.st_gid == account.gid {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
        Ok(chownat(held, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?)
    })
    .context("failed to give files to the account of the machines")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::host::files::tree::tests::{seen, while_exchanged};

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
        chown_tree(&inside, &Account { uid: 65534, gid: 65534, groups: Vec::new(), stage: None }).unwrap();
        let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
        assert_eq!(owner(&outside), 0);
        assert_eq!([owner(&inside), owner(&inside.join("deep/link")), owner(&inside.join("up"))], [65534; 3]);
    }

    /// A guest may nest directories deeper than any path.
    #[test]
    fn what_no_path_reaches_is_given() {
        if !rustix::process::geteuid().is_root() {
            // Only root gives files away.
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
    fn what_is_exchanged_for_a_link_meanwhile_is_not_given() {
        if !rustix::process::geteuid().is_root() {
            // Only root gives files away.
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let outside = crate::host::files::tree::tests::outside(dir.path());
        let before = seen(&outside);
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let account = Account { uid: 65534, gid: 65534, groups: Vec::new(), stage: None };
        // Whether it succeeds depends on who is faster.
        while_exchanged(&tree, &outside, || drop(chown_tree(&tree, &account)));
        assert_eq!(seen(&outside), before);
        chown_tree(&tree, &account).unwrap();
        assert!(seen(&tree).values().all(|(uid, ..)| *uid == 65534));
    }
}
