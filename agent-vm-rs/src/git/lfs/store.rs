//! The store of LFS contents in a git directory.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};

use super::pointer::Pointer;
use crate::host::files::beneath::{self, Entry};

/// Mode of the files, as Git LFS gives them.
const MODE: Mode = Mode::from_raw_mode(0o644);

/// Largest number of files that are synced one by one.
const MOST_SYNCED: usize = 20;

/// Returns whether a git directory has the contents of a pointer, or something of the same size.
pub fn has(git_dir: &File, pointer: &Pointer) -> bool {
    beneath::entry(git_dir, &pointer.path()).is_ok_and(|found| found == Some(Entry::File(pointer.size)))
}

/// A copy in a store that has a temporary name.
#[must_use]
pub struct Copied(PathBuf);

impl Copied {
    /// Copies the contents of a pointer into a git directory, through no link. Returns None if the file is not what the pointer
    /// names.
    ///
    /// # Errors
    /// The file cannot be read, or the git directory cannot be written. A link in the store is an error.
    pub fn new(pointer: &Pointer, from: &File, git_dir: &File) -> Result<Option<Self>> {
        let copied = Self(pointer.path());
        let failed = || copied.failed();
        let dir = copied.dir(git_dir).with_context(failed)?;
        let temporary = copied.temporary();
        // One that a killed command left is overwritten.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut to = File::from(openat(&dir, &temporary, flags, MODE).with_context(failed)?);
        let is_it = pointer.copy(from, &mut to);
        if !matches!(is_it, Ok(true)) {
            let _removed = unlinkat(&dir, &temporary, AtFlags::empty());
            return is_it.with_context(failed).map(|_| None);
        }
        Ok(Some(copied))
    }

    /// Gives the copy its name. It is not on disk yet.
    ///
    /// # Errors
    /// The git directory cannot be written.
    pub fn place(&self, git_dir: &File) -> Result<()> {
        let place = || -> io::Result<()> {
            let dir = self.dir(git_dir)?;
            Ok(renameat(&dir, self.temporary(), &dir, self.name())?)
        };
        place().with_context(|| self.failed())
    }

    /// Writes it to disk and gives it its name.
    fn place_durably(&self, git_dir: &File) -> Result<()> {
        let place = || -> io::Result<()> {
            let dir = self.dir(git_dir)?;
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            File::from(openat(&dir, self.temporary(), flags, Mode::empty())?).sync_all()?;
            renameat(&dir, self.temporary(), &dir, self.name())?;
            Ok(rustix::fs::fsync(&dir)?)
        };
        place().with_context(|| self.failed())
    }

    fn dir(&self, git_dir: &File) -> io::Result<OwnedFd> {
        beneath::make_dirs(git_dir, self.0.parent().unwrap_or(Path::new("")))
    }

    fn name(&self) -> &OsStr {
        self.0.file_name().unwrap_or_default()
    }

    fn temporary(&self) -> OsString {
        [OsStr::new("agent-vm-"), self.name()].into_iter().collect()
    }

    fn failed(&self) -> String {
        format!("failed to copy the Git LFS file {}", self.0.display())
    }
}

/// Gives copies their names, durably: a name never leads to contents that are not on disk. If there are many, the file system is
/// synced as a whole, which takes less time.
///
/// # Errors
/// The git directory cannot be written.
pub fn place_all(copies: &[Copied], git_dir: &File) -> Result<()> {
    if copies.len() <= MOST_SYNCED {
        return copies.iter().try_for_each(|copy| copy.place_durably(git_dir));
    }
    let sync = || rustix::fs::syncfs(git_dir).context("failed to write Git LFS files to disk");
    sync()?;
    copies.iter().try_for_each(|copy| copy.place(git_dir))?;
    sync()
}

/// Returns whether a file in a store has other contents than its name says, or cannot be read.
pub fn is_damaged(file: &Path) -> bool {
    let is_whole = |name: &str| -> Result<Option<bool>> {
        let opened = File::open(file)?;
        let pointer = Pointer::new(name, opened.metadata()?.len());
        pointer.map(|pointer| pointer.copy(&opened, &mut io::sink())).transpose()
    };
    // Files with other names are temporary.
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    !matches!(is_whole(&name), Ok(Some(true) | None))
}
