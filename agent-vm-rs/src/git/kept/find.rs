//! Finds what was kept: by its records, and in the state directory also without.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::name::{Kind, Named};
use super::record::{self, Record};
use crate::git::workspace::unfinished_in;
use crate::host::files::places::Mounts;
use crate::host::files::{has_dir, resolved};
use crate::machine::state_dir::StateDir;
use crate::term::error::Failure;
use crate::term::text::one_line;

/// Largest number of files that [`names`] looks at.
const MOST_LISTED: usize = 2_000;
/// Largest number of names that an error lists.
const MOST_NAMED: usize = 10;

/// Whether a kept bundle or workspace is where it was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// It is there.
    Here,
    /// It was moved or removed.
    Missing,
    /// Its directory does not exist now, or its disk is not mounted.
    Away,
}

/// A kept bundle or workspace.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What its name says.
    pub named: Named,
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is there.
    pub presence: Presence,
    /// Its record.
    pub record: Option<Record>,
}

impl Kept {
    fn new(named: Named, path: PathBuf, record: Option<Record>) -> Self {
        let presence = match path.symlink_metadata() {
            Ok(found) if found.is_dir() && named.kind == Kind::Workspace => Presence::Here,
            Ok(found) if found.is_file() && named.kind == Kind::Bundle => Presence::Here,
            Ok(_) => Presence::Missing,
            Err(_) if path.parent().is_some_and(Path::is_dir) && is_mounted(&path, record.as_ref()) => {
                Presence::Missing
            }
            Err(_) => Presence::Away,
        };
        Self { named, path, presence, record }
    }

    /// Returns the directory of the repository that it came from, if that is known.
    #[must_use]
    pub fn source(&self) -> Option<&Path> {
        self.record.as_ref()?.facts.source.as_deref()
    }

    /// Returns the machine's branch, if that is known.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        self.record.as_ref()?.facts.branch.as_deref()
    }
}

impl Kept {
    /// Returns whether a killed `destroy` left it half done: it is there, under another name.
    #[must_use]
    pub fn is_half_done(&self) -> bool {
        let place = self.path.parent().zip(self.path.file_name().and_then(OsStr::to_str));
        place.is_some_and(|(dir, name)| !unfinished_in(dir, |found| found == name).is_empty())
    }
}

/// Returns whether the file system that something was kept on is mounted, as far as that is known.
fn is_mounted(path: &Path, record: Option<&Record>) -> bool {
    let Some(mount) = record.and_then(|record| record.mount.as_deref()) else { return true };
    Mounts::read().point_of(path).is_none_or(|point| point == mount)
}

/// Returns everything that was kept, the oldest first.
///
/// # Errors
/// The state directory cannot be read.
pub fn all(state: &StateDir) -> Result<Vec<Kept>> {
    let mut found = BTreeMap::new();
    for (named, record) in record::read_all(state) {
        let path = record.path.clone();
        found.insert((named.kept, path.clone()), Kept::new(named, path, Some(record)));
    }
    let dir = state.bundles();
    let entries = match fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => has_dir(&dir).map(|_| None)?,
        entries => Some(entries.with_context(|| format!("failed to list {}", dir.display()))?),
    };
    for entry in entries.into_iter().flatten() {
        let path = entry.with_context(|| format!("failed to list {}", dir.display()))?.path();
        if let Some(named) = Named::of(&path) {
            found.entry((named.kept, path.clone())).or_insert_with(|| Kept::new(named, path, None));
        }
    }
    Ok(found.into_values().collect())
}

/// Returns the names of what was kept, sorted. At most [`MOST_LISTED`] files are looked at, and none is opened.
#[must_use]
pub fn names(state: &StateDir) -> BTreeSet<String> {
    let files = [state.kept(), state.bundles()].into_iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten());
    let name = |path: PathBuf| match Named::of(&path) {
        Some(named) => Some(named.stem),
        // A record has the name of what it describes.
        None => Named::of(&path.with_extension(Kind::Bundle.word())).map(|named| named.stem),
    };
    files.take(MOST_LISTED).flatten().filter_map(|entry| name(entry.path())).collect()
}

/// Returns the one that a user names: by its name, its path, or its machine if only one is kept of that.
///
/// # Errors
/// There is none, or more than one.
pub fn find(state: &StateDir, word: &str) -> Result<Kept> {
    let all = all(state)?;
    let path = resolved(&std::path::absolute(word).unwrap_or_else(|_| word.into()));
    let is_it = |kept: &&Kept| {
        let file = kept.path.file_name().and_then(|name| name.to_str());
        kept.named.stem == word || file == Some(word) || (word.contains('/') && resolved(&kept.path) == path)
    };
    let mut found: Vec<_> = all.iter().filter(is_it).collect();
    if found.is_empty() {
        found = all.iter().filter(|kept| kept.named.machine.as_str() == word).collect();
    }
    match (found.as_slice(), Named::of(&path)) {
        ([one], _) => Ok((*one).clone()),
        // It was moved, or its record is lost.
        ([], Some(named)) if path.symlink_metadata().is_ok() => Ok(Kept::new(named, path, None)),
        ([], _) => Err(Failure::usage(format!("nothing is kept under the name {}", one_line(word)))
            .with_hint("to list what is kept: agent-vm kept list")
            .into()),
        (several, _) => {
            let names: Vec<_> = several.iter().take(MOST_NAMED).map(|kept| kept.path.display().to_string()).collect();
            Err(Failure::usage(format!("{} is kept more than once: {}", one_line(word), names.join(", ")))
                .with_hint("name one of them by its name or path; to list them: agent-vm kept list")
                .into())
        }
    }
}
