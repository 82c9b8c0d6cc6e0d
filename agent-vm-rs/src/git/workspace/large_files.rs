//! Git LFS files of a workspace. The guest wrote the pointers and the contents; both count only if they fit together.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::fs::OFlags;

use super::guest_files::open_inside;
use super::inventory::shown_path;
use super::view::View;
use crate::git::Source;
use crate::git::lfs::{DIRECTORY, Pointer, has, is_damaged, keep, pointers};
use crate::git::owner::Owner;
use crate::host::files::beneath::{self, Entry};
use crate::host::files::places::Mounts;
use crate::host::interrupt;
use crate::term::text::count;

/// Size in bytes of the source\'s large files that are read to find damage.
const MOST_BYTES_READ: u64 = 128 << 20;

impl View {
    /// Returns whether the repository has a store of LFS contents.
    fn has_store(&self) -> bool {
        open_inside(&self.guest, Path::new(DIRECTORY), OFlags::PATH | OFlags::DIRECTORY).is_ok_and(|dir| dir.is_some())
    }

    /// Returns those of the `paths` whose file in the work tree has the contents that the index's pointer names. The contents
    /// are also in the store, which is saved apart from the files.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub(super) fn with_their_contents(&self, paths: &BTreeSet<&[u8]>) -> Result<BTreeSet<Vec<u8>>> {
        let Some(work_tree) = self.work_tree().filter(|_| !paths.is_empty() && self.has_store()) else {
            return Ok(BTreeSet::new());
        };
        let tree = super::guest_files::open_root(work_tree)?;
        let listed = self.ask(&self.git(None).args(["ls-files", "--stage", "-z"]))?;
        // Each entry is `MODE ID STAGE`, then the path.
        let entry = |entry: &[u8]| {
            let (facts, path) = entry.split_at_checked(entry.iter().position(|byte| *byte == b'\t')?)?;
            let id = facts.strip_prefix(b"100644 ").or_else(|| facts.strip_prefix(b"100755 "))?.strip_suffix(b" 0")?;
            paths.contains(&path[1..]).then(|| (path[1..].to_vec(), String::from_utf8_lossy(id).into_owned()))
        };
        let staged: Vec<_> = listed.split(|byte| *byte == 0).filter_map(entry).collect();
        let ids: String = staged.iter().map(|(_, id)| format!("{id}\n")).collect();
        let pointers = self.pointers(ids.as_bytes())?;
        let mut found = BTreeSet::new();
        for (path, id) in staged {
            interrupt::check()?;
            let Some(pointer) = pointers.get(&id).filter(|pointer| has(&self.guest, pointer)) else { continue };
            let file = beneath::open_file(&tree, OsStr::from_bytes(&path).as_ref());
            let file = file.filter(|file| file.metadata().is_ok_and(|file| file.len() == pointer.size));
            if file.is_some_and(|file| pointer.copy(&file, &mut std::io::sink()).unwrap_or(false)) {
                found.insert(path);
            }
        }
        Ok(found)
    }

    /// Returns the pointers among the objects `ids`, one on each line, if the repository has a store of contents.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub(super) fn pointers(&self, ids: &[u8]) -> Result<BTreeMap<String, Pointer>> {
        if !self.has_store() {
            return Ok(BTreeMap::new());
        }
        pointers(ids, || self.git(None), |git| self.ask(git))
    }
}

/// Copies the contents of pointers that the source repository lacks into its store. Returns what is not copied, with the
/// reason.
///
/// # Errors
/// The store cannot be written.
pub fn bring(view: &View, pointers: &[Pointer], common_dir: &Path) -> Result<Option<String>> {
    let guest = &view.guest;
    let bring = || {
        let to = super::guest_files::open_root(common_dir)?;
        // The user's own link, for example to another disk. What the machine chose is not written there.
        let is_link = |path: &str| beneath::entry(&to, path.as_ref()).is_ok_and(|found| found == Some(Entry::Link));
        let link = ["lfs", DIRECTORY].into_iter().find(|path| is_link(path));
        let (mut lacking_here, mut missing) = (0, 0);
        for pointer in lacking(pointers, &to) {
            interrupt::check()?;
            lacking_here += 1;
            if link.is_none() {
                let contents = beneath::open_file(guest, &pointer.path()).filter(|_| has(guest, pointer));
                let is_kept = contents.map(|contents| keep(pointer, &contents, &to)).transpose()?.unwrap_or(false);
                missing += usize::from(!is_kept);
            }
        }
        let contents = |number| format!("the contents of {}", count(number, "Git LFS file"));
        Ok(match link {
            Some(link) if lacking_here > 0 => {
                let link = common_dir.join(link);
                Some(format!("{}, because {} is a link", contents(lacking_here), link.display()))
            }
            _ => (missing > 0).then(|| format!("{}, which it does not have", contents(missing))),
        })
    };
    if pointers.is_empty() {
        return Ok(None);
    }
    match Owner::of(common_dir) {
        Some(owner) => owner.act(bring),
        None => bring(),
    }
}

/// Returns the size of the contents that the source repository lacks, in bytes.
pub fn size_of_lacking(pointers: &[Pointer], common_dir: &Path) -> Result<u64> {
    let to = super::guest_files::open_root(common_dir)?;
    Ok(lacking(pointers, &to).map(|pointer| pointer.size).fold(0, u64::saturating_add))
}

fn lacking<'a>(pointers: &'a [Pointer], git_dir: &'a File) -> impl Iterator<Item = &'a Pointer> {
    pointers.iter().filter(|pointer| !has(git_dir, pointer))
}

/// Returns those of the files in LFS stores (paths in `.git`) that the source repository lacks, or has damaged.
pub(super) fn lacking_in<'a>(
    source: Option<&'a Source>,
    workspace: &'a Path,
    files: &'a [PathBuf],
) -> impl Iterator<Item = &'a Path> {
    let mounts = Mounts::read();
    let mut to_read = MOST_BYTES_READ;
    let size = |path: &Path| path.symlink_metadata().ok().filter(std::fs::Metadata::is_file).map(|found| found.len());
    let mut is_lacking = move |file: &Path| {
        let is_object = file.components().any(|part| part.as_os_str() == "objects");
        let own = size(&workspace.join(".git").join(file));
        // `fetch` brings the contents of submodules into the source's own store.
        let parts: Vec<_> = file.components().collect();
        let start = parts.iter().rposition(|part| part.as_os_str() == "lfs").unwrap_or(0);
        let names = [file.to_path_buf(), parts[start..].iter().collect()];
        let mut is_there = |path: PathBuf| {
            let Some(length) = size(&path).filter(|length| Some(*length) == own && !mounts.is_in(&path, workspace))
            else {
                return false;
            };
            let is_read = to_read.checked_sub(length).map(|left| to_read = left).is_some();
            !(is_read && is_damaged(&path))
        };
        let is_kept = source.is_some_and(|source| names.iter().any(|name| is_there(source.git_path(name))));
        is_object && !is_kept
    };
    files.iter().map(PathBuf::as_path).filter(move |file| is_lacking(file))
}

/// Returns what is kept only in a workspace of the files in LFS stores.
pub(super) fn left_out(source: Option<&Source>, workspace: &Path, files: &[PathBuf]) -> Option<String> {
    let lacking: Vec<_> = lacking_in(source, workspace, files).collect();
    let first = lacking.first()?;
    Some(format!("{}, such as {}", count(lacking.len(), "large file"), shown_path(first)))
}
