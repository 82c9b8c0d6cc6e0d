//! The state directory: where machines live, and how files get there and go.

mod durable;
mod kind;
pub(crate) mod tree;
pub(crate) mod walk;

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

pub use self::durable::{
    make_dir_durably, rename_durably, sync_dir, sync_file, sync_file_system, sync_tree, write_file, write_unsynced,
};
pub use self::kind::{has_dir, has_file, open_file, quoted, read_if_there, read_text, remove_any, wrong};
pub use self::tree::remove_tree;
use crate::error::Failure;
use crate::vm_name::VmName;

/// The directory that holds every machine's own directory.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The directory asked for, else `agent-vms` in the user's data directory. It need not exist.
    ///
    /// # Errors
    /// Neither is known, or the path holds what QEMU's option syntax cannot carry.
    pub fn locate(asked: Option<&Path>) -> Result<Self> {
        let path = match asked {
            Some(path) => std::path::absolute(path).context("failed to make the state directory absolute")?,
            None => data_home()?.join("agent-vms"),
        };
        // The one name of the directory, however it was reached: processes are found by it.
        let path = resolved(path);
        // QEMU reads a comma in a file name as the end of it; the other two break lines and ssh's options.
        let carried = path.to_str().is_some_and(|p| !p.chars().any(|c| c == ',' || c == '"' || c.is_control()));
        if !carried {
            return Err(Failure::usage(format!(
                "the state directory {path:?} has a character that QEMU or ssh cannot take"
            ))
            .hint("choose one without commas, quotes and control characters: --state-dir DIR")
            .into());
        }
        Ok(Self(path))
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Directory of one machine.
    #[must_use]
    pub fn machine(&self, name: &VmName) -> PathBuf {
        self.0.join(name.as_str())
    }

    /// Where a machine is put together before it gets its name.
    #[must_use]
    pub fn staging(&self, name: &VmName) -> PathBuf {
        self.0.join(format!(".new-{name}"))
    }

    /// Where commits of destroyed machines are kept.
    #[must_use]
    pub fn bundles(&self) -> PathBuf {
        self.0.join(".bundles")
    }

    /// Where locks are.
    #[must_use]
    pub fn locks(&self) -> PathBuf {
        self.0.join(".locks")
    }

    /// The file whose lock guards a machine.
    #[must_use]
    pub fn lock_file(&self, name: &VmName) -> PathBuf {
        self.locks().join(name.as_str())
    }

    /// Names of every machine, sorted. None where the directory does not exist.
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

/// The path without symbolic links, as far as it exists.
fn resolved(path: PathBuf) -> PathBuf {
    let real = path.ancestors().find_map(|above| Some((fs::canonicalize(above).ok()?, above)));
    let whole = real.and_then(|(real, above)| Some(real.join(path.strip_prefix(above).ok()?)));
    whole.map_or(path, |whole| whole.components().collect())
}

fn data_home() -> Result<PathBuf> {
    xdg("XDG_DATA_HOME", ".local/share")
}

/// The directory of things that can be made again: built guests, measured times.
///
/// # Errors
/// Neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache_dir() -> Result<PathBuf> {
    Ok(xdg("XDG_CACHE_HOME", ".cache")?.join("agent-vm"))
}

fn xdg(variable: &str, below_home: &str) -> Result<PathBuf> {
    // The specification says to ignore relative values.
    if let Some(path) = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute()) {
        return Ok(path);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    home.map(|home| home.join(below_home)).ok_or_else(|| {
        Failure::new(format!("neither {variable} nor HOME says where files go"))
            .hint("set HOME, or name a directory: --state-dir DIR")
            .into()
    })
}

/// Makes a directory that only its owner may enter, and its parents.
///
/// # Errors
/// It cannot be made.
pub fn make_private_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| of_the_right_kind(path, error))
        .with_context(|| format!("failed to make the directory {}", path.display()))
}

/// The error of a directory that could not be made, because something else has its name.
fn of_the_right_kind(path: &Path, error: std::io::Error) -> anyhow::Error {
    let found = path.ancestors().find_map(|above| Some((above, above.symlink_metadata().ok()?)));
    match found {
        Some((above, found)) if !above.is_dir() => wrong(above, "directory", found.file_type()).into(),
        _ => error.into(),
    }
}

/// Removes a file; one that is not there is no error.
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
    fn a_state_directory_qemu_cannot_take_is_refused() {
        for path in ["/tmp/a,b", "/tmp/a\nb", "/tmp/a\"b"] {
            assert!(StateDir::locate(Some(Path::new(path))).is_err(), "{path:?} was taken");
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
