//! Changing directory trees that a guest has filled: by descriptors, so that a name which is replaced meanwhile, for example
//! by a link to the host's files, leads nowhere.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, chmod, fchmod, fstat, openat, openat2, statat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::path::Arg;

/// Callbacks of [`descend`] for each directory of a tree.
pub trait Visit {
    /// Permissions that the owner of a directory needs; missing ones are added.
    const RIGHTS: Mode;

    /// Called for each directory, with its path in the tree; returns the names of subdirectories to descend into.
    ///
    /// # Errors
    /// The walk must end.
    fn enter(&mut self, dir: &OwnedFd, path: &[CString]) -> Result<Vec<CString>>;

    /// Called after everything in the directory `name` of `parent` has been visited.
    ///
    /// # Errors
    /// The walk must end.
    fn leave(&mut self, _parent: &OwnedFd, _name: &CStr) -> Result<()> {
        Ok(())
    }
}

/// Visits a directory and those below it, at any depth. It keeps one directory open at a time, follows no link and crosses
/// no mount point.
///
/// # Errors
/// The visitor failed; or a directory cannot be opened, or was replaced meanwhile.
pub fn descend<V: Visit>(top: OwnedFd, visitor: &mut V) -> Result<()> {
    struct Level {
        identity: (u64, u64),
        pending: Vec<CString>,
    }
    let mut path = Vec::new();
    let identity = identity(&make_usable(&top, V::RIGHTS)?);
    let mut levels = vec![Level { identity, pending: visitor.enter(&top, &path)? }];
    let mut dir = top;
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.pending.pop() {
            let inner = open_directory(&dir, name.as_c_str(), V::RIGHTS)?;
            path.push(name);
            let pending = visitor.enter(&inner.0, &path)?;
            levels.push(Level { identity: inner.1, pending });
            dir = inner.0;
            continue;
        }
        levels.pop();
        let (Some(above), Some(name)) = (levels.last(), path.pop()) else { break };
        // By name, another directory could be opened.
        let parent = parent_of(&dir)?;
        ensure!(parent.1 == above.identity, "a directory was moved meanwhile");
        let parent = parent.0;
        dir = parent;
        visitor.leave(&dir, &name)?;
    }
    Ok(())
}

fn parent_of(dir: &OwnedFd) -> io::Result<(OwnedFd, (u64, u64))> {
    let parent = openat(dir, c"..", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let identity = identity(&fstat(&parent)?);
    Ok((parent, identity))
}

/// Opens the top directory of a walk, after adding missing permissions. Links are not followed.
///
/// # Errors
/// It is not a directory, or not on the file system of its parent.
pub fn open_top(path: &Path, rights: Mode) -> io::Result<OwnedFd> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = openat(CWD, parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(open_directory(&parent, name, rights)?.0)
}

/// Opens a subdirectory, which must be no link and on the same file system; also returns its identity.
fn open_directory(parent: impl AsFd + Copy, name: impl Arg + Copy, rights: Mode) -> io::Result<(OwnedFd, (u64, u64))> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let opened = match openat2(parent, name, flags, Mode::empty(), resolve) {
        Err(Errno::ACCESS) => open_up(parent, name)?,
        other => other?,
    };
    let identity = identity(&make_usable(&opened, rights)?);
    Ok((opened, identity))
}

fn make_usable(dir: &OwnedFd, rights: Mode) -> io::Result<Stat> {
    let found = fstat(dir)?;
    // Root needs no permission bits, and a restored mode should stay as the guest set it.
    if !rustix::process::geteuid().is_root() && !Mode::from_raw_mode(found.st_mode).contains(rights) {
        fchmod(dir, Mode::RWXU)?;
    }
    Ok(found)
}

fn identity(found: &Stat) -> (u64, u64) {
    (found.st_dev, found.st_ino)
}

/// Gives a directory mode 0700 and opens it. Links are not followed.
///
/// # Errors
/// It is not a directory, or not on the file system of its parent.
pub fn open_up(parent: impl AsFd, name: impl Arg) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    // An `O_PATH` descriptor needs no permission on the directory itself.
    let held = openat2(parent, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    // This path refers to the open directory, even if its name was replaced.
    chmod(format!("/proc/self/fd/{}", held.as_raw_fd()), Mode::RWXU)?;
    Ok(openat(&held, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Returns the name and kind of each entry of a directory.
///
/// # Errors
/// It cannot be read.
pub fn entries(dir: &OwnedFd) -> io::Result<impl Iterator<Item = io::Result<(CString, FileType)>> + '_> {
    let is_other = |name: &CString| name.as_c_str() != c"." && name.as_c_str() != c"..";
    let entry = move |entry: Result<rustix::fs::DirEntry, Errno>| {
        let entry = entry?;
        let name = entry.file_name().to_owned();
        let kind = match entry.file_type() {
            // Some file systems do not report the kind.
            FileType::Unknown => FileType::from_raw_mode(statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
            kind => kind,
        };
        Ok((name, kind))
    };
    Ok(Dir::read_from(dir)?.map(entry).filter(move |entry| !matches!(entry, Ok((name, _)) if !is_other(name))))
}

/// Removes a tree if it exists. Nothing outside it, or mounted in it, is removed.
///
/// # Errors
/// Something in it cannot be removed, or was replaced meanwhile.
pub fn remove_tree(path: &Path) -> Result<()> {
    match remove(path) {
        Err(error) if is_not_found(&error) && path.symlink_metadata().is_err() => Ok(()),
        other => other.with_context(|| format!("failed to remove {}", path.display())),
    }
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn remove(path: &Path) -> Result<()> {
    let path = std::path::absolute(path)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
    };
    let parent = openat(CWD, parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let parent = parent.map_err(io::Error::from)?;
    descend(open_up(&parent, name)?, &mut Removal)?;
    Ok(unlinkat(&parent, name, AtFlags::REMOVEDIR).map_err(io::Error::from)?)
}

struct Removal;

impl Visit for Removal {
    const RIGHTS: Mode = Mode::RWXU;

    fn enter(&mut self, dir: &OwnedFd, _: &[CString]) -> Result<Vec<CString>> {
        let mut directories = Vec::new();
        for entry in entries(dir)? {
            let (name, kind) = entry?;
            if kind == FileType::Directory {
                directories.push(name);
            } else {
                unlinkat(dir, &name, AtFlags::empty()).map_err(io::Error::from)?;
            }
        }
        Ok(directories)
    }

    fn leave(&mut self, parent: &OwnedFd, name: &CStr) -> Result<()> {
        Ok(unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(io::Error::from)?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use rustix::fs::{RenameFlags, renameat_with};

    use super::*;

    /// Runs `meanwhile` while another thread keeps exchanging two names in `tree`: a directory with a file, and a link to
    /// `outside`. Removed ones are created again.
    pub(crate) fn while_exchanged(tree: &Path, outside: &Path, mut meanwhile: impl FnMut()) {
        let (stop, exchanged) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    match renameat_with(CWD, tree.join("a"), CWD, tree.join("b"), RenameFlags::EXCHANGE) {
                        Ok(()) => drop(exchanged.fetch_add(1, Ordering::Relaxed)),
                        // The next round shows whether both exist again.
                        Err(_) => drop(make_both(tree, outside)),
                    }
                }
            });
            for _ in 0..ROUNDS {
                let before = exchanged.load(Ordering::Relaxed);
                meanwhile();
                // Control: names were exchanged in every round.
                while exchanged.load(Ordering::Relaxed) == before {
                    std::thread::yield_now();
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    const ROUNDS: u32 = 500;

    fn make_both(tree: &Path, outside: &Path) -> io::Result<()> {
        ["a", "b"].iter().for_each(|name| drop(fs::remove_dir_all(tree.join(name))));
        fs::create_dir_all(tree)?;
        fs::create_dir(tree.join("a"))?;
        fs::write(tree.join("a/file"), "")?;
        symlink(outside, tree.join("b"))
    }

    /// Creates a directory with files outside the tree.
    pub(crate) fn outside(dir: &Path) -> PathBuf {
        let outside = dir.join("outside");
        fs::create_dir_all(outside.join("inner")).unwrap();
        fs::write(outside.join("file"), "kept").unwrap();
        fs::write(outside.join("inner/file"), "kept").unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o755)).unwrap();
        outside
    }

    /// Returns the owner, mode and number of links of everything in a directory, by path.
    pub(crate) fn seen(dir: &Path) -> BTreeMap<PathBuf, (u32, u32, u64)> {
        let entries = walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap);
        entries
            .map(|entry| {
                let metadata = entry.metadata().unwrap();
                (entry.into_path(), (metadata.uid(), metadata.mode(), metadata.nlink()))
            })
            .collect()
    }

    #[test]
    fn removal_never_follows_a_link_that_replaces_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let outside = outside(dir.path());
        let before = seen(&outside);
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        // Either outcome is possible, depending on timing.
        while_exchanged(&tree, &outside, || drop(remove_tree(&tree)));
        assert_eq!(seen(&outside), before);
        remove_tree(&tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn a_link_instead_of_the_tree_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let outside = outside(dir.path());
        let before = seen(&outside);
        let link = dir.path().join("link");
        symlink(&outside, &link).unwrap();
        assert!(remove_tree(&link).is_err());
        assert_eq!(seen(&outside), before);
        // Control: the directory itself is removed.
        remove_tree(&outside).unwrap();
        assert!(!outside.exists());
    }
}
