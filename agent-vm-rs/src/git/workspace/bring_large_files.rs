//! Brings the contents of a workspace's Git LFS files into the source repository's store.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{FileType, OFlags};

use super::guest_files::{open_inside, open_root};
use super::large_files::stores;
use super::offer::Repository;
use super::pack::Limit;
use crate::git::lfs::{Copied, DIRECTORY, Pointer, has, place_all};
use crate::git::owner::Owner;
use crate::host::files::beneath::{self, Entry};
use crate::host::files::tree::entries;
use crate::host::interrupt;
use crate::term::text::{bytes, count};

/// Largest number of files in a store that are looked at, and of those that are brought at a time.
const MOST_STORED: usize = 100_000;
const MOST_BROUGHT: usize = 10_000;

/// Copies the contents in a guest's stores and of its edited files that the source repository lacks into its store, those of
/// the pointers `new` first. Returns what is not copied, with the reasons.
///
/// # Errors
/// The store cannot be written.
pub fn bring(of: &Repository, new: &[Pointer], common_dir: &Path, limit: Limit<'_>) -> Result<Vec<String>> {
    let (view, guest, edited) = (&of.view, &of.view.guest, &of.edited);
    let tree = view.work_tree().filter(|_| !edited.is_empty()).map(open_root).transpose()?;
    let bring = || {
        let to = open_root(common_dir)?;
        let lacking = |pointer: &Pointer| !has(&to, pointer);
        let of_tree = edited.iter().map(|file| (PathBuf::from(OsStr::from_bytes(&file.path)), file.pointer.clone()));
        let of_tree = tree.iter().flat_map(|tree| of_tree.clone().map(move |(path, pointer)| (tree, path, pointer)));
        let of_stores = stored(guest)?.into_iter().map(|(path, pointer)| (guest, path, pointer));
        let mut stored: Vec<_> = of_tree.chain(of_stores).filter(|(_, _, pointer)| lacking(pointer)).collect();
        let wanted: BTreeSet<_> = new.iter().chain(edited.iter().map(|file| &file.pointer)).collect();
        stored.sort_by(|one, other| {
            let rank = |pointer| (!wanted.contains(pointer), pointer);
            rank(&one.2).cmp(&rank(&other.2))
        });
        // One file is enough; another has the same contents, or is damaged.
        stored.dedup_by(|one, other| one.2 == other.2);
        let contents = |number| format!("the contents of {}", count(number, "Git LFS file"));
        // The user's own link, for example to another disk. What the machine chose is not written there.
        let is_link = |path: &&str| beneath::entry(&to, path.as_ref()).is_ok_and(|found| found == Some(Entry::Link));
        if let Some(link) = ["lfs", DIRECTORY].into_iter().find(is_link).filter(|_| !stored.is_empty()) {
            let link = common_dir.join(link);
            return Ok(vec![format!("{}, because {} is a link", contents(stored.len()), link.display())]);
        }
        let (mut left, mut larger, mut brought) = (limit.bytes, Vec::new(), Vec::new());
        for (root, path, pointer) in &stored {
            interrupt::check()?;
            match left.checked_sub(pointer.size).filter(|_| brought.len() < MOST_BROUGHT) {
                None => larger.push(pointer),
                Some(rest) => {
                    let file = beneath::open_file(root, path);
                    if let Some(copied) = file.map(|file| Copied::new(pointer, &file, &to)).transpose()?.flatten() {
                        brought.push(copied);
                        left = rest;
                    }
                }
            }
        }
        place_all(&brought, &to)?;
        let missing = wanted.iter().filter(|pointer| lacking(pointer) && !larger.contains(*pointer)).count();
        let mut left_out = Vec::new();
        if missing > 0 {
            left_out.push(format!("{}, which it does not have", contents(missing)));
        }
        if !larger.is_empty() {
            let size = larger.iter().map(|pointer| pointer.size).fold(0, u64::saturating_add);
            let most = (limit.bytes.saturating_add(size) >> 20) + 1;
            let (raise, size) = (limit.raise, bytes(size));
            left_out.push(format!("{} ({size}); to get more: {raise} --max-size {most}", contents(larger.len())));
        }
        Ok(left_out)
    };
    if edited.is_empty() && !view.has_store() {
        return Ok(Vec::new());
    }
    match Owner::of(common_dir) {
        Some(owner) => owner.act(bring),
        None => bring(),
    }
}

/// Returns the contents in the stores of a guest's git directory: their paths in it, and what the names say.
fn stored(guest: &File) -> Result<Vec<(PathBuf, Pointer)>> {
    let mut found = Vec::new();
    for store in stores() {
        let mut dirs = vec![(store, 0)];
        while let Some((path, depth)) = dirs.pop() {
            let Ok(Some(dir)) = open_inside(guest, &path, OFlags::RDONLY | OFlags::DIRECTORY) else { continue };
            for entry in entries(&dir.into()).context("failed to list Git LFS files")? {
                let (name, kind) = entry.context("failed to list Git LFS files")?;
                let inside = path.join(OsStr::from_bytes(name.to_bytes()));
                if kind == FileType::Directory && depth < 2 {
                    dirs.push((inside, depth + 1));
                } else if let Ok(Some(Entry::File(size))) = beneath::entry(guest, &inside) {
                    let pointer = name.to_str().ok().and_then(|name| Pointer::new(name, size));
                    found.extend(pointer.map(|pointer| (inside, pointer)));
                }
                if found.len() + dirs.len() > MOST_STORED {
                    return Ok(found);
                }
            }
        }
    }
    Ok(found)
}
