//! Manages the machine's own disk: an ext4 file system in a sparse qcow2 image.

mod qcow2;

pub use self::qcow2::trouble;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::host::files::{has_file, remove_file, rename_durably, sync_file};
use crate::host::process::Invocation;
use crate::machine::Machine;
use crate::machine::paths::MachinePath;
use crate::machine::sweep::scratch_name;
use crate::term::error::Failure;

/// Creates the disk if it does not exist. `size` is in MiB.
///
/// # Errors
/// mke2fs or qemu-img is missing or fails; no partial disk is left behind. Or the existing disk is damaged; only the
/// user can decide whether to give it up.
pub fn ensure(machine: &Machine, label: &str, size: u32) -> Result<()> {
    let disk = MachinePath::Disk.of(&machine.dir);
    if has_file(&disk)? {
        let Some(trouble) = qcow2::trouble(&disk)? else { return Ok(()) };
        let name = &machine.name;
        return Err(Failure::new(format!("cannot use the disk {}: {trouble}", disk.display()))
            .with_hint(format!(
                "for a new disk beside the old one (the workspace is on neither): agent-vm start {name} --new-disk"
            ))
            .into());
    }
    let machine = &machine.dir;
    let (raw, image) = (machine.join(scratch_name("disk.raw")), machine.join(scratch_name("disk.qcow2")));
    let made = make(&raw, &image, label, size, machine);
    remove_file(&raw)?;
    made.and_then(|()| sync_file(&image))
        .and_then(|()| rename_durably(&image, &disk))
        .with_context(|| format!("failed to create the disk {}", disk.display()))
}

/// Returns the size of a disk in MiB; None if it does not exist or is not a qcow2 image.
#[must_use]
pub fn size_mib(disk: &Path) -> Option<u32> {
    u32::try_from(qcow2::size(disk)? >> 20).ok().filter(|size| *size > 0)
}

/// Renames the disk, so that the next start creates a new one. Returns the new path; None if there was no disk.
///
/// # Errors
/// It cannot be renamed.
pub fn put_aside(machine: &Machine) -> Result<Option<PathBuf>> {
    let disk = MachinePath::Disk.of(&machine.dir);
    if disk.symlink_metadata().is_err() {
        return Ok(None);
    }
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let free = |place: &PathBuf| place.symlink_metadata().is_err();
    let place = |number: u32| machine.dir.join(format!("{}.{stamp}-{number}", MachinePath::Disk.name()));
    let aside = (1..).map(place).find(free).context("no unused name for the old disk is left")?;
    rename_durably(&disk, &aside)?;
    Ok(Some(aside))
}

fn make(raw: &Path, image: &Path, label: &str, size: u32, machine: &Path) -> Result<()> {
    remove_file(raw)?;
    Invocation::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-m", "0", "-L", label, "-E", "root_owner=0:0"])
        .arg(raw)
        .arg(format!("{size}M"))
        .of_machine(machine)
        .checked()?;
    Invocation::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "qcow2"])
        .args([raw, image])
        .of_machine(machine)
        .checked()?;
    Ok(())
}
