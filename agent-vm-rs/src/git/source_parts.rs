//! Finds parts of the source repository that a workspace may have copies of.

use std::path::{Path, PathBuf};

use super::Source;
use super::examine::Head;

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

    /// Returns the checked-out commit if HEAD is detached.
    #[must_use]
    pub fn detached(&self) -> Option<String> {
        match self.head() {
            Ok(Head::Commit(id)) => Some(id),
            _ => None,
        }
    }
}
