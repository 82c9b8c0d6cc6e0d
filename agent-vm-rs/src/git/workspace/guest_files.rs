//! Opens files of a guest's repository: no link is followed, and sizes and kinds are checked.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::git_failure::Unreadable;
use crate::host::files::tree::entries;

/// Largest accepted `packed-refs`, and size of all reference tables, in bytes: about a million references.
pub const MAX_PACKED_REFS: u64 = 64 << 20;
/// Largest accepted list of shallow commits, in bytes.
pub const MAX_SHALLOW: u64 = 64 << 20;
/// Largest accepted log of the stash, in bytes.
pub const MAX_STASH_LOG: u64 = 16 << 20;

/// Opens a directory by a path that the guest cannot change.
///
/// # Errors
/// It does not exist or is not a directory.
pub fn open_root(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::empty());
    Ok(File::from(opened.with_context(|| format!("failed to open {}", path.display()))?))
}

/// Opens a path below `root`, through no link and no mount; None if it does not exist.
///
/// # Errors
/// [`Unreadable`] if a part of the path is a link or not a directory.
pub fn open_inside(root: impl AsFd, relative: &Path, flags: OFlags) -> Result<Option<File>> {
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    // Opening a fifo must not block. (O_PATH never blocks, and refuses other flags.)
    let flags = if flags.contains(OFlags::PATH) { flags } else { flags | OFlags::NONBLOCK };
    match openat2(root, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Ok(opened) => Ok(Some(File::from(opened))),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP | Errno::NOTDIR | Errno::XDEV | Errno::NXIO | Errno::NAMETOOLONG | Errno::NODEV) => {
            Err(Unreadable(format!("{} is a link or has the wrong file type", relative.display())).into())
        }
        Err(error) => Err(error).with_context(|| format!("failed to open {} in the workspace", relative.display())),
    }
}

/// Returns whether a path below `root` is an empty directory, or does not exist. False if it cannot be read.
#[must_use]
pub fn is_empty(root: impl AsFd, relative: &Path) -> bool {
    match open_inside(root, relative, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(None) => true,
        Ok(Some(dir)) => entries(&dir.into()).is_ok_and(|mut entries| entries.next().is_none()),
        Err(_) => false,
    }
}

/// Returns the contents of a plain file below `root` of at most `limit` bytes; None if it does not exist.
///
/// # Errors
/// [`Unreadable`] if it is not a plain file, or too large.
pub fn read_inside(root: impl AsFd, relative: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let Some(file) = open_inside(root, relative, OFlags::RDONLY)? else { return Ok(None) };
    let shown = relative.display();
    let metadata = file.metadata().context("failed to look at a file of the workspace")?;
    if !metadata.is_file() {
        return Err(Unreadable(format!("{shown} is not a plain file")).into());
    }
    if metadata.size() > limit {
        return Err(Unreadable(format!("{shown} is too large")).into());
    }
    read_all(file, limit).with_context(|| format!("failed to read {shown} in the workspace")).map(Some)
}

/// Returns the first `limit` bytes of a file.
///
/// # Errors
/// It cannot be read.
pub fn read_all(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns whether bytes are an object id: 40 (SHA-1) or 64 (SHA-256) hexadecimal digits that are not all zero.
#[must_use]
pub fn is_object_id(bytes: &[u8]) -> bool {
    let digits = bytes.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    matches!(bytes.len(), 40 | 64) && digits && bytes.iter().any(|byte| *byte != b'0')
}
