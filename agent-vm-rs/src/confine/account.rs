//! The account of a machine's processes when root starts it.

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

/// User and group ids that one machine each has.
const UNUSED: RangeInclusive<u32> = 1_879_048_192..=2_147_352_575;
/// Whether this host lets accounts without rights make namespaces, which is tried once.
static CAN_BE_OWN: OnceLock<bool> = OnceLock::new();

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
    /// Our own program, where the account makes the namespaces around its processes itself, with users of their own: see
    /// [`super::stage`]. Where it cannot, root makes them.
    pub stage: Option<PathBuf>,
}

impl Account {
    /// The account of a machine's processes; None if we are an ordinary user, who is good enough.
    ///
    /// # Errors
    /// As [`Self::shared`].
    pub fn unless_user(machine: &Path) -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let own = Self::own(machine).filter(|own| *CAN_BE_OWN.get_or_init(|| super::can_be_staged(own)));
        own.map_or_else(Self::shared, Ok).map(Some)
    }

    /// An account that this machine has alone, by the place that it is in. No host has a name for it: systemd's list of user
    /// ids (`UIDS-GIDS.md`) leaves these unused.
    fn own(machine: &Path) -> Option<Self> {
        let place = fs::canonicalize(machine).ok()?;
        let hash = Sha256::digest(place.as_os_str().as_bytes());
        let number = u32::from_be_bytes(*hash.first_chunk()?);
        let id = UNUSED.start() + number % (UNUSED.end() - UNUSED.start() + 1);
        Some(Self { uid: id, gid: id, groups: Vec::new(), stage: std::env::current_exe().ok() })
    }

    /// The account that all machines of this host share where they cannot have one each.
    ///
    /// # Errors
    /// There is none.
    fn shared() -> Result<Self> {
        let found = [NAME, SHARED].into_iter().find_map(ids);
        let (uid, gid) = found.with_context(|| format!("this host has neither an account {NAME} nor {SHARED}"))?;
        Ok(Self { uid, gid, groups: Vec::new(), stage: None })
    }

    /// Whether no program but machines runs as it.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.stage.is_some() || ids(NAME).is_some_and(|(uid, _)| uid == self.uid)
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
    fn each_machine_has_an_account_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = ["a", "b"].map(|name| {
            let machine = dir.path().join(name);
            fs::create_dir(&machine).unwrap();
            let account = Account::own(&machine).unwrap();
            assert!(UNUSED.contains(&account.uid) && account.uid == account.gid);
            // By whatever path it is reached.
            std::os::unix::fs::symlink(&machine, dir.path().join(format!("to-{name}"))).unwrap();
            assert_eq!(Account::own(&dir.path().join(format!("to-{name}"))).unwrap(), account);
            account.uid
        });
        assert_ne!(accounts[0], accounts[1]);
        assert!(Account::own(&dir.path().join("none")).is_none());
    }

    #[test]
    fn the_group_reads_what_is_made_later() {
        if !rustix::process::geteuid().is_root() {
            // Only root gives files away.
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
