//! Removes what was kept. The caller holds the lock.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::find::{Kept, Presence};
use super::name::Named;
use super::record;
use crate::git::workspace::finish_all;
use crate::host::files::{remove_any, rename_durably};
use crate::machine::Machine;
use crate::machine::state_dir::StateDir;

/// Prefix of what is being removed.
const GONE: &str = ".gone-";

/// Removes a kept bundle or workspace, and its record.
///
/// # Errors
/// It cannot be removed. If the removal has begun, [`remove_rests`] completes it.
pub fn remove(state: &StateDir, kept: &Kept) -> Result<()> {
    let name = kept.path.file_name().and_then(OsStr::to_str).context("the name is not valid UTF-8")?;
    let gone = kept.path.with_file_name(format!("{GONE}{name}"));
    remove_any(&gone)?;
    // Half a workspace must not look like a whole one.
    rename_durably(&kept.path, &gone)?;
    remove_any(&gone)?;
    record::forget(state, &kept.named.stem)
}

/// Completes what a killed `destroy` left half done and no other one can complete, since its machine is gone.
///
/// # Errors
/// It cannot be completed.
pub fn finish_rests(state: &StateDir, all: &[Kept]) -> Result<()> {
    let is_left =
        |kept: &&Kept| kept.presence == Presence::Missing && !Machine::new(state, kept.named.machine.clone()).exists();
    for kept in all.iter().filter(is_left) {
        if let (Some(dir), Some(name)) = (kept.path.parent(), kept.path.file_name().and_then(OsStr::to_str)) {
            finish_all(dir, |found| found == name)?;
        }
    }
    Ok(())
}

/// Removes what a killed command left in the directories of what is kept.
///
/// # Errors
/// It cannot be removed.
pub fn remove_rests(state: &StateDir, all: &[Kept]) -> Result<()> {
    let mut dirs: Vec<_> = all.iter().filter_map(|kept| kept.path.parent()).map(Path::to_owned).collect();
    dirs.push(state.bundles());
    dirs.sort();
    dirs.dedup();
    let rest = |path: &PathBuf| {
        let name = path.file_name().and_then(OsStr::to_str).and_then(|name| name.strip_prefix(GONE));
        name.is_some_and(|name| Named::of(Path::new(name)).is_some())
    };
    let entries = dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flat_map(Iterator::flatten);
    let rests: Vec<_> = entries.map(|entry| entry.path()).filter(rest).collect();
    rests.iter().try_for_each(|path| remove_any(path))
}
