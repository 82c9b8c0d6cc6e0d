//! What killed commands left in the state directory.

use std::fs;

use anyhow::{Context as _, Result};

use crate::lock::Lock;
use crate::run_state::end_processes_of;
use crate::state::{StateDir, remove_tree};
use crate::vm_name::VmName;

/// Prefix of a machine's directory that is being removed.
pub const GONE: &str = ".gone-";

/// Removes machines that never got their name, and those that lost it, unless somebody works on them now.
///
/// # Errors
/// A process of theirs does not end, or something cannot be removed.
pub fn leftovers(state: &StateDir) -> Result<()> {
    let Ok(entries) = fs::read_dir(state.path()) else { return Ok(()) };
    for entry in entries {
        let entry = entry.with_context(|| format!("failed to list {}", state.path().display()))?;
        let file_name = entry.file_name();
        let Some(file_name) = file_name.to_str() else { continue };
        let name = [".new-", GONE].iter().find_map(|prefix| file_name.strip_prefix(prefix));
        let Some(Ok(name)) = name.map(str::parse::<VmName>) else { continue };
        // The lock is held until this one is gone; one that cannot be had is somebody's who works on it.
        let lock = Lock::try_take(&state.lock_file(&name))?;
        if lock.is_some() {
            tracing::info!("removing {file_name}, which a killed command left");
            end_processes_of(&entry.path())?;
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}
