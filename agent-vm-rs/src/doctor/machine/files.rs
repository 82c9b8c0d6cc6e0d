//! The files of a machine: keys, disk, workspace, and the repository it was made from.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use crate::confine::Account;
use crate::doctor::fault::Fault;
use crate::doctor::finding::Finding;
use crate::host::account;
use crate::machine::Machine;
use crate::machine::paths::MachinePath;
use crate::machine::settings::Settings;
use crate::vm::disk;

/// Files that nobody else may read.
const SECRET: [MachinePath; 6] = [
    MachinePath::LoginKey,
    MachinePath::HostKey,
    MachinePath::TlsAuthorityKey,
    MachinePath::TlsToken,
    MachinePath::EgressAuthorityBoth,
    MachinePath::EgressSecrets,
];

/// Checks the machine's files.
pub fn check(machine: &Machine, settings: &Settings) -> Vec<Finding> {
    let mut all = vec![kinds(machine)];
    all.extend(keys(machine));
    all.extend([disk(machine), workspace(machine), source(machine, settings)]);
    all
}

fn kinds(machine: &Machine) -> Finding {
    match machine.check() {
        Ok(()) => Finding::ok("files", "complete"),
        Err(error) => Finding::fault("files", Fault::FileWrong, format!("{error:#}")),
    }
}

/// Returns every key that others may read, or one finding if there is none.
fn keys(machine: &Machine) -> Vec<Finding> {
    const CHECK: &str = "keys";
    let mut all = Vec::new();
    if machine.dir.metadata().is_ok_and(|found| found.permissions().mode() & 0o077 != 0) {
        let found = Finding::fault(CHECK, Fault::DirectoryOpen, "other users may enter the machine's directory");
        all.push(found.with_path(&machine.dir));
    }
    let account = Account::unless_user(&machine.dir).ok().flatten().map(|account| account.uid);
    let owners = [Some(0), Some(rustix::process::geteuid().as_raw()), account];
    for path in SECRET {
        let place = path.of(&machine.dir);
        let Ok(found) = place.symlink_metadata() else { continue };
        all.extend(judge_key(path.name(), &place, found.mode(), owners.contains(&Some(found.uid()))));
    }
    if all.is_empty() { vec![Finding::ok(CHECK, "only their owner can read them")] } else { all }
}

fn judge_key(name: &str, place: &Path, mode: u32, is_ours: bool) -> Option<Finding> {
    const CHECK: &str = "keys";
    let found = if mode & 0o077 != 0 {
        Finding::fault(CHECK, Fault::KeyOpen, format!("{name} has mode {:04o}: others can read it", mode & 0o7777))
    } else if !is_ours {
        Finding::fault(CHECK, Fault::KeyOwner, format!("{name} belongs to another user")).with("user", account::name())
    } else {
        return None;
    };
    Some(found.with_path(place))
}

/// Checks the disk's header and, while no QEMU writes to it, its tables.
fn disk(machine: &Machine) -> Finding {
    const CHECK: &str = "disk";
    let place = MachinePath::Disk.of(&machine.dir);
    if place.symlink_metadata().is_err() {
        return Finding::ok(CHECK, "the first start makes it");
    }
    let runs = machine.run().qemu().is_some();
    let trouble = if runs { Ok(None) } else { disk::trouble(&place).map_err(|error| format!("{error:#}")) };
    judge_disk(trouble, disk::size_mib(&place))
}

fn judge_disk(trouble: Result<Option<String>, String>, size_mib: Option<u32>) -> Finding {
    const CHECK: &str = "disk";
    match (trouble, size_mib) {
        (Ok(None), Some(size)) => Finding::ok(CHECK, format!("a complete image of {size} MiB")),
        (Ok(None), None) => Finding::fault(CHECK, Fault::DiskDamaged, "it is not a qcow2 image"),
        (Ok(Some(why)) | Err(why), _) => Finding::fault(CHECK, Fault::DiskDamaged, why),
    }
}

fn workspace(machine: &Machine) -> Finding {
    const CHECK: &str = "workspace";
    // Git must not run here: the guest owns that repository.
    let is_there = |name: &str| machine.workspace().join(name).symlink_metadata().is_ok();
    if is_there(".git/HEAD") && is_there(".git/objects") {
        return Finding::ok(CHECK, "a git repository");
    }
    Finding::fault(CHECK, Fault::WorkspaceBroken, "it has no git repository: the guest removed it, or it was moved")
}

fn source(machine: &Machine, settings: &Settings) -> Finding {
    const CHECK: &str = "source";
    if !machine.has_lost_source(settings) {
        return Finding::ok(CHECK, settings.source.display().to_string());
    }
    let why = if Machine::may_be_unmounted(settings) { "; its disk may not be mounted" } else { "" };
    Finding::fault(CHECK, Fault::SourceMissing, format!("{} is missing{why}", settings.source.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_disks_are_judged() {
        let fault = |mode, is_ours| judge_key("ssh/id", Path::new("/m/ssh/id"), mode, is_ours)?.fault;
        assert_eq!(fault(0o100_600, true), None);
        assert_eq!(fault(0o100_640, true), Some(Fault::KeyOpen));
        assert_eq!(fault(0o100_600, false), Some(Fault::KeyOwner));
        assert_eq!(judge_disk(Ok(None), Some(20_480)).fault, None);
        assert_eq!(judge_disk(Ok(None), None).fault, Some(Fault::DiskDamaged));
        assert_eq!(judge_disk(Ok(Some("truncated".to_owned())), Some(1)).fault, Some(Fault::DiskDamaged));
        assert_eq!(judge_disk(Err("denied".to_owned()), None).fault, Some(Fault::DiskDamaged));
    }
}
