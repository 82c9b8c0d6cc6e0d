//! Keeps a whole workspace, and disables the guest's git configuration and hooks in it: git would follow them.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, renameat, statat, unlinkat};

use super::git_failure::is_unreadable;
use super::guest_files::open_inside;
use super::keep_names::name_commits;
use crate::confine::take_tree;
use crate::host::files::tree::{Visit, descend, entries, open_up};
use crate::host::files::{rename_durably, sync_file_system};
use crate::host::process::Invocation;

/// Prefix of a moved workspace in which git configuration and hooks are not yet disabled.
pub const UNFINISHED: &str = ".unfinished-";
/// Files of a git directory that git follows: gitrepository-layout(5).
const FOLLOWED: [&CStr; 5] = [c"config", c"config.worktree", c"hooks", c"commondir", c"gitdir"];
/// Files in an object store's `info` that git follows.
const FOLLOWED_FROM_STORES: [&CStr; 2] = [c"alternates", c"http-alternates"];

/// Moves a workspace to the new path `to`, in a directory that only its owner can enter, and disables git
/// configuration and hooks in it: each git directory gets agent-vm's configuration, and the guest's files are renamed to
/// `*.of-the-guest`. The user becomes the owner of everything, since git refuses a repository of another owner. On another
/// file system it is copied first, to a directory that `scratch` makes.
///
/// # Errors
/// It cannot be moved, and stays where it was. Or a file cannot be renamed or change its owner, and the workspace is beside `to` under
/// [`UNFINISHED`].
pub fn keep_whole(workspace: &Path, to: &Path, scratch: impl FnOnce() -> Result<PathBuf>) -> Result<()> {
    let unfinished = beside(to, UNFINISHED)?;
    // Sync what the guest wrote before the workspace moves.
    sync_file_system(workspace.parent().context("the workspace has no parent directory")?)?;
    match fs::rename(workspace, &unfinished) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy(workspace, &scratch()?, &unfinished)?,
        other => other.with_context(|| format!("failed to move {} to {}", workspace.display(), to.display()))?,
    }
    finish(&unfinished, to)
}

/// Finishes the workspaces that killed commands moved into `dir`: disables git configuration and hooks in them and renames
/// them. Returns the new paths.
///
/// # Errors
/// A file in them cannot be renamed, or its owner cannot be changed.
pub fn finish_all(dir: &Path, is_own: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let finish_one = |(from, to): (PathBuf, PathBuf)| finish(&from, &to).map(|()| to);
    unfinished_in(dir, is_own).into_iter().map(finish_one).collect()
}

/// Returns the workspaces that killed commands moved into `dir` and did not finish, each with its path once it is finished.
pub fn unfinished_in(dir: &Path, is_own: impl Fn(&str) -> bool) -> Vec<(PathBuf, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let name = entry.file_name();
        let name = name.to_str()?.strip_prefix(UNFINISHED).filter(|name| is_own(name))?;
        Some((entry.path(), dir.join(name)))
    });
    found.collect()
}

fn finish(unfinished: &Path, to: &Path) -> Result<()> {
    let is_directory = fs::symlink_metadata(unfinished).is_ok_and(|found| found.is_dir());
    if is_directory {
        let (parent, name) = unfinished.parent().zip(unfinished.file_name()).context("the workspace has no name")?;
        let parent = openat(CWD, parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let top = open_up(parent.map_err(io::Error::from)?, name)?;
        let failed = || format!("failed to disable the git configuration and hooks in {}", unfinished.display());
        descend(top, &mut Defusing).with_context(failed)?;
        match name_commits(unfinished) {
            Err(error) if !is_unreadable(&error) => return Err(error),
            _ => {}
        }
        take_tree(unfinished)?;
    }
    if let Some(dir) = to.parent() {
        sync_file_system(dir)?;
    }
    rename_durably(unfinished, to)
}

/// Copies a workspace to another file system, first into the directory `scratch` there.
fn copy(from: &Path, scratch: &Path, to: &Path) -> Result<()> {
    let half = scratch.join("workspace");
    let copied =
        Invocation::new("cp").args(["--archive", "--one-file-system", "--sparse=auto", "--no-target-directory", "--"]);
    copied.arg(from).arg(&half).checked().context("failed to copy the workspace")?;
    sync_file_system(&half)?;
    rename_durably(&half, to)
}

fn beside(path: &Path, prefix: &str) -> Result<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str()).context("the name is not valid UTF-8")?;
    Ok(path.with_file_name(format!("{prefix}{}", name.trim_start_matches(UNFINISHED))))
}

struct Defusing;

impl Visit for Defusing {
    const RIGHTS: Mode = Mode::RWXU;

    fn enter(&mut self, dir: &OwnedFd, path: &[CString]) -> Result<Vec<CString>> {
        let found = entries(dir)?.collect::<io::Result<Vec<_>>>()?;
        let has = |name: &[u8]| found.iter().any(|(found, _)| found.to_bytes() == name);
        let is_named = |name: &[u8]| path.last().is_some_and(|last| last.to_bytes() == name);
        // Everything that git could take for a git directory. (`refs/remotes/origin` has a HEAD, too, and a file there would be
        // a damaged reference.)
        let is_git_dir = is_named(b".git") || has(b"HEAD") && (has(b"commondir") || has(b"objects") && has(b"refs"));
        // Git would wait for a pipe. Such a file has no contents. (First, since others get its name below.)
        if is_git_dir || path.iter().any(|part| part.to_bytes() == b".git") {
            let is_data = |kind| matches!(kind, FileType::RegularFile | FileType::Directory | FileType::Symlink);
            for (name, _) in found.iter().filter(|(_, kind)| !is_data(*kind)) {
                unlinkat(dir, name, AtFlags::empty())
                    .map_err(io::Error::from)
                    .with_context(|| format!("failed to remove {}", name.to_string_lossy()))?;
            }
        }
        if is_git_dir {
            let format = format(dir);
            FOLLOWED.iter().try_for_each(|name| quarantine(dir, name))?;
            configure(dir, path, format)?;
        }
        if is_named(b"info") {
            FOLLOWED_FROM_STORES.iter().try_for_each(|name| quarantine(dir, name))?;
        }
        if found.iter().any(|(name, kind)| name.to_bytes() == b".git" && *kind != FileType::Directory) {
            quarantine(dir, c".git")?;
        }
        let is_directory = |(name, kind): &(CString, FileType)| {
            *kind == FileType::Directory && !(is_git_dir && name.to_bytes() == b"hooks")
        };
        Ok(found.iter().filter(|entry| is_directory(entry)).map(|(name, _)| name.clone()).collect())
    }
}

/// The formats of a repository that its configuration must name.
#[derive(Default)]
struct Format {
    sha256: bool,
    reftable: bool,
}

fn format(dir: &OwnedFd) -> Format {
    let there = |path: &str| open_inside(dir, Path::new(path), OFlags::PATH).is_ok_and(|found| found.is_some());
    let sha256 = super::store::object_format(dir).ok().flatten() == Some("sha256");
    Format { sha256, reftable: there("reftable/tables.list") }
}

/// Writes a configuration that names the repository's formats and nothing else.
fn configure(dir: &OwnedFd, path: &[CString], format: Format) -> Result<()> {
    let is_work_trees = path.last().is_some_and(|name| name.to_bytes() == b".git");
    let mut text = format!(
        "[core]\n\trepositoryformatversion = {}\n\tbare = {}\n\thooksPath = /dev/null\n\tfsmonitor = false\n",
        u8::from(format.sha256 || format.reftable),
        !is_work_trees
    );
    if format.sha256 || format.reftable {
        text += "[extensions]\n";
        text += if format.sha256 { "\tobjectFormat = sha256\n" } else { "" };
        text += if format.reftable { "\trefStorage = reftable\n" } else { "" };
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(dir, c"config", flags, Mode::RUSR | Mode::WUSR).map_err(io::Error::from)?;
    io::Write::write_all(&mut fs::File::from(file), text.as_bytes()).context("failed to write a configuration")
}

/// Renames an entry, if it exists, to an unused name that git does not know.
fn quarantine(dir: &OwnedFd, name: &CStr) -> Result<()> {
    if statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_err() {
        return Ok(());
    }
    let name = name.to_string_lossy();
    let mut to = (0_u32..).map(|number| {
        if number == 0 { format!("{name}.of-the-guest") } else { format!("{name}.of-the-guest-{number}") }
    });
    let free =
        to.find(|to| statat(dir, to.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_err()).context("no unused name is left")?;
    renameat(dir, name.as_ref(), dir, &free)
        .map_err(io::Error::from)
        .with_context(|| format!("failed to rename {name}"))
}
