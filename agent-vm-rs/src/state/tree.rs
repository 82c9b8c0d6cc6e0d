//! Directories that a guest has filled: opened and changed by descriptors, so that a name which stands for something else
//! by then, a link to the host's files for one, leads nowhere.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, chmod, openat, openat2, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::path::Arg;

/// Removes a tree; one that is not there is no error. Nothing is removed that is not in it, or is mounted there.
///
/// # Errors
/// Something in it cannot be removed, or is exchanged meanwhile.
pub fn remove_tree(path: &Path) -> Result<()> {
    match flatten_and_remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => Ok(()),
        other => other.with_context(|| format!("failed to remove {}", path.display())),
    }
}

/// Lets a directory's owner, and nobody else, enter and change it, and opens it. Links are not followed.
///
/// # Errors
/// It is no directory, or not of the file system of its parent.
pub fn open_up(parent: impl AsFd, name: impl Arg) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    // To hold it takes no right to read it.
    let held = openat2(parent, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    // It leads to what is held, whatever has its name by now.
    chmod(format!("/proc/self/fd/{}", held.as_raw_fd()), Mode::RWXU)?;
    Ok(openat(&held, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// What is in a directory: name and kind of each.
///
/// # Errors
/// It cannot be read.
pub fn entries(dir: &OwnedFd) -> io::Result<impl Iterator<Item = io::Result<(CString, FileType)>> + '_> {
    let is_other = |name: &CString| name.as_c_str() != c"." && name.as_c_str() != c"..";
    let entry = move |entry: Result<rustix::fs::DirEntry, Errno>| {
        let entry = entry?;
        let name = entry.file_name().to_owned();
        let kind = match entry.file_type() {
            // Not every file system tells.
            FileType::Unknown => FileType::from_raw_mode(statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
            kind => kind,
        };
        Ok((name, kind))
    };
    Ok(Dir::read_from(dir)?.map(entry).filter(move |entry| !matches!(entry, Ok((name, _)) if !is_other(name))))
}

/// The guest may have left directories that their owner may not enter, or deeper than any path, stack or limit
/// of open files: each is opened up, and the directories in a directory move up into `path` until none is left.
fn flatten_and_remove(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = openat(CWD, parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let top = open_up(&parent, name)?;
    let mut moved = 0;
    loop {
        let directories = remove_files(&top)?;
        if directories.is_empty() {
            return Ok(unlinkat(&parent, name, AtFlags::REMOVEDIR)?);
        }
        for name in directories {
            let directory = open_up(&top, &name)?;
            for inner in remove_files(&directory)? {
                // To move a directory takes the right to write into it: its `..` changes.
                open_up(&directory, &inner)?;
                move_into(&top, &directory, &inner, &mut moved)?;
            }
            unlinkat(&top, &name, AtFlags::REMOVEDIR)?;
        }
    }
}

/// Removes all that is no directory from a directory; gives the directories.
fn remove_files(dir: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut directories = Vec::new();
    for entry in entries(dir)? {
        let (name, kind) = entry?;
        if kind == FileType::Directory { directories.push(name) } else { unlinkat(dir, &name, AtFlags::empty())? }
    }
    Ok(directories)
}

/// Moves a directory into `top` by the next name that is free there.
fn move_into(top: &OwnedFd, dir: &OwnedFd, name: &CString, moved: &mut u64) -> io::Result<()> {
    loop {
        let to = format!(".moved-{moved}");
        *moved += 1;
        if matches!(statat(top, &to, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT)) {
            return Ok(renameat(dir, name, top, &to)?);
        }
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

    /// Runs `meanwhile` while another thread exchanges two names in `tree` all the time: of a directory with a file, and of a
    /// link to `outside`. It makes them again when they are gone.
    pub(crate) fn while_exchanged(tree: &Path, outside: &Path, mut meanwhile: impl FnMut()) {
        let (stop, exchanged) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    match renameat_with(CWD, tree.join("a"), CWD, tree.join("b"), RenameFlags::EXCHANGE) {
                        Ok(()) => drop(exchanged.fetch_add(1, Ordering::Relaxed)),
                        // The next try tells whether both are there again.
                        Err(_) => drop(make_both(tree, outside)),
                    }
                }
            });
            for _ in 0..ROUNDS {
                let before = exchanged.load(Ordering::Relaxed);
                meanwhile();
                // Control: every round has seen exchanges.
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

    /// A directory outside, with files; and what it looks like.
    pub(crate) fn outside(dir: &Path) -> PathBuf {
        let outside = dir.join("outside");
        fs::create_dir_all(outside.join("inner")).unwrap();
        fs::write(outside.join("file"), "kept").unwrap();
        fs::write(outside.join("inner/file"), "kept").unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o755)).unwrap();
        outside
    }

    /// Owner, mode and number of links of everything in a directory, by path.
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
    fn what_is_exchanged_for_a_link_meanwhile_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let outside = outside(dir.path());
        let before = seen(&outside);
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        // Whether it succeeds depends on who is faster.
        while_exchanged(&tree, &outside, || drop(remove_tree(&tree)));
        assert_eq!(seen(&outside), before);
        remove_tree(&tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn a_link_in_place_of_the_tree_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let outside = outside(dir.path());
        let before = seen(&outside);
        let link = dir.path().join("link");
        symlink(&outside, &link).unwrap();
        assert!(remove_tree(&link).is_err());
        assert_eq!(seen(&outside), before);
        // Control: the directory itself goes.
        remove_tree(&outside).unwrap();
        assert!(!outside.exists());
    }
}
