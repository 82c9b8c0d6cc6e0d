//! Visiting everything in a directory that a guest has filled: by a bounded number of descriptors, so that links, deep
//! directories and long names do no harm.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};
use rustix::path::Arg;

use super::tree::entries;
use crate::term::text::one_line;

/// Number of directories that are kept open, the deepest ones. Those above are reopened by `..`.
const OPEN: usize = 32;
/// Number of characters of a path in the tree that an error shows.
const SHOWN: usize = 200;

/// A directory between the root and the current one.
struct Level {
    name: CString,
    /// None if too many deeper ones are open.
    dir: Option<OwnedFd>,
    /// Device and inode, which identify it when it is reopened.
    id: (u64, u64),
    /// Subdirectories that have not been entered yet.
    left: Vec<CString>,
}

/// Calls `visit` for everything at a path, a directory before its entries, with an `O_PATH` descriptor and the file status.
/// Links are visited, not followed. Files that vanish meanwhile are skipped.
///
/// # Errors
/// `visit` fails, something cannot be opened, or directories are replaced meanwhile. The error shows the place, in a bounded
/// number of characters.
pub fn walk(root: &Path, mut visit: impl FnMut(&OwnedFd, &Stat) -> io::Result<()>) -> Result<()> {
    let mut levels = Vec::new();
    descend(root, &mut levels, &mut visit).with_context(|| shown(root, &levels))
}

fn descend(
    root: &Path,
    levels: &mut Vec<Level>,
    visit: &mut impl FnMut(&OwnedFd, &Stat) -> io::Result<()>,
) -> io::Result<()> {
    let held = hold(CWD, root)?;
    let found = fstat(&held)?;
    visit(&held, &found)?;
    if is_directory(&found) {
        let dir = openat(&held, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        levels.push(Level::enter(c".".to_owned(), dir, visit)?);
    }
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.left.pop() else {
            leave(levels)?;
            continue;
        };
        let inside = level.dir.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat2(inside, &name, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)?;
        levels.push(Level::enter(name, dir, visit)?);
        if let Some(above) = levels.len().checked_sub(OPEN + 1) {
            levels[above].dir = None;
        }
    }
    Ok(())
}

impl Level {
    /// Visits the entries of a directory.
    fn enter(
        name: CString,
        dir: OwnedFd,
        visit: &mut impl FnMut(&OwnedFd, &Stat) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut left = Vec::new();
        for entry in entries(&dir)? {
            let (name, _) = entry?;
            let held = match hold(&dir, &name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            let found = fstat(&held)?;
            visit(&held, &found)?;
            if is_directory(&found) {
                left.push(name);
            }
        }
        Ok(Self { name, id: id(&fstat(&dir)?), dir: Some(dir), left })
    }
}

/// Returns to the parent directory.
fn leave(levels: &mut Vec<Level>) -> io::Result<()> {
    let left = levels.pop();
    let (Some(above), Some(dir)) = (levels.last_mut(), left.and_then(|left| left.dir)) else { return Ok(()) };
    if above.dir.is_none() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let found = openat(&dir, c"..", flags, Mode::empty())?;
        if id(&fstat(&found)?) != above.id {
            return Err(io::Error::other("a directory was moved meanwhile"));
        }
        above.dir = Some(found);
    }
    Ok(())
}

/// Opens a path with `O_PATH`; of a link, the link itself.
fn hold(dir: impl AsFd, name: impl Arg) -> io::Result<OwnedFd> {
    Ok(openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

fn is_directory(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Directory
}

fn id(found: &Stat) -> (u64, u64) {
    (found.st_dev, found.st_ino)
}

/// Returns the current path of the walk, for error messages.
fn shown(root: &Path, levels: &[Level]) -> String {
    let inside: PathBuf = levels.iter().skip(1).map(|level| level.name.to_string_lossy().into_owned()).collect();
    let inside = one_line(&inside.to_string_lossy());
    let root = one_line(&root.to_string_lossy());
    if inside.is_empty() {
        return root;
    }
    match inside.char_indices().rev().nth(SHOWN) {
        Some((cut, _)) => format!("{root}/…{}", &inside[cut..]),
        None => format!("{root}/{inside}"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use rustix::fs::{mkdirat, symlinkat};

    use super::*;
    use crate::host::files::tree::remove_tree;

    /// Creates nested directories with names of 200 characters, beyond `PATH_MAX` and the limit of open files. Returns the
    /// number of entries, links included.
    pub(crate) fn deep(dir: &Path, depth: usize) -> usize {
        fs::create_dir(dir).unwrap();
        let mut inner = hold(CWD, dir).unwrap();
        let name = "d".repeat(200);
        for _ in 0..depth {
            symlinkat("/", &inner, "link").unwrap();
            mkdirat(&inner, name.as_str(), Mode::RWXU).unwrap();
            inner = hold(&inner, name.as_str()).unwrap();
        }
        1 + 2 * depth
    }

    #[test]
    fn deep_trees_are_walked_with_few_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        let all = deep(&tree, 1500);
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        let (mut seen, mut most, mut inodes) = (0, 0, BTreeSet::new());
        walk(&tree, |held, found| {
            assert_eq!(id(found), id(&fstat(held)?));
            seen += 1;
            inodes.insert(found.st_ino);
            if seen % 100 == 0 {
                most = most.max(open());
            }
            Ok(())
        })
        .unwrap();
        // Other tests of this process may hold descriptors.
        assert!(most < before + 3 * OPEN, "{most} were open");
        assert_eq!((seen, inodes.len()), (all, all));
        // Control: the deepest directory cannot be opened by its path.
        let path: PathBuf = std::iter::once(tree.clone()).chain((0..30).map(|_| "d".repeat(200).into())).collect();
        assert!(fs::read_dir(path).is_err());

        let mut count = 0;
        let error = walk(&tree, |_, _| {
            count += 1;
            if count == 2000 { Err(io::Error::other("no more")) } else { Ok(()) }
        });
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.len() < 500 && error.ends_with("no more") && error.contains("ddd"), "{error}");
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn everything_in_a_tree_is_visited_once() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a/b/c", "a/b2", "a2/b/c", "e"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        fs::write(dir.path().join("a/b/file\u{1b}[2J\n"), "").unwrap();
        let (mut seen, mut files) = (BTreeSet::new(), 0);
        let mut look = |_: &OwnedFd, found: &Stat| {
            files += usize::from(!is_directory(found));
            assert!(seen.insert(found.st_ino));
            Ok(())
        };
        walk(dir.path(), &mut look).unwrap();
        assert_eq!((seen.len(), files), (10, 1));
    }
}
