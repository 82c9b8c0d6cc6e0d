//! Stores what only a destroyed machine had: in `.bundles` of the state directory, or in the directory of `--keep-in`.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::git::kept::{self, Facts, Kind, Named, Presence, Record};
use crate::git::workspace::{finish_all, keep_whole, unfinished_in};
use crate::host::files::places::Mounts;
use crate::host::files::{
    TEMPORARY, is_absent, make_dir_durably, remove_file, remove_tree, resolved, sync_dir, sync_file,
};
use crate::machine::Machine;
use crate::machine::name::VmName;
use crate::machine::scratch_elsewhere;
use crate::machine::state_dir::StateDir;
use crate::term::error::Failure;
use crate::term::progress::note;

/// A directory for saved bundles and workspaces.
pub struct SavedWork {
    dir: PathBuf,
    /// The directory without `--keep-in`.
    default: PathBuf,
    name: VmName,
    state: StateDir,
    was_asked: bool,
    /// What is kept and not recorded yet.
    unrecorded: RefCell<Vec<Record>>,
    /// Directories that were made for it, the deepest first. Those that stay empty are removed.
    made: RefCell<Vec<PathBuf>>,
}

impl Drop for SavedWork {
    fn drop(&mut self) {
        for dir in self.made.take() {
            // It fails if something was kept there.
            drop(fs::remove_dir(dir));
        }
    }
}

impl SavedWork {
    /// Returns the directory for a machine's saved work. It need not exist.
    ///
    /// # Errors
    /// `asked` is in the state directory, but not in its directory of saved work.
    pub fn of(machine: &Machine, asked: Option<&Path>) -> Result<Self> {
        let (name, state) = (machine.name.clone(), machine.state.clone());
        let default = state.bundles();
        let Some(asked) = asked else {
            return Ok(Self {
                dir: default.clone(),
                default,
                name,
                state,
                was_asked: false,
                unrecorded: RefCell::default(),
                made: RefCell::default(),
            });
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
        let (unrecorded, made) = (RefCell::default(), RefCell::default());
        Ok(Self { dir, default, name, state, was_asked: true, unrecorded, made })
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
                let missing = self.dir.ancestors().take_while(|dir| is_absent(dir)).map(Path::to_owned);
                self.made.borrow_mut().extend(missing.filter(|_| self.was_asked));
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
    pub fn keep_file(&self, file: &Path, facts: &Facts) -> Result<PathBuf> {
        self.make()?;
        let to = self.unused(Kind::Bundle)?;
        self.recorded(&to, facts, || self.move_file(file, &to))
    }

    fn move_file(&self, file: &Path, to: &Path) -> Result<()> {
        let failed = || format!("failed to write {}", to.display());
        // The directory may be one that other users can read.
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).with_context(failed)?;
        sync_file(file)?;
        match renameat_with(CWD, file, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::XDEV) => {
                let beside = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&self.dir).with_context(failed)?;
                fs::copy(file, beside.path()).with_context(failed)?;
                sync_file(beside.path())?;
                beside.persist_noclobber(to).map_err(|error| error.error).with_context(failed)?;
            }
            // Some file systems do not support RENAME_NOREPLACE.
            Err(Errno::INVAL | Errno::NOSYS) => fs::rename(file, to).with_context(failed)?,
            Err(error) => return Err(io::Error::from(error)).with_context(failed),
        }
        sync_dir(&self.dir)
    }

    /// Saves a whole workspace.
    ///
    /// # Errors
    /// It cannot be moved.
    pub fn keep_workspace(&self, workspace: &Path, facts: &Facts) -> Result<PathBuf> {
        self.make()?;
        let to = self.unused(Kind::Workspace)?;
        let machine = Machine::new(&self.state, self.name.clone());
        let kept =
            self.recorded(&to, facts, || keep_whole(workspace, &to, || scratch_elsewhere::make(&machine, &self.dir)));
        scratch_elsewhere::remove(&machine)?;
        kept
    }

    /// Writes the record of something that is kept, then keeps it. A command that is killed meanwhile leaves a record, not
    /// something that no record names.
    fn recorded(&self, to: &Path, facts: &Facts, keep: impl FnOnce() -> Result<()>) -> Result<PathBuf> {
        let named = Named::of(to).context("the name has no time")?;
        // A full disk must not prevent that the work is kept on another one.
        if let Err(error) = self.record(to, facts) {
            tracing::info!("{} is not recorded yet: {error:#}", to.display());
            let record = Record { path: to.to_owned(), facts: facts.clone(), mount: None, restored: None };
            self.unrecorded.borrow_mut().push(record);
        }
        if let Err(error) = keep() {
            if to.symlink_metadata().is_err() && self.unfinished().is_none() {
                kept::forget(&self.state, &named.stem)?;
            }
            return Err(error);
        }
        Ok(to.to_owned())
    }

    /// Writes the records that could not be written before the machine was removed.
    pub fn record_rest(&self) {
        for record in self.unrecorded.take() {
            if let Err(error) = kept::write(&self.state, &record) {
                let path = record.path.display();
                note(&format!(
                    "notice: where the work is kept is not recorded ({error:#}); to restore it: agent-vm kept restore {path}"
                ));
            }
        }
    }

    fn record(&self, path: &Path, facts: &Facts) -> Result<()> {
        kept::write(&self.state, &Record { path: path.to_owned(), facts: facts.clone(), mount: None, restored: None })
    }

    /// Writes the record of something that was kept, if it is missing.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn record_if_missing(&self, path: &Path, facts: &Facts) -> Result<()> {
        match Named::of(path) {
            Some(named) if !kept::is_recorded(&self.state, &named.stem) => self.record(path, facts),
            _ => Ok(()),
        }
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
        let places = self.places();
        let finished = places.iter().map(|dir| finish_all(dir, |name| self.is_own(name)));
        Ok(finished.collect::<Result<Vec<_>>>()?.concat())
    }

    /// Returns where a `destroy` of this machine may have kept something: this directory, the default one, and those of
    /// workspaces that were recorded and are missing.
    fn places(&self) -> Vec<PathBuf> {
        let all = kept::all(&self.state).unwrap_or_default().into_iter();
        let own = all.filter(|kept| kept.named.machine == self.name && kept.presence == Presence::Missing);
        let recorded = own.filter_map(|kept| kept.path.parent().map(Path::to_owned));
        let mut places: Vec<_> = [self.dir.clone(), self.default.clone()].into_iter().chain(recorded).collect();
        places.sort();
        places.dedup();
        places
    }

    /// Returns where a killed `destroy` of this machine moved the workspace.
    #[must_use]
    pub fn unfinished(&self) -> Option<PathBuf> {
        let found = self.places().into_iter().flat_map(|dir| unfinished_in(&dir, |name| self.is_own(name)));
        found.map(|(path, _)| path).next()
    }

    /// Removes something that was just kept, of a command that is interrupted.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn discard(&self, kept: &Path) -> Result<()> {
        remove_file(kept)?;
        Named::of(kept).map_or(Ok(()), |named| kept::forget(&self.state, &named.stem))
    }

    /// Returns whether a name is one of [`SavedWork::unused`].
    fn is_own(&self, name: &str) -> bool {
        let stamp = name.strip_prefix(self.name.as_str()).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
        stamp.bytes().take_while(u8::is_ascii_digit).count() == 8 && stamp.as_bytes().get(8) == Some(&b'T')
    }

    /// Returns an unused name: two machines of the same name may be destroyed in one second.
    fn unused(&self, kind: Kind) -> Result<PathBuf> {
        let path = |stem: &str, kind: Kind| self.dir.join(format!("{stem}.{}", kind.word()));
        let is_unused = |stem: &String| {
            !kept::is_recorded(&self.state, stem)
                && Kind::ALL.iter().all(|kind| path(stem, *kind).symlink_metadata().is_err())
        };
        let mut stems = (0..).map(|number| kept::stem(&self.name, number));
        let stem = stems.find(is_unused).context("no unused name is left")?;
        Ok(path(&stem, kind))
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
