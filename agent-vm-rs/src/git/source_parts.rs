//! Finds parts of the source repository that a workspace may have copies of.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Source;
use super::examine::Head;
use crate::host::files::plain;

/// Largest accepted list of shallow commits, in bytes.
const MAX_SHALLOW: u64 = 64 << 20;

impl Source {
    /// Returns the path of a file in the git directory; the file need not exist.
    #[must_use]
    pub fn git_path(&self, file: &Path) -> PathBuf {
        self.place.common_dir.join(file)
    }

    /// Returns a submodule, found by its git directory's path in this git directory (`modules/NAME`), or by its work
    /// tree's path in this work tree.
    #[must_use]
    pub fn submodule(&self, git_dir: &Path, work_tree: Option<&Path>) -> Option<Self> {
        let absorbed = Some(self.git_path(git_dir)).filter(|dir| dir.is_dir());
        let old_style = work_tree.map(|tree| self.dir.join(tree)).filter(|tree| tree.join(".git").exists());
        absorbed.or(old_style).and_then(|dir| Self::discover(&dir).ok().flatten())
    }

    /// Returns the ids of its shallow commits, which lack their parents.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn shallow_commits(&self) -> Result<BTreeSet<String>> {
        let list = plain::read(&self.place.common_dir.join("shallow"), MAX_SHALLOW)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&list).lines().map(str::to_owned).collect())
    }

    /// Returns the checked-out commit if HEAD is detached.
    #[must_use]
    pub fn detached(&self) -> Option<String> {
        match self.head() {
            Ok(Head::Commit(id)) => Some(id),
            _ => None,
        }
    }
}
