//! Exposes the objects of a guest's repository to git: all of its own, and none that its store borrows.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{Access, AtFlags, FileType, OFlags, accessat, statat};
use rustix::io::Errno;

use super::git_failure::Unreadable;
use super::guest_files::{MAX_SHALLOW, is_object_id, open_inside, read_inside};
use crate::git::alternates;
use crate::host::files::tree::entries;

/// Largest accepted `info/alternates`, in bytes.
const MAX_ALTERNATES: u64 = 64 << 10;

/// Facts about an object store.
pub struct Store {
    /// `sha1` or `sha256`, a value of `git init --object-format`.
    pub object_format: &'static str,
    /// Size of its packs, in bytes.
    pub packed: u64,
    /// Stores that it borrows objects from. They are never followed.
    pub alternates: Vec<Vec<u8>>,
}

impl Store {
    /// Adds the objects of the copy that `origin` leads to: the store `borrowed` borrows from links to them.
    ///
    /// # Errors
    /// [`Unreadable`] if git did not write the store, or it has another object format.
    pub fn add(&mut self, copy: &File, objects: &Path, borrowed: &Path) -> Result<()> {
        let into = borrowed.with_file_name("objects-of-copy");
        let added = link(copy, objects, &into)?;
        let format = object_format(&copy.try_clone().context("failed to look at the copy for origin")?.into())?;
        if format.is_some_and(|format| format != self.object_format) {
            return Err(Unreadable("the copy for origin has another object format".to_owned()).into());
        }
        self.packed += added.packed;
        self.alternates.extend(added.alternates);
        fs::write(borrowed.join("info/alternates"), alternates::line(&into)?).context("failed to borrow objects")
    }
}

/// Fills the store `into` with links to the packs and loose objects of the guest's store `objects`. `info` is left
/// out, since git would follow its alternates and trust its commit graph.
///
/// # Errors
/// [`Unreadable`] if git did not write the store.
pub fn link(guest: &File, objects: &Path, into: &Path) -> Result<Store> {
    let relative = Path::new("objects");
    let dir = open_inside(guest, relative, OFlags::RDONLY | OFlags::DIRECTORY)?
        .ok_or_else(|| Unreadable("it has no object store".to_owned()))?;
    let dir = OwnedFd::from(dir);
    fs::create_dir_all(into.join("info")).context("failed to create links to the objects")?;
    let mut packed = 0;
    for (name, inner, sizes) in parts(&dir)? {
        packed += sizes;
        drop(inner);
        symlink(objects.join(&name), into.join(&name)).context("failed to create links to the objects")?;
    }
    let alternates = match read_inside(&dir, Path::new("info/alternates"), MAX_ALTERNATES) {
        Ok(text) => text.unwrap_or_default(),
        // An unreadable list is not followed either, and missing objects are found without it.
        Err(error) if super::git_failure::is_unreadable(&error) => b"?".to_vec(),
        Err(error) => return Err(error),
    };
    let lines = alternates.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    Ok(Store {
        object_format: format_in(&dir)?.unwrap_or("sha1"),
        packed,
        alternates: lines.map(<[u8]>::to_vec).collect(),
    })
}

/// Returns `sha1` or `sha256` by the names of objects in a git directory's store; None if it has no objects.
///
/// # Errors
/// It has no object store, or git did not write it.
pub fn object_format(git_dir: &OwnedFd) -> Result<Option<&'static str>> {
    let dir = open_inside(git_dir, Path::new("objects"), OFlags::RDONLY | OFlags::DIRECTORY)?;
    format_in(&dir.context("it has no object store")?.into())
}

fn format_in(objects: &OwnedFd) -> Result<Option<&'static str>> {
    for (name, dir, _) in parts(objects)? {
        let in_pack = name == "pack";
        for entry in entries(&dir).context("failed to list the object store")? {
            let (file, _) = entry.context("failed to list the object store")?;
            if let Some(format) = format_of(file.to_bytes(), in_pack) {
                return Ok(Some(format));
            }
        }
    }
    Ok(None)
}

/// Returns a git directory's list of shallow commits.
///
/// # Errors
/// [`Unreadable`] if git did not write it.
pub fn shallow_commits(git_dir: &File) -> Result<Vec<u8>> {
    match read_inside(git_dir, Path::new("shallow"), MAX_SHALLOW)? {
        Some(lines) if lines.split(|byte| *byte == b'\n').all(|line| line.is_empty() || is_object_id(line)) => {
            Ok(lines)
        }
        Some(_) => Err(Unreadable("its list of shallow commits is damaged".to_owned()).into()),
        None => Ok(Vec::new()),
    }
}

/// Returns the directories of a store that hold objects: name, directory and size of packs in bytes.
fn parts(objects: &OwnedFd) -> Result<Vec<(OsString, OwnedFd, u64)>> {
    let mut parts = Vec::new();
    for entry in entries(objects).context("failed to list the object store")? {
        let (name, kind) = entry.context("failed to list the object store")?;
        let bytes = name.to_bytes();
        if bytes != b"pack" && !is_fan_out(bytes) {
            continue;
        }
        let name = OsStr::from_bytes(bytes).to_owned();
        if kind != FileType::Directory {
            return Err(Unreadable(format!("{} of the object store is not a directory", name.display())).into());
        }
        let inner = open_inside(objects, Path::new(&name), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let Some(inner) = inner.map(OwnedFd::from) else { continue };
        let packed = if bytes == b"pack" { bytes_in(&inner)? } else { 0 };
        parts.push((name, inner, packed));
    }
    Ok(parts)
}

fn bytes_in(dir: &OwnedFd) -> Result<u64> {
    let mut sum = 0;
    for entry in entries(dir).context("failed to list the packs")? {
        let (file, _) = entry.context("failed to list the packs")?;
        // Git skips a pack whose index it cannot read, without an error.
        if accessat(dir, &file, Access::READ_OK, AtFlags::EACCESS) == Err(Errno::ACCESS) {
            return Err(Unreadable(format!("{} of the object store cannot be read", file.to_string_lossy())).into());
        }
        let found = statat(dir, &file, AtFlags::SYMLINK_NOFOLLOW);
        sum += found.map_or(0, |found| u64::try_from(found.st_size).unwrap_or(0));
    }
    Ok(sum)
}

/// Returns whether a name is that of a directory of loose objects.
pub fn is_fan_out(name: &[u8]) -> bool {
    name.len() == 2 && name.iter().all(u8::is_ascii_hexdigit)
}

/// Returns the object format that the name of a pack or loose object implies: gitrepository-layout(5).
fn format_of(name: &[u8], in_pack: bool) -> Option<&'static str> {
    let digits = if in_pack { name.strip_prefix(b"pack-")?.split(|byte| *byte == b'.').next()? } else { name };
    let known = digits.iter().all(u8::is_ascii_hexdigit);
    match digits.len() + if in_pack { 0 } else { 2 } {
        40 if known => Some("sha1"),
        64 if known => Some("sha256"),
        _ => None,
    }
}
