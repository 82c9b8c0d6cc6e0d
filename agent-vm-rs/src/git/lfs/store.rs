//! The store of LFS contents in a git directory.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};

use super::pointer::Pointer;
use crate::host::files::beneath::{self, Entry};

/// Mode of the files, as Git LFS gives them.
const MODE: Mode = Mode::from_raw_mode(0o644);

/// Returns whether a git directory has the contents of a pointer, or something of the same size.
pub fn has(git_dir: &File, pointer: &Pointer) -> bool {
    beneath::entry(git_dir, &pointer.path()).is_ok_and(|found| found == Some(Entry::File(pointer.size)))
}

/// Copies the contents of a pointer into a git directory, durably and through no link. Returns false if the file is not
/// what the pointer names.
///
/// # Errors
/// The file cannot be read, or the git directory cannot be written. A link in the store is an error.
pub fn keep(pointer: &Pointer, from: &File, git_dir: &File) -> Result<bool> {
    let path = pointer.path();
    let failed = || format!("failed to copy the Git LFS file {}", path.display());
    let name = path.file_name().unwrap_or_default();
    let dir = beneath::make_dirs(git_dir, path.parent().unwrap_or(Path::new(""))).with_context(failed)?;
    let temporary = [OsStr::new("agent-vm-"), name].into_iter().collect::<OsString>();
    // One that a killed command left is overwritten.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut to = File::from(openat(&dir, &temporary, flags, MODE).with_context(failed)?);
    let copied = pointer.copy(from, &mut to).and_then(|is_it| Ok(to.sync_all().map(|()| is_it)?));
    if !matches!(copied, Ok(true)) {
        let _removed = unlinkat(&dir, &temporary, AtFlags::empty());
        return copied.with_context(failed);
    }
    renameat(&dir, &temporary, &dir, name).with_context(failed)?;
    rustix::fs::fsync(&dir).with_context(failed)?;
    Ok(true)
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
