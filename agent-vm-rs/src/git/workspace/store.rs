//! The objects of a guest's repository, as git of ours may see them: all of them, and nothing that the guest's store points to.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, FileType, OFlags, statat};

use super::guest_files::{open_inside, read_inside};
use super::trouble::Unreadable;
use crate::host::files::tree::entries;

/// Bytes of `info/alternates`.
const MAX_ALTERNATES: u64 = 64 << 10;

/// What a store is like.
pub struct Store {
    /// `sha1` or `sha256`, as `git init --object-format` has it.
    pub object_format: &'static str,
    /// Bytes that its packs take.
    pub packed: u64,
    /// Stores that it borrows objects from, which are never followed.
    pub alternates: Vec<Vec<u8>>,
}

/// Makes `into` a store that leads to the packs and loose objects of the store `objects` of a guest's git directory, which is
/// open. Its `info` is left out: git would follow the alternates in it, and believe its commit graph.
///
/// # Errors
/// [`Unreadable`] if it is not made as git makes it.
pub fn link(guest: &File, objects: &Path, into: &Path) -> Result<Store> {
    let relative = Path::new("objects");
    let dir = open_inside(guest, relative, OFlags::RDONLY | OFlags::DIRECTORY)?
        .ok_or_else(|| Unreadable("it has no object store".to_owned()))?;
    let dir = OwnedFd::from(dir);
    fs::create_dir_all(into.join("info")).context("failed to make a view of the objects")?;
    let mut packed = 0;
    for (name, inner, sizes) in parts(&dir)? {
        packed += sizes;
        drop(inner);
        symlink(objects.join(&name), into.join(&name)).context("failed to make a view of the objects")?;
    }
    let alternates = match read_inside(&dir, Path::new("info/alternates"), MAX_ALTERNATES) {
        Ok(text) => text.unwrap_or_default(),
        // What cannot be read is not followed either; whether something is missing is seen without it.
        Err(error) if super::trouble::is_unreadable(&error) => b"?".to_vec(),
        Err(error) => return Err(error),
    };
    let lines = alternates.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    Ok(Store {
        object_format: format_in(&dir)?.unwrap_or("sha1"),
        packed,
        alternates: lines.map(<[u8]>::to_vec).collect(),
    })
}

/// `sha1` or `sha256`, by the names in the store of a git directory; None if it has no objects.
///
/// # Errors
/// It has no store, or one that is not made as git makes it.
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

/// The directories of a store that hold objects, with their names and the bytes that packs take.
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
            return Err(Unreadable(format!("{} of the object store is no directory", name.display())).into());
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
        let found = statat(dir, &file, AtFlags::SYMLINK_NOFOLLOW);
        sum += found.map_or(0, |found| u64::try_from(found.st_size).unwrap_or(0));
    }
    Ok(sum)
}

/// Whether a name is that of a directory of loose objects.
pub fn is_fan_out(name: &[u8]) -> bool {
    name.len() == 2 && name.iter().all(u8::is_ascii_hexdigit)
}

/// By the name of a pack or a loose object: gitrepository-layout(5).
fn format_of(name: &[u8], in_pack: bool) -> Option<&'static str> {
    let digits = if in_pack { name.strip_prefix(b"pack-")?.split(|byte| *byte == b'.').next()? } else { name };
    let known = digits.iter().all(u8::is_ascii_hexdigit);
    match digits.len() + if in_pack { 0 } else { 2 } {
        40 if known => Some("sha1"),
        64 if known => Some("sha256"),
        _ => None,
    }
}
