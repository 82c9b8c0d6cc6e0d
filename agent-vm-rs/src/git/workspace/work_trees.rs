//! Reads the detached HEADs of linked work trees, which no reference of the repository names.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::OFlags;

use super::guest_files::{is_object_id, open_inside, read_inside};
use crate::host::files::tree::entries;

/// Largest number of linked work trees whose HEAD is read.
const MOST: usize = 1000;
/// Largest accepted HEAD of a linked work tree, in bytes.
const MAX_HEAD: u64 = 4096;

/// Returns the names and commits of linked work trees with a detached HEAD. The guest chose the names.
///
/// # Errors
/// [`super::Unreadable`] if git did not write the directory; other errors are failures of the host.
pub fn detached_heads(git_dir: &File) -> Result<Vec<(Vec<u8>, String)>> {
    let dir = open_inside(git_dir, Path::new("worktrees"), OFlags::RDONLY | OFlags::DIRECTORY)?;
    let Some(dir) = dir.map(OwnedFd::from) else { return Ok(Vec::new()) };
    let mut heads = Vec::new();
    for entry in entries(&dir).context("failed to list the linked work trees")?.take(MOST) {
        let (name, _) = entry.context("failed to list the linked work trees")?;
        let head = Path::new(OsStr::from_bytes(name.to_bytes())).join("HEAD");
        let id = read_inside(&dir, &head, MAX_HEAD).ok().flatten().unwrap_or_default();
        let id = id.trim_ascii_end();
        if is_object_id(id) {
            heads.push((name.to_bytes().to_vec(), String::from_utf8_lossy(id).into_owned()));
        }
    }
    Ok(heads)
}
