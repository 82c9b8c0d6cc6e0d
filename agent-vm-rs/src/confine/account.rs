//! The unprivileged account of a machine's processes when root starts it.

use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, Gid, chownat};
use sha2::{Digest as _, Sha256};

use crate::host::process::Invocation;

/// Range of user and group ids, of which each machine has one.
const UNUSED: RangeInclusive<u32> = 1_879_048_192..=2_147_352_575;
/// Whether unprivileged accounts may create namespaces on this host; tried once.
static CAN_BE_OWN: OnceLock<bool> = OnceLock::new();

/// Name of the account that set-up creates.
const NAME: &str = "agent-vm";
/// Fallback account, which exists on every host. Other programs may run as it and access our processes.
const SHARED: &str = "nobody";

/// An unprivileged account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary group ids: KVM's where it is used.
    pub groups: Vec<u32>,
    /// Path of agent-vm, if the account itself creates the namespaces around its processes, with user namespaces: see
    /// [`super::stage`]. None if root creates them.
    pub stage: Option<PathBuf>,
}

impl Account {
    /// Returns the account of a machine's processes; None if we are an ordinary user, whose processes run as that user.
    ///
    /// # Errors
    /// See [`Self::shared`].
    pub fn unless_user(machine: &Path) -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let own = Self::own(machine).filter(|own| *CAN_BE_OWN.get_or_init(|| super::can_be_staged(own)));
        own.map_or_else(Self::shared, Ok).map(Some)
    }

    /// Returns the account that only this machine uses, derived from its directory. It has no name: systemd's list of user ids
    /// (`UIDS-GIDS.md`) leaves this range unused.
    fn own(machine: &Path) -> Option<Self> {
        let place = fs::canonicalize(machine).ok()?;
        let hash = Sha256::digest(place.as_os_str().as_bytes());
        let number = u32::from_be_bytes(*hash.first_chunk()?);
        let id = UNUSED.start() + number % (UNUSED.end() - UNUSED.start() + 1);
        Some(Self { uid: id, gid: id, groups: Vec::new(), stage: crate::host::programs::own_path().ok() })
    }

    /// Returns the account that the machines of this host share if they cannot have one each.
    ///
    /// # Errors
    /// Neither account exists.
    fn shared() -> Result<Self> {
        let found = [NAME, SHARED].into_iter().find_map(ids);
        let (uid, gid) = found.with_context(|| format!("this host has neither an account {NAME} nor {SHARED}"))?;
        Ok(Self { uid, gid, groups: Vec::new(), stage: None })
    }

    /// Checks whether only machines run as it.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.stage.is_some() || ids(NAME).is_some_and(|(uid, _)| uid == self.uid)
    }

    /// Returns the account with the group that owns a device as a supplementary group, unless that is root's.
    #[must_use]
    pub fn with_device(&self, device: &Path) -> Self {
        let group = fs::metadata(device).map(|device| device.gid()).ok().filter(|gid| *gid != 0);
        Self { groups: group.into_iter().collect(), ..self.clone() }
    }

    /// Gives the account's group read access to a directory and to files created there later.
    ///
    /// # Errors
    /// The directory's group or mode cannot be changed.
    pub fn may_read(&self, dir: &Path) -> Result<()> {
        chownat(CWD, dir, None, Some(Gid::from_raw(self.gid)), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(std::io::Error::from)
            // Set-group-ID: new files get the directory's group (inode(7)).
            .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o2750)))
            .with_context(|| format!("failed to give the machine's account read access to {}", dir.display()))
    }
}

/// Returns the user and group id of an account other than root.
fn ids(name: &str) -> Option<(u32, u32)> {
    let id = |flag: &str| -> Option<u32> { Invocation::new("id").args([flag, "--", name]).read().ok()?.parse().ok() };
    id("-u").zip(id("-g")).filter(|(uid, _)| *uid != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_have_different_accounts() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = ["a", "b"].map(|name| {
            let machine = dir.path().join(name);
            fs::create_dir(&machine).unwrap();
            let account = Account::own(&machine).unwrap();
            assert!(UNUSED.contains(&account.uid) && account.uid == account.gid);
            // A link to the directory gives the same account.
            std::os::unix::fs::symlink(&machine, dir.path().join(format!("to-{name}"))).unwrap();
            assert_eq!(Account::own(&dir.path().join(format!("to-{name}"))).unwrap(), account);
            account.uid
        });
        assert_ne!(accounts[0], accounts[1]);
        assert!(Account::own(&dir.path().join("none")).is_none());
    }

    #[test]
    fn the_group_can_read_files_created_later() {
        if !rustix::process::geteuid().is_root() {
            crate::term::skip_test("only root can change the owner of a file");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        Account { uid: 65534, gid: 65534, groups: Vec::new(), stage: None }.may_read(dir.path()).unwrap();
        let file = dir.path().join("rules");
        crate::host::files::write_file(&file, "", 0o640).unwrap();
        let is = |path: &Path| {
            let seen = fs::metadata(path).unwrap();
            (seen.uid(), seen.gid(), seen.mode() & 0o7777)
        };
        assert_eq!((is(dir.path()), is(&file)), ((0, 65534, 0o2750), (0, 65534, 0o640)));
    }
}
