//! Records in the state directory of what was kept: where it is, of which machine and repository, and what it holds. What
//! has no record was kept by an older version, or the disk of the state directory was full.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::name::Named;
use crate::git::workspace::Contents;
use crate::host::files::places::Mounts;
use crate::host::files::{make_dir_durably, plain, remove_file, sync_dir, write_file};
use crate::machine::state_dir::StateDir;

/// Largest record, in bytes.
const MAX_RECORD: u64 = 64 << 10;

/// What is known of a machine's work when it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The machine's branch.
    pub branch: Option<String>,
    /// Directory of its repository.
    pub source: Option<PathBuf>,
    /// What only the machine had; None if nothing counted it.
    pub contents: Option<Contents>,
    /// Why the whole workspace was kept.
    pub why: Option<String>,
}

/// The record of a kept bundle or workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where it is.
    pub path: PathBuf,
    /// What is known of it.
    #[serde(flatten)]
    pub facts: Facts,
    /// Where the file system of its directory was mounted.
    #[serde(default)]
    pub mount: Option<PathBuf>,
    /// The repository that `kept restore` last brought it into.
    #[serde(default)]
    pub restored: Option<PathBuf>,
}

fn file(state: &StateDir, stem: &str) -> PathBuf {
    state.kept().join(format!("{stem}.json"))
}

/// Writes a record durably, with the mount point of its directory.
///
/// # Errors
/// It cannot be written.
pub fn write(state: &StateDir, record: &Record) -> Result<()> {
    let named = Named::of(&record.path).context("the name is not that of a kept bundle or workspace")?;
    make_dir_durably(&state.kept(), 0o700)?;
    let mount = record.mount.clone().or_else(|| Mounts::read().point_of(&record.path));
    let text =
        serde_json::to_string_pretty(&Record { mount, ..record.clone() }).context("failed to encode a record")?;
    write_file(&file(state, &named.stem), text + "\n", 0o600)
}

/// Returns whether there is a record of this name.
#[must_use]
pub fn is_recorded(state: &StateDir, stem: &str) -> bool {
    file(state, stem).symlink_metadata().is_ok()
}

/// Removes a record.
///
/// # Errors
/// It cannot be removed.
pub fn forget(state: &StateDir, stem: &str) -> Result<()> {
    if !is_recorded(state, stem) {
        return Ok(());
    }
    remove_file(&file(state, stem))?;
    sync_dir(&state.kept())
}

/// Returns all records. One that cannot be read is left out, since what it names can be found without it.
pub(super) fn read_all(state: &StateDir) -> Vec<(Named, Record)> {
    let entries = fs::read_dir(state.kept()).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "json"));
    paths.filter_map(|path| read(&path)).collect()
}

fn read(path: &Path) -> Option<(Named, Record)> {
    let text = plain::read(path, MAX_RECORD).ok()??;
    let record: Record = serde_json::from_slice(&text)
        .map_err(|error| tracing::warn!("{} is not a record: {error}", path.display()))
        .ok()?;
    let named = Named::of(&record.path)?;
    (path.file_stem()?.to_str()? == named.stem && record.path.is_absolute()).then_some((named, record))
}
