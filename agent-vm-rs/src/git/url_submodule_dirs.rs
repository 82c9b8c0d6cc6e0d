//! The git directories of submodules in the bare repository of a URL.

use std::fs;
use std::path::{Path, PathBuf};

/// References to the commits that the superproject names, which no branch need reach.
pub const COMMITS: &str = "refs/agent-vm-url/commits/";

/// Returns the git directories of the submodules of a repository, and of theirs.
pub fn git_dirs(git_dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![git_dir.join("modules")];
    while let Some(dir) = open.pop() {
        if is_git_dir(&dir) {
            open.push(dir.join("modules"));
            found.push(dir);
        } else if let Ok(entries) = fs::read_dir(&dir) {
            let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            open.extend(dirs.map(|entry| entry.path()));
        }
    }
    found
}

/// Returns whether a directory in `modules` is that of a submodule.
#[must_use]
pub fn is_git_dir(dir: &Path) -> bool {
    dir.join("HEAD").is_file()
}
