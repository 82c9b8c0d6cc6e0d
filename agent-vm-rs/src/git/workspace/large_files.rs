//! Git LFS files of a workspace. The guest wrote the pointers and the contents; both count only if they fit together.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::OFlags;

use super::guest_files::{open_inside, open_root};
use super::inventory::shown_path;
use super::view::View;
use crate::git::Source;
use crate::git::lfs::{DIRECTORY, Pointer, has, is_damaged, pointers};
use crate::git::origin_copy::ORIGIN_COPY;
use crate::host::files::beneath::{self, Entry};
use crate::host::files::places::Mounts;
use crate::host::interrupt::{self, Deadline, Until};
use crate::term::text::count;

/// Size in bytes of the source's large files that are read to find damage.
const MOST_BYTES_READ: u64 = 128 << 20;

/// Modes in the index, with the space after them.
const PLAIN: &[u8] = b"100644 ";
const PROGRAM: &[u8] = b"100755 ";

impl View {
    /// Returns whether the repository, or the copy that `origin` leads to, has a store of LFS contents.
    pub(super) fn has_store(&self) -> bool {
        let is_there = |store: &PathBuf| {
            open_inside(&self.guest, store, OFlags::PATH | OFlags::DIRECTORY).is_ok_and(|dir| dir.is_some())
        };
        stores().iter().any(is_there)
    }

    /// Returns whether one of these stores has the contents of a pointer, or something of the same size.
    fn stores_contents(&self, pointer: &Pointer) -> bool {
        let in_copy = || beneath::entry(&self.guest, &Path::new(ORIGIN_COPY).join(pointer.path()));
        has(&self.guest, pointer) || in_copy().is_ok_and(|found| found == Some(Entry::File(pointer.size)))
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
        let tree = open_root(work_tree)?;
        let listed = self.ask(&self.git(None).args(["ls-files", "--stage", "-z"]))?;
        // Each entry is `MODE ID STAGE`, then the path.
        let entry = |entry: &[u8]| {
            let (facts, path) = entry.split_at_checked(entry.iter().position(|byte| *byte == b'\t')?)?;
            let (mode, id) = facts.strip_suffix(b" 0")?.split_at_checked(PLAIN.len())?;
            let is_program = mode == PROGRAM;
            let id = (is_program || mode == PLAIN).then(|| String::from_utf8_lossy(id).into_owned())?;
            paths.contains(&path[1..]).then(|| (path[1..].to_vec(), is_program, id))
        };
        let staged: Vec<_> = listed.split(|byte| *byte == 0).filter_map(entry).collect();
        let ids: String = staged.iter().map(|(_, _, id)| format!("{id}\n")).collect();
        let pointers = self.pointers(ids.as_bytes())?;
        // A file that is not compared in time counts as changed.
        let mut until = Until(Deadline::after(self.time_limit() / 5));
        let mut found = BTreeSet::new();
        for (path, is_program, id) in staged {
            let Some(pointer) = pointers.get(&id).filter(|pointer| self.stores_contents(pointer)) else { continue };
            let Some(file) = beneath::open_file(&tree, OsStr::from_bytes(&path).as_ref()) else { continue };
            let metadata = file.metadata().context("failed to look at a file of the workspace")?;
            if metadata.len() == pointer.size
                && (metadata.mode() & 0o100 != 0) == is_program
                && pointer.copy(&file, &mut until).unwrap_or(false)
            {
                found.insert(path);
            }
            interrupt::check()?;
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

/// Returns the paths of the stores of LFS contents in a guest's git directory.
pub(super) fn stores() -> [PathBuf; 2] {
    [PathBuf::from(DIRECTORY), Path::new(ORIGIN_COPY).join(DIRECTORY)]
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
