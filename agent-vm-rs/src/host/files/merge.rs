//! Moving a new file or directory into place.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::term::error::Failure;

/// Moves a file or directory to `to`, on the same file system. Directories are merged, and files replaced. A symbolic link at or below
/// `to` is replaced as a file, and never followed.
///
/// # Errors
/// A file would replace a directory or the other way round, or a device, a pipe or a socket; or something cannot be moved.
pub fn merge(from: &Path, to: &Path) -> Result<()> {
    let is_dir = from.symlink_metadata().is_ok_and(|found| found.is_dir());
    match to.symlink_metadata() {
        Ok(found) if found.is_dir() && is_dir => {
            let failed = || format!("failed to list {}", from.display());
            for entry in fs::read_dir(from).with_context(failed)? {
                let name = entry.with_context(failed)?.file_name();
                merge(&from.join(&name), &to.join(&name))?;
            }
            return Ok(());
        }
        Ok(found) if found.is_dir() || is_dir => {
            let (what, by) = if is_dir { ("file", "directory") } else { ("directory", "file") };
            return Err(Failure::new(format!("the {what} {} would be replaced by a {by}", to.display()))
                .with_hint("choose another destination, or remove it first")
                .into());
        }
        _ => {}
    }
    super::require_replaceable(to)?;
    fs::rename(from, to).with_context(|| format!("failed to move {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn directories_are_merged_and_links_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["from/sub", "to/sub", "outside"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        fs::write(path("outside/file"), "outside").unwrap();
        fs::write(path("to/sub/kept"), "kept").unwrap();
        symlink("../outside/file", path("to/file")).unwrap();
        fs::write(path("from/file"), "new").unwrap();
        fs::write(path("from/sub/new"), "new").unwrap();
        merge(&path("from"), &path("to")).unwrap();
        for (name, text) in
            [("to/file", "new"), ("outside/file", "outside"), ("to/sub/kept", "kept"), ("to/sub/new", "new")]
        {
            assert_eq!(fs::read_to_string(path(name)).unwrap(), text, "{name}");
        }
        // A directory does not go through a link either.
        symlink("../outside", path("to/link")).unwrap();
        fs::create_dir_all(path("more/link")).unwrap();
        fs::write(path("more/link/x"), "x").unwrap();
        assert!(merge(&path("more"), &path("to")).is_err());
        assert!(!path("outside/x").exists());
        // What is no file stays.
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), rustix::fs::Mode::RUSR).unwrap();
        fs::write(path("new"), "new").unwrap();
        assert!(merge(&path("new"), &path("pipe")).unwrap_err().to_string().contains("is a named pipe"));
        merge(&path("new"), &path("none")).unwrap();
    }
}
