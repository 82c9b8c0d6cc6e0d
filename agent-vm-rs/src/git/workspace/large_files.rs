//! Git LFS files of a workspace. The guest wrote the pointers and the contents; both count only if they fit together.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{FileType, OFlags};

use super::guest_files::{open_inside, open_root};
use super::inventory::shown_path;
use super::pack::Limit;
use super::view::View;
use crate::git::Source;
use crate::git::lfs::{DIRECTORY, Pointer, has, is_damaged, keep, pointers};
use crate::git::origin_copy::ORIGIN_COPY;
use crate::git::owner::Owner;
use crate::host::files::beneath::{self, Entry};
use crate::host::files::places::Mounts;
use crate::host::files::tree::entries;
use crate::host::interrupt::{self, Deadline};
use crate::term::text::{bytes, count};

/// Size in bytes of the source's large files that are read to find damage.
const MOST_BYTES_READ: u64 = 128 << 20;

/// Modes in the index, with the space after them.
const PLAIN: &[u8] = b"100644 ";
const PROGRAM: &[u8] = b"100755 ";
/// Largest number of files in a store that are looked at, and of those that are brought at a time.
const MOST_STORED: usize = 100_000;
const MOST_BROUGHT: usize = 10_000;

/// Takes bytes until a deadline.
struct Until(Deadline);

impl io::Write for Until {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.passed() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl View {
    /// Returns whether the repository, or the copy that `origin` leads to, has a store of LFS contents.
    fn has_store(&self) -> bool {
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

/// Copies the contents in a guest's stores that the source repository lacks into its store, those of the pointers `new` first.
/// Returns what is not copied, with the reasons.
///
/// # Errors
/// The store cannot be written.
pub fn bring(view: &View, new: &[Pointer], common_dir: &Path, limit: Limit<'_>) -> Result<Vec<String>> {
    let guest = &view.guest;
    let bring = || {
        let to = open_root(common_dir)?;
        let lacking = |pointer: &Pointer| !has(&to, pointer);
        let mut stored = stored(guest)?;
        stored.retain(|(_, pointer)| lacking(pointer));
        let wanted: BTreeSet<_> = new.iter().collect();
        stored.sort_by_key(|(_, pointer)| !wanted.contains(pointer));
        let contents = |number| format!("the contents of {}", count(number, "Git LFS file"));
        // The user's own link, for example to another disk. What the machine chose is not written there.
        let is_link = |path: &&str| beneath::entry(&to, path.as_ref()).is_ok_and(|found| found == Some(Entry::Link));
        if let Some(link) = ["lfs", DIRECTORY].into_iter().find(is_link).filter(|_| !stored.is_empty()) {
            let link = common_dir.join(link);
            return Ok(vec![format!("{}, because {} is a link", contents(stored.len()), link.display())]);
        }
        let (mut left, mut larger, mut brought) = (limit.bytes, Vec::new(), 0);
        for (path, pointer) in &stored {
            interrupt::check()?;
            match left.checked_sub(pointer.size).filter(|_| brought < MOST_BROUGHT) {
                None => larger.push(pointer),
                Some(rest) => {
                    let file = beneath::open_file(guest, path);
                    if file.map(|file| keep(pointer, &file, &to)).transpose()?.unwrap_or(false) {
                        (left, brought) = (rest, brought + 1);
                    }
                }
            }
        }
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
    if !view.has_store() {
        return Ok(Vec::new());
    }
    match Owner::of(common_dir) {
        Some(owner) => owner.act(bring),
        None => bring(),
    }
}

/// Returns the paths of the stores of LFS contents in a guest's git directory.
fn stores() -> [PathBuf; 2] {
    [PathBuf::from(DIRECTORY), Path::new(ORIGIN_COPY).join(DIRECTORY)]
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
