//! Parts of a repository that another one may have a copy of.

use std::path::{Path, PathBuf};

use super::Source;
use super::look::Head;

impl Source {
    /// A file of its git directory, whether it is there or not.
    #[must_use]
    pub fn git_path(&self, file: &Path) -> PathBuf {
        self.place.common_dir.join(file)
    }

    /// A submodule of it, by its git directory's path in this one's (`modules/NAME`), or by its work tree's in this one's.
    #[must_use]
    pub fn submodule(&self, git_dir: &Path, work_tree: Option<&Path>) -> Option<Self> {
        let absorbed = Some(self.git_path(git_dir)).filter(|dir| dir.is_dir());
        let old_style = work_tree.map(|tree| self.dir.join(tree)).filter(|tree| tree.join(".git").exists());
        absorbed.or(old_style).and_then(|dir| Self::discover(&dir).ok().flatten())
    }

    /// The commit that is checked out, if no branch is.
    #[must_use]
    pub fn detached(&self) -> Option<String> {
        match self.head() {
            Ok(Head::Commit(id)) => Some(id),
            _ => None,
        }
    }
}
