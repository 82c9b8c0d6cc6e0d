//! Lists where a workspace can have commits: in its git directory, and in repositories anywhere else in it.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{FileType, Mode, OFlags, readlinkat};

use super::guest_files::{open_inside, open_root, read_all};
use super::layout::{self, Layout, joined};
use super::refs::shown;
use crate::host::files::tree::{Visit, descend, entries, open_top};
use crate::host::interrupt;
use crate::machine::policy;

/// Largest accepted `.git` file, in bytes.
const MAX_POINTER: u64 = 16 << 10;
/// Largest number of listed repositories of each kind; more are not needed for a message.
const MAX_FOUND: usize = 64;
/// Longest path, in bytes, whose files git can open: `PATH_MAX`, less a file name.
const MAX_PATH: usize = 4096 - 256;
/// Directories of other version control systems, which git does not list.
const OTHERS: [&str; 9] = [".hg", ".jj", ".svn", ".bzr", ".sl", ".pijul", "_darcs", "CVS", ".fslckout"];

/// The contents of a workspace.
#[derive(Default)]
pub struct Inventory {
    /// Whether it is empty.
    pub is_empty: bool,
    /// Whether it has its own git directory.
    pub has_git_dir: bool,
    /// The contents of that git directory.
    pub git_dir: Layout,
    /// What a bundle of the workspace's repository would lack.
    pub odd: Vec<String>,
    /// Whether git would wait for a pipe in the work tree.
    pub has_pipe: bool,
    /// Repositories on the machine's disk, which the host does not read.
    pub elsewhere: Vec<String>,
    /// Work trees of submodules, each with the path of its git directory.
    pub submodules: Vec<(PathBuf, PathBuf)>,
    /// Directories that look like a repository, but may be ordinary files of the work tree.
    pub like_repositories: Vec<PathBuf>,
}

/// Lists the contents of a workspace. Directories that the guest made unreadable are made readable.
///
/// # Errors
/// It cannot be read.
pub fn take(workspace: &Path) -> Result<Inventory> {
    let failed = || format!("failed to read {}", workspace.display());
    let mut inventory = Inventory::default();
    match workspace.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Inventory { is_empty: true, ..inventory });
        }
        Err(error) => return Err(error).with_context(failed),
        Ok(found) if !found.is_dir() => {
            inventory.odd.push("the workspace, which is not a directory".to_owned());
            return Ok(inventory);
        }
        Ok(_) => {}
    }
    let top = open_top(workspace, Look::RIGHTS).with_context(failed)?;
    let mut look = Look { workspace, inventory: &mut inventory };
    descend(top, &mut look).with_context(failed)?;
    if inventory.has_git_dir {
        let dot_git = workspace.join(".git");
        drop(open_top(&dot_git, Look::RIGHTS).with_context(failed)?);
        inventory.git_dir = layout::look(&dot_git)?;
    }
    Ok(inventory)
}

struct Look<'a> {
    workspace: &'a Path,
    inventory: &'a mut Inventory,
}

impl Visit for Look<'_> {
    const RIGHTS: Mode = Mode::RUSR.union(Mode::XUSR);

    fn enter(&mut self, dir: &OwnedFd, path: &[CString]) -> Result<Vec<CString>> {
        interrupt::check()?;
        let mut directories = Vec::new();
        let (mut head, mut parts, mut any, mut pack) = (false, 0, false, false);
        for entry in entries(dir)? {
            let (name, kind) = entry?;
            any = true;
            let bytes = name.to_bytes();
            head |= bytes == b"HEAD";
            pack |= is_pack(bytes);
            parts += usize::from([&b"objects"[..], b"refs", b"commondir"].contains(&bytes));
            let is_git_file = matches!(bytes, b".gitignore" | b".gitattributes" | b".gitmodules");
            match (bytes, kind) {
                (b".git", FileType::Directory) if path.is_empty() => self.inventory.has_git_dir = true,
                (b".git", FileType::Directory) => {
                    self.inventory.has_pipe |= has_pipe(dir, Path::new(".git"));
                    self.odd(path, "a repository in");
                }
                (b".git", _) => self.pointer(dir, kind, path)?,
                // Git would block on a fifo, and read a device without end.
                _ if is_git_file
                    && !matches!(kind, FileType::RegularFile | FileType::Symlink | FileType::Directory) =>
                {
                    self.inventory.has_pipe = true;
                    self.odd(path, "a git file of the wrong file type in");
                }
                (_, FileType::Directory) if OTHERS.iter().any(|other| other.as_bytes() == bytes) => {
                    self.odd(path, "a repository of another version control system in");
                }
                (_, FileType::Directory) => directories.push(name),
                _ => {}
            }
        }
        if path.is_empty() {
            self.inventory.is_empty = !any;
        }
        let has_objects = path.last().is_some_and(|name| name.to_bytes() == b"objects")
            && directories.iter().any(|name| name.to_bytes() == b"pack");
        if path.iter().map(|part| part.to_bytes().len() + 1).sum::<usize>() > MAX_PATH {
            self.odd(path, "a path that is too long for git,");
            return Ok(Vec::new());
        }
        // A repository in such a directory is looked for all the same.
        let is_new = || !self.inventory.like_repositories.iter().any(|like| joined(path).starts_with(like));
        if ((head && parts > 0) || has_objects || pack) && is_new() {
            if self.inventory.like_repositories.len() >= MAX_FOUND {
                self.odd(path, "too many repositories, including one in");
                return Ok(Vec::new());
            }
            self.inventory.like_repositories.push(joined(path));
        }
        Ok(directories)
    }
}

/// Returns whether git would wait when it looks whether a path below `dir` is a git directory. (A link counts, too.)
fn has_pipe(dir: impl AsFd, git_dir: &Path) -> bool {
    let is_data = |found: io::Result<fs::Metadata>| found.is_ok_and(|found| found.is_file() || found.is_dir());
    let is_pipe = |name: &&str| match open_inside(&dir, &git_dir.join(name), OFlags::PATH) {
        Ok(found) => found.is_some_and(|file| !is_data(file.metadata())),
        Err(_) => true,
    };
    ["HEAD", "commondir"].iter().any(is_pipe)
}

/// Returns whether a name is that of a pack of objects.
fn is_pack(name: &[u8]) -> bool {
    let hash = name.strip_prefix(b"pack-").and_then(|rest| rest.strip_suffix(b".pack"));
    hash.is_some_and(|hash| matches!(hash.len(), 40 | 64) && hash.iter().all(u8::is_ascii_hexdigit))
}

impl Look<'_> {
    fn odd(&mut self, path: &[CString], what: &str) {
        if self.inventory.odd.len() < MAX_FOUND {
            let place = if path.is_empty() { "the workspace".to_owned() } else { shown_path(&joined(path)) };
            self.inventory.odd.push(format!("{what} {place}"));
        }
    }

    /// Follows a `.git` that is a file or a link.
    fn pointer(&mut self, dir: &OwnedFd, kind: FileType, path: &[CString]) -> Result<()> {
        let target = match kind {
            FileType::Symlink => readlinkat(dir, c".git", Vec::new()).map_err(io::Error::from)?.into_bytes(),
            FileType::RegularFile => {
                let text = open_inside(dir, Path::new(".git"), OFlags::RDONLY)?;
                let text = text.map(|file| read_all(file, MAX_POINTER)).transpose()?.unwrap_or_default();
                text.trim_ascii_end().strip_prefix(b"gitdir: ").map(<[u8]>::to_vec).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        if target.is_empty() {
            self.odd(path, "a .git that is neither a directory nor a pointer to one in");
            return Ok(());
        }
        let place = joined(path);
        let inside = self.inside(&place, Path::new(OsStr::from_bytes(&target)));
        if inside.as_ref().is_some_and(|git_dir| open_root(self.workspace).is_ok_and(|root| has_pipe(root, git_dir))) {
            self.inventory.has_pipe = true;
            self.odd(path, "a git directory with a file of the wrong file type for");
        }
        match inside {
            None if self.inventory.elsewhere.len() < MAX_FOUND => self.inventory.elsewhere.push(shown(&target)),
            None => {}
            Some(git_dir)
                if kind == FileType::RegularFile && git_dir.starts_with(".git/modules") && !path.is_empty() =>
            {
                self.inventory.submodules.push((place, git_dir));
            }
            Some(git_dir) => self.odd(path, &format!("a .git that points to {} in", shown_path(&git_dir))),
        }
        Ok(())
    }

    /// Returns a path of the guest relative to the workspace; None if it is outside. `from` is the directory that
    /// relative paths start at.
    fn inside(&self, from: &Path, path: &Path) -> Option<PathBuf> {
        let seen = [policy::workspace().path.as_path(), self.workspace].into_iter();
        let below =
            if path.is_absolute() { seen.filter_map(|root| path.strip_prefix(root).ok()).next()? } else { path };
        let mut parts: Vec<&OsStr> = if path.is_absolute() { Vec::new() } else { from.iter().collect() };
        for part in below.components() {
            match part {
                Component::Normal(name) => parts.push(name),
                Component::ParentDir => drop(parts.pop()?),
                Component::CurDir => {}
                Component::RootDir | Component::Prefix(_) => return None,
            }
        }
        Some(parts.into_iter().collect())
    }
}

/// Returns whether a path of `info/alternates` leads out of the workspace.
pub fn is_elsewhere(workspace: &Path, alternate: &[u8]) -> bool {
    let mut nothing = Inventory::default();
    let look = Look { workspace, inventory: &mut nothing };
    alternate != b"?" && look.inside(Path::new(".git/objects"), Path::new(OsStr::from_bytes(alternate))).is_none()
}

/// Returns a path for messages, shortened if it is long.
pub fn shown_path(path: &Path) -> String {
    shown(path.as_os_str().as_bytes())
}

/// Returns whether a workspace exists.
pub fn is_there(workspace: &Path) -> bool {
    fs::symlink_metadata(workspace).is_ok()
}
