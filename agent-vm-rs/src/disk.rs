//! The machine's own disk: an ext4 file system in a sparse qcow2 image.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::process::Invocation;
use crate::state::{has_file, remove_file, rename_durably, sync_file};

/// Makes the disk unless it is there. `size` is in MiB.
///
/// # Errors
/// mke2fs or qemu-img is missing or fails; nothing half-made is left under the disk's name.
pub fn ensure(machine: &Path, label: &str, size: u32) -> Result<()> {
    let disk = machine.join("disk.qcow2");
    if has_file(&disk)? {
        return Ok(());
    }
    let (raw, image) = (machine.join(".tmp-disk.raw"), machine.join(".tmp-disk.qcow2"));
    let made = make(&raw, &image, label, size, machine);
    remove_file(&raw)?;
    made.and_then(|()| sync_file(&image))
        .and_then(|()| rename_durably(&image, &disk))
        .with_context(|| format!("failed to make the disk {}", disk.display()))
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
