//! Files of a machine: written so that a power cut leaves the old or the new one, read and removed without following links.

pub mod beneath;
mod durable;
mod kind;
pub mod merge;
pub mod places;
pub mod plain;
pub(crate) mod tree;
pub(crate) mod walk;

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};

pub use self::durable::{
    TEMPORARY, make_dir_durably, rename_durably, sync_dir, sync_file, sync_file_system, sync_tree, write_file,
    write_unsynced,
};
pub use self::kind::{
    has_dir, has_file, is_absent, open_file, quoted, read_if_there, read_text, remove_any, require_replaceable, wrong,
};
pub use self::tree::remove_tree;

/// Creates a directory with mode 0700, and its parents.
///
/// # Errors
/// It cannot be created.
pub fn make_private_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| not_a_directory(path, error))
        .with_context(|| format!("failed to create the directory {}", path.display()))
}

/// Returns the error of a directory that could not be created; it names a file that has the directory's path.
fn not_a_directory(path: &Path, error: std::io::Error) -> anyhow::Error {
    let found = path.ancestors().find_map(|above| Some((above, above.symlink_metadata().ok()?)));
    match found {
        Some((above, found)) if !above.is_dir() => wrong(above, "directory", found.file_type()).into(),
        _ => error.into(),
    }
}

/// Returns a path without links and `..`, where it exists. `..` after a missing directory leads back out of it, as it does
/// once that is made.
#[must_use]
pub fn resolved(path: &Path) -> PathBuf {
    let mut real = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(real.pop()),
            part => real.push(part),
        }
        real = fs::canonicalize(&real).unwrap_or(real);
    }
    real
}

/// Removes a file if it exists.
///
/// # Errors
/// It cannot be removed.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(_) if path.symlink_metadata().is_ok_and(|found| found.is_dir()) => has_file(path).map(drop),
        other => other.with_context(|| format!("failed to remove {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_resolved_as_far_as_the_path_exists() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir(root.join("there")).unwrap();
        std::os::unix::fs::symlink("there", root.join("link")).unwrap();
        assert_eq!(resolved(&root.join("link/./none/deeper/")), root.join("there/none/deeper"));
        assert_eq!(resolved(&root.join("link")), root.join("there"));
        assert_eq!(resolved(&root.join("none/../link/x/..")), root.join("there"));
        assert_eq!(resolved(Path::new("/")), Path::new("/"));
        assert_eq!(resolved(Path::new("no-such/relative")), Path::new("no-such/relative"));
    }
}
