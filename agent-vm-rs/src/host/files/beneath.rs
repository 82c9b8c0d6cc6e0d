//! Opens, copies and removes single files of a directory tree by their relative paths, through no symbolic link.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat, symlinkat, unlinkat,
};
use rustix::io::Errno;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// The kind and size of what is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A regular file of this size in bytes.
    File(u64),
    /// A symbolic link.
    Link,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// Returns what is at a path; None if there is nothing, or if a link leads to it.
///
/// # Errors
/// It cannot be read.
pub fn entry(root: &File, path: &Path) -> io::Result<Option<Entry>> {
    match openat2(root, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), BENEATH) {
        Ok(found) => {
            let found = fstat(&found)?;
            Ok(Some(match FileType::from_raw_mode(found.st_mode) {
                FileType::RegularFile => Entry::File(u64::try_from(found.st_size).unwrap_or(0)),
                FileType::Symlink => Entry::Link,
                FileType::Directory => Entry::Directory,
                _ => Entry::Other,
            }))
        }
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a regular file; None if there is none, or if a link leads to it. Opening a fifo does not block.
#[must_use]
pub fn open_file(root: &File, path: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat2(root, path, flags, Mode::empty(), BENEATH).ok()?);
    file.metadata().is_ok_and(|file| file.is_file()).then_some(file)
}

/// Returns whether a path is a directory that no link leads to.
#[must_use]
pub fn is_directory(root: &File, path: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(root, path, flags, Mode::empty(), BENEATH).is_ok()
}

/// Copies a file or a link to the same path in another directory and replaces a file there. Of the mode, only the right
/// to execute counts. At most `most` bytes are copied.
///
/// # Errors
/// It is of another kind or larger, or it cannot be read or written.
pub fn copy(from: &File, to: &File, path: &Path, most: u64) -> io::Result<()> {
    let (dir, name) = parent(to, path)?;
    match unlinkat(&dir, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        // A directory that has become a file; it is empty.
        Err(Errno::ISDIR) => unlinkat(&dir, &name, AtFlags::REMOVEDIR)?,
        Err(error) => return Err(error.into()),
    }
    match entry(from, path)? {
        Some(Entry::File(size)) if size <= most => {}
        Some(Entry::Link) => {
            let link = openat2(from, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), BENEATH)?;
            return Ok(symlinkat(readlinkat(&link, c"", Vec::new())?, &dir, &name)?);
        }
        _ => return Err(io::Error::from(io::ErrorKind::Unsupported)),
    }
    let source = open_file(from, path).ok_or(io::ErrorKind::NotFound)?;
    let target = create(&dir, &name, fstat(&source)?.st_mode & 0o100 != 0)?;
    io::copy(&mut source.take(most), &mut File::from(target)).map(drop)
}

/// Replaces a regular file by one with other contents. The right to execute stays.
///
/// # Errors
/// There is no such file, or it cannot be written.
pub fn replace(root: &File, path: &Path, mut contents: File) -> io::Result<()> {
    let is_program = fstat(open_file(root, path).ok_or(io::ErrorKind::NotFound)?)?.st_mode & 0o100 != 0;
    let (dir, name) = parent(root, path)?;
    unlinkat(&dir, &name, AtFlags::empty())?;
    io::copy(&mut contents, &mut File::from(create(&dir, &name, is_program)?)).map(drop)
}

/// Creates a file that does not exist.
fn create(dir: &OwnedFd, name: &OsStr, is_program: bool) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::from_raw_mode(if is_program { 0o755 } else { 0o644 }))
}

/// Opens a directory, and makes it and those above it if they are missing.
///
/// # Errors
/// A link or file is in the way, or a directory cannot be made.
pub fn make_dirs(root: &File, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // Most exist.
    if let Ok(dir) = openat2(root, path, flags, Mode::empty(), BENEATH) {
        return Ok(dir);
    }
    let mut dir: OwnedFd = root.try_clone()?.into();
    for part in path.components() {
        let Component::Normal(name) = part else { return Err(io::ErrorKind::InvalidInput.into()) };
        match mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        dir = openat2(&dir, name, flags, Mode::empty(), BENEATH)?;
    }
    Ok(dir)
}

/// Removes a file or link, and the directories that are empty then.
///
/// # Errors
/// It cannot be removed.
pub fn remove(root: &File, path: &Path) -> io::Result<()> {
    for (depth, path) in path.ancestors().take_while(|path| !path.as_os_str().is_empty()).enumerate() {
        let dir = match path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            Some(dir) => openat2(root, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), BENEATH),
            None => Ok(root.try_clone()?.into()),
        };
        let flags = if depth == 0 { AtFlags::empty() } else { AtFlags::REMOVEDIR };
        match dir.and_then(|dir| unlinkat(dir, path.file_name().unwrap_or_default(), flags)) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if depth == 0 => return Ok(()),
            Err(_) if depth > 0 => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Opens the directory of a path, and makes it if it is missing. A file or link in the place of a directory is removed.
fn parent(root: &File, path: &Path) -> io::Result<(OwnedFd, OsString)> {
    let mut dir: OwnedFd = root.try_clone()?.into();
    let mut names: Vec<&OsStr> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) if name.as_bytes() != b".git" => names.push(name),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    let name = names.pop().ok_or(io::ErrorKind::InvalidInput)?;
    for part in names {
        let open = || openat2(&dir, part, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), BENEATH);
        let opened = match open() {
            Err(Errno::NOENT) => mkdirat(&dir, part, Mode::from_raw_mode(0o755)).and_then(|()| open()),
            Err(Errno::NOTDIR | Errno::LOOP) => unlinkat(&dir, part, AtFlags::empty())
                .and_then(|()| mkdirat(&dir, part, Mode::from_raw_mode(0o755)))
                .and_then(|()| open()),
            other => other,
        };
        dir = opened?;
    }
    Ok((dir, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn files_and_links_are_copied_through_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to, out) = (dir.path().join("from"), dir.path().join("to"), dir.path().join("out"));
        for made in [from.join("a/b"), to.clone(), out.clone()] {
            fs::create_dir_all(made).unwrap();
        }
        fs::write(from.join("a/b/f"), "x").unwrap();
        fs::set_permissions(from.join("a/b/f"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("/etc/hostname", from.join("a/l")).unwrap();
        symlink(&out, from.join("away")).unwrap();
        fs::write(out.join("secret"), "s").unwrap();
        // The target has a link in the place of the directory.
        symlink(&out, to.join("a")).unwrap();
        let (source, target) = (File::open(&from).unwrap(), File::open(&to).unwrap());
        for path in ["a/b/f", "a/l"] {
            copy(&source, &target, Path::new(path), 10).unwrap();
        }
        assert_eq!(fs::read_to_string(to.join("a/b/f")).unwrap(), "x");
        assert_eq!(fs::metadata(to.join("a/b/f")).unwrap().permissions().mode() & 0o111, 0o111);
        assert_eq!(fs::read_link(to.join("a/l")).unwrap(), Path::new("/etc/hostname"));
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1, "written through a link");
        for path in ["away/secret", "../out/secret", "/etc/hostname", ".git/config", "a/b"] {
            assert!(copy(&source, &target, Path::new(path), 10).is_err(), "{path}");
        }
        assert!(copy(&source, &target, Path::new("a/b/f"), 0).is_err(), "too large");
        assert_eq!(entry(&source, Path::new("away/secret")).unwrap(), None);
    }

    #[test]
    fn empty_directories_are_removed_with_the_last_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/f"), "").unwrap();
        fs::write(dir.path().join("a/b/f"), "").unwrap();
        let root = File::open(dir.path()).unwrap();
        remove(&root, Path::new("a/b/f")).unwrap();
        assert!(!dir.path().join("a/b").exists() && dir.path().join("a/f").exists());
        remove(&root, Path::new("a/f")).unwrap();
        remove(&root, Path::new("a/none")).unwrap();
        assert!(!dir.path().join("a").exists());
    }
}
