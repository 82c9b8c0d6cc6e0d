//! The account of a machine's processes when root starts it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, Gid, chownat};

use crate::process::Invocation;

/// Its name: set-up makes it.
const NAME: &str = "agent-vm";
/// Every host has it; other programs may run as it, too, and look into ours.
const SHARED: &str = "nobody";

/// An account without rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Groups besides, by id: KVM's where it is used.
    pub groups: Vec<u32>,
}

impl Account {
    /// None if we are an ordinary user, who is good enough.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn unless_user() -> Result<Option<Self>> {
        rustix::process::geteuid().is_root().then(Self::find).transpose()
    }

    /// The account of this host.
    ///
    /// # Errors
    /// There is none.
    pub fn find() -> Result<Self> {
        let found = [NAME, SHARED].into_iter().find_map(ids);
        let (uid, gid) = found.with_context(|| format!("this host has neither an account {NAME} nor {SHARED}"))?;
        Ok(Self { uid, gid, groups: Vec::new() })
    }

    /// Whether it is the machines' alone.
    #[must_use]
    pub fn is_own(&self) -> bool {
        ids(NAME).is_some_and(|(uid, _)| uid == self.uid)
    }

    /// The same in the group that may use a device, unless that is root's, which may do more.
    #[must_use]
    pub fn with_device(&self, device: &Path) -> Self {
        let group = fs::metadata(device).map(|device| device.gid()).ok().filter(|gid| *gid != 0);
        Self { groups: group.into_iter().collect(), ..self.clone() }
    }

    /// Lets its group read a directory and the files that are made there from now on, if their mode says so.
    ///
    /// # Errors
    /// The directory's group or mode cannot be changed.
    pub fn may_read(&self, dir: &Path) -> Result<()> {
        chownat(CWD, dir, None, Some(Gid::from_raw(self.gid)), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(std::io::Error::from)
            // Set-group-ID: what is made there has the directory's group (inode(7)).
            .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o2750)))
            .with_context(|| format!("failed to let the account of the machines read {}", dir.display()))
    }
}

/// User and group of an account that is not root's.
fn ids(name: &str) -> Option<(u32, u32)> {
    let id = |flag: &str| -> Option<u32> { Invocation::new("id").args([flag, "--", name]).read().ok()?.parse().ok() };
    id("-u").zip(id("-g")).filter(|(uid, _)| *uid != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_reads_what_is_made_later() {
        if !rustix::process::geteuid().is_root() {
            // Only root gives files away.
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        Account { uid: 65534, gid: 65534, groups: Vec::new() }.may_read(dir.path()).unwrap();
        let file = dir.path().join("rules");
        crate::state::write_file(&file, "", 0o640).unwrap();
        let is = |path: &Path| {
            let seen = fs::metadata(path).unwrap();
            (seen.uid(), seen.gid(), seen.mode() & 0o7777)
        };
        assert_eq!((is(dir.path()), is(&file)), ((0, 65534, 0o2750), (0, 65534, 0o640)));
    }
}
