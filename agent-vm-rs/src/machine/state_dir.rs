//! The state directory, which contains all machines.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::host::files::resolved;
use crate::host::user_dirs::data_home;
use crate::machine::name::VmName;
use crate::term::error::Failure;

/// The state directory.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// Returns the requested directory, else `agent-vms` in the user's data directory. It need not exist.
    ///
    /// # Errors
    /// No directory is known, or its path has a character that QEMU's options cannot contain.
    pub fn locate(asked: Option<&Path>) -> Result<Self> {
        let path = match asked {
            Some(path) => std::path::absolute(path).context("failed to make the state directory absolute")?,
            None => data_home()?.join("agent-vms"),
        };
        // The canonical path, because processes are found by it.
        let path = resolved(&path);
        // QEMU reads a comma in a file name as its end; quotes and control characters break lines and ssh's options.
        let carried = path.to_str().is_some_and(|p| !p.chars().any(|c| c == ',' || c == '"' || c.is_control()));
        if !carried {
            return Err(Failure::usage(format!(
                "the state directory {path:?} has a character that QEMU or ssh cannot handle"
            ))
            .with_hint("choose one without commas, quotes and control characters: --state-dir DIR")
            .into());
        }
        Ok(Self(path))
    }

    /// Returns the directory's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the directory of a machine.
    #[must_use]
    pub fn machine(&self, name: &VmName) -> PathBuf {
        self.0.join(name.as_str())
    }

    /// Returns the directory in which a machine is created before it is renamed.
    #[must_use]
    pub fn staging(&self, name: &VmName) -> PathBuf {
        self.0.join(format!(".new-{name}"))
    }

    /// Returns the directory with the commits of destroyed machines.
    #[must_use]
    pub fn bundles(&self) -> PathBuf {
        self.0.join(".bundles")
    }

    /// Returns the directory with the records of what was kept of destroyed machines.
    #[must_use]
    pub fn kept(&self) -> PathBuf {
        self.0.join(".kept")
    }

    /// Returns the lock file of what was kept of destroyed machines.
    #[must_use]
    pub fn kept_lock(&self) -> PathBuf {
        self.locks().join(".kept")
    }

    /// Returns the directory of the locks.
    #[must_use]
    pub fn locks(&self) -> PathBuf {
        self.0.join(".locks")
    }

    /// Returns the lock file of the choice of ports.
    #[must_use]
    pub fn ports_lock(&self) -> PathBuf {
        self.locks().join(".ports")
    }

    /// Returns the lock file of the machine with this directory, also in another state directory.
    #[must_use]
    pub fn lock_of(machine: &Path) -> Option<PathBuf> {
        Some(Self(machine.parent()?.to_owned()).locks().join(machine.file_name()?))
    }

    /// Returns the lock file of a machine.
    #[must_use]
    pub fn lock_file(&self, name: &VmName) -> PathBuf {
        self.locks().join(name.as_str())
    }

    /// Returns the names of all machines, sorted; none if the directory does not exist.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn names(&self) -> Result<Vec<VmName>> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("failed to list {}", self.0.display()))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| format!("failed to list {}", self.0.display()))?;
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if let (true, Some(Ok(name))) = (is_dir, entry.file_name().to_str().map(str::parse)) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_qemu_cannot_take_is_refused() {
        for path in ["/tmp/a,b", "/tmp/a\nb", "/tmp/a\"b"] {
            assert!(StateDir::locate(Some(Path::new(path))).is_err(), "{path:?} was accepted");
        }
        assert!(StateDir::locate(Some(Path::new("/tmp/with space/ünï"))).is_ok());
    }

    #[test]
    fn only_machines_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::locate(Some(dir.path())).unwrap();
        for name in ["b-main", "a-main", ".locks", ".new-c-main"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("file"), "").unwrap();
        let names: Vec<_> = state.names().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a-main", "b-main"]);
        assert!(StateDir::locate(Some(&dir.path().join("none"))).unwrap().names().unwrap().is_empty());
    }
}
