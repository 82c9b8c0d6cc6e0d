//! A machine's directory for temporary files outside the state directory. The machine records its path, so that the next
//! command removes what a killed one left.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::host::files::{make_private_dir, plain, remove_file, remove_tree, write_file};
use crate::machine::Machine;
use crate::machine::paths::MachinePath;

/// Largest record in bytes: a longer path does not exist.
const LONGEST: u64 = 4096;

/// Creates and records the directory in `dir`, and returns its path. The caller holds the machine's lock.
///
/// # Errors
/// It cannot be created.
pub fn make(machine: &Machine, dir: &Path) -> Result<PathBuf> {
    remove(machine)?;
    let scratch = dir.join(name(machine));
    remove_tree(&scratch)?;
    // On a full disk there is no room for the record, and the user chose `dir` because of that.
    if let Err(error) =
        write_file(&MachinePath::ScratchElsewhere.of(&machine.dir), scratch.as_os_str().as_bytes(), 0o600)
    {
        tracing::info!("the temporary directory {} is not recorded: {error:#}", scratch.display());
    }
    make_private_dir(&scratch)?;
    Ok(scratch)
}

/// Removes the recorded directory, if there is one. The caller holds the machine's lock.
///
/// # Errors
/// It cannot be removed.
pub fn remove(machine: &Machine) -> Result<()> {
    let record = MachinePath::ScratchElsewhere.of(&machine.dir);
    let Some(path) = plain::read(&record, LONGEST)? else { return Ok(()) };
    let path = plain::path_in(&path, &machine.dir);
    if path.file_name().is_some_and(|found| found.as_bytes() == name(machine).as_bytes()) {
        remove_tree(&path)?;
    }
    remove_file(&record)
}

fn name(machine: &Machine) -> String {
    format!(".part-{}", machine.name)
}
