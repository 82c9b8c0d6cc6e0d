//! Stores what only a destroyed machine had: in `.bundles` of the state directory, or in the directory of `--keep-in`.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::git::workspace::{finish_all, keep_whole, unfinished_in};
use crate::host::files::places::Mounts;
use crate::host::files::{TEMPORARY, make_dir_durably, remove_tree, resolved, sync_dir, sync_file};
use crate::machine::Machine;
use crate::machine::name::VmName;
use crate::machine::scratch_elsewhere;
use crate::term::error::Failure;
use crate::term::progress::note;

/// A directory for saved bundles and workspaces.
pub struct SavedWork {
    dir: PathBuf,
    /// The directory without `--keep-in`.
    default: PathBuf,
    name: VmName,
    was_asked: bool,
}

impl SavedWork {
    /// Returns the directory for a machine's saved work. It need not exist.
    ///
    /// # Errors
    /// `asked` is in the state directory, but not in its directory of saved work.
    pub fn of(machine: &Machine, asked: Option<&Path>) -> Result<Self> {
        let name = machine.name.clone();
        let Some(asked) = asked else {
            return Ok(Self { dir: machine.state.bundles(), default: machine.state.bundles(), name, was_asked: false });
        };
        let dir = resolved(&std::path::absolute(asked).context("failed to make the directory's path absolute")?);
        // Commands remove what they do not know there.
        if is_where_files_are_removed(&dir, machine) {
            return Err(Failure::usage(format!(
                "{} is in the state directory, where files are removed",
                dir.display()
            ))
            .with_hint(format!("choose a directory outside {}: --keep-in DIR", machine.state.path().display()))
            .into());
        }
        Ok(Self { dir, default: machine.state.bundles(), name, was_asked: true })
    }

    /// Returns the directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Creates the directory if it is missing.
    ///
    /// # Errors
    /// The path is not a directory, or it cannot be created or written.
    pub fn make(&self) -> Result<()> {
        let elsewhere = || format!("agent-vm destroy {} --keep-in DIR", self.name);
        match fs::symlink_metadata(&self.dir) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(Failure::new(format!("{} is not a directory", self.dir.display()))
                    .with_hint(format!("move it away, or choose another directory: {}", elsewhere()))
                    .into());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_dir_durably(&self.dir, 0o700).map_err(|error| {
                    error.context(Failure::new(format!("failed to make {}", self.dir.display())).with_hint(elsewhere()))
                })?;
            }
            Err(error) => return Err(error).with_context(|| format!("failed to look at {}", self.dir.display())),
        }
        let probe = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(&self.dir);
        probe.map(drop).map_err(|error| {
            anyhow::Error::new(error)
                .context(Failure::new(format!("failed to write into {}", self.dir.display())).with_hint(elsewhere()))
        })
    }

    /// Creates a directory for temporary files, which is removed when the value is dropped. It is in the machine's
    /// directory, or in that of `--keep-in`, since the machine's disk may be full.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn scratch(&self, machine: &Machine) -> Result<Scratch> {
        if !self.was_asked {
            return Ok(Scratch { dir: machine.dir.clone(), elsewhere_of: None });
        }
        self.make()?;
        Ok(Scratch { dir: scratch_elsewhere::make(machine, &self.dir)?, elsewhere_of: Some(machine.clone()) })
    }

    /// Saves a file and syncs it to disk.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_file(&self, file: &Path, end: &str) -> Result<PathBuf> {
        self.make()?;
        let to = self.unused(end)?;
        let failed = || format!("failed to write {}", to.display());
        // The directory may be one that other users can read.
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).with_context(failed)?;
        sync_file(file)?;
        match renameat_with(CWD, file, CWD, &to, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::XDEV) => {
                let beside = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&self.dir).with_context(failed)?;
                fs::copy(file, beside.path()).with_context(failed)?;
                sync_file(beside.path())?;
                beside.persist_noclobber(&to).map_err(|error| error.error).with_context(failed)?;
            }
            // Some file systems do not support RENAME_NOREPLACE.
            Err(Errno::INVAL | Errno::NOSYS) => fs::rename(file, &to).with_context(failed)?,
            Err(error) => return Err(io::Error::from(error)).with_context(failed),
        }
        sync_dir(&self.dir)?;
        Ok(to)
    }

    /// Saves a whole workspace.
    ///
    /// # Errors
    /// It cannot be moved.
    pub fn keep_workspace(&self, workspace: &Path) -> Result<PathBuf> {
        self.make()?;
        let to = self.unused("workspace")?;
        keep_whole(workspace, &to)?;
        Ok(to)
    }

    /// Completes what a killed `destroy` of this machine left half done.
    ///
    /// # Errors
    /// It cannot be completed.
    pub fn finish(&self, machine: &Machine) -> Result<Vec<PathBuf>> {
        // The directory may be on a disk that is not mounted now.
        if let Err(error) = scratch_elsewhere::remove(machine) {
            note(&format!("notice: {error:#}"));
        }
        let is_own = |name: &str| self.is_own(name);
        let mut finished = finish_all(&self.dir, is_own)?;
        if self.dir != self.default {
            finished.extend(finish_all(&self.default, is_own)?);
        }
        Ok(finished)
    }

    /// Returns where a killed `destroy` of this machine moved the workspace.
    #[must_use]
    pub fn unfinished(&self) -> Option<PathBuf> {
        unfinished_in(&self.dir, |name| self.is_own(name)).into_iter().next().map(|(path, _)| path)
    }

    /// Returns the newest bundle or workspace of a machine of this name.
    #[must_use]
    pub fn newest(&self) -> Option<PathBuf> {
        let names = fs::read_dir(&self.dir).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let is_complete =
            |name: &String| self.is_own(name) && [".bundle", ".workspace"].iter().any(|end| name.ends_with(end));
        names.filter(is_complete).max().map(|name| self.dir.join(name))
    }

    /// Returns whether a name is one of [`SavedWork::unused`].
    fn is_own(&self, name: &str) -> bool {
        let stamp = name.strip_prefix(self.name.as_str()).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
        stamp.bytes().take_while(u8::is_ascii_digit).count() == 8 && stamp.as_bytes().get(8) == Some(&b'T')
    }

    /// Returns an unused name: two machines of the same name may be destroyed in one second.
    fn unused(&self, end: &str) -> Result<PathBuf> {
        let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let stem = |number: u32| match number {
            0 => format!("{}-{stamp}", self.name),
            _ => format!("{}-{stamp}-{number}", self.name),
        };
        let is_unused = |stem: &String| {
            !["bundle", "workspace"].iter().any(|end| self.dir.join(format!("{stem}.{end}")).symlink_metadata().is_ok())
        };
        let stem = (0..).map(stem).find(is_unused).context("no unused name is left")?;
        Ok(self.dir.join(format!("{stem}.{end}")))
    }
}

/// Returns whether a directory is the state directory or in it, but not in its directory of saved work, also through a
/// mount.
fn is_where_files_are_removed(dir: &Path, machine: &Machine) -> bool {
    let (mounts, kept) = (Mounts::read(), machine.state.bundles());
    // It counts only as a directory of its own, not as a link to another one.
    let is_link = fs::symlink_metadata(&kept).is_ok_and(|found| !found.is_dir());
    let is_kept = !is_link && mounts.is_in(dir, &kept);
    !is_kept && mounts.is_in(dir, machine.state.path())
}

/// A directory for temporary files.
pub struct Scratch {
    /// Its path.
    pub dir: PathBuf,
    /// Its machine, if it is not the machine's directory.
    elsewhere_of: Option<Machine>,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(machine) = &self.elsewhere_of {
            drop(remove_tree(&self.dir));
            drop(scratch_elsewhere::remove(machine));
        }
    }
}
