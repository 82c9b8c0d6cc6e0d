//! Names the commits of a kept workspace that no reference names, so that a fetch brings them.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use super::guest_files::{MAX_STASH_LOG, is_object_id, open_inside, open_root, read_inside};
use super::work_trees::detached_heads;

/// Largest number of stash entries that are named.
const MOST: usize = 1000;

/// Creates `refs/kept/worktrees/NAME` for the detached HEAD of each linked work tree, and `refs/kept/stashes/N` for each
/// stash entry but the newest, in the repository at the top of a workspace. A repository with reference tables is
/// left as it is.
///
/// # Errors
/// [`super::Unreadable`] if git did not write the repository; other errors are failures of the host.
pub fn name_commits(workspace: &Path) -> Result<()> {
    let root = open_root(workspace)?;
    let directory = OFlags::RDONLY | OFlags::DIRECTORY;
    let Some(git_dir) = open_inside(&root, Path::new(".git"), directory)? else { return Ok(()) };
    if open_inside(&git_dir, Path::new("reftable/tables.list"), OFlags::PATH)?.is_some() {
        return Ok(());
    }
    let Some(refs) = open_inside(&git_dir, Path::new("refs"), directory)? else { return Ok(()) };
    for (kind, commits) in [("worktrees", work_trees(&git_dir)?), ("stashes", stashes(&git_dir)?)] {
        if commits.is_empty() {
            continue;
        }
        let kept = directory_in(&refs, "kept")?;
        let dir = directory_in(&kept, kind)?;
        commits.iter().try_for_each(|(name, id)| write(&dir, name, id))?;
    }
    Ok(())
}

/// Returns names of references and commits; a name that is invalid becomes a number.
fn work_trees(git_dir: &File) -> Result<Vec<(String, Vec<u8>)>> {
    let named = |(number, (name, id)): (usize, (Vec<u8>, String))| {
        let is_valid = |name: &String| gix_validate::reference::name_partial(name.as_str().into()).is_ok();
        let name = String::from_utf8(name).ok().filter(is_valid).unwrap_or_else(|| number.to_string());
        (name, id.into_bytes())
    };
    Ok(detached_heads(git_dir)?.into_iter().enumerate().map(named).collect())
}

/// The log has an entry on each line, the newest last: two ids and a message.
fn stashes(git_dir: &File) -> Result<Vec<(String, Vec<u8>)>> {
    let log = read_inside(git_dir, Path::new("logs/refs/stash"), MAX_STASH_LOG)?.unwrap_or_default();
    let lines = log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).rev().enumerate().skip(1).take(MOST);
    let ids = lines.filter_map(|(number, line)| Some((number.to_string(), line.split(|byte| *byte == b' ').nth(1)?)));
    Ok(ids.filter(|(_, id)| is_object_id(id)).map(|(number, id)| (number, id.to_vec())).collect())
}

fn directory_in(dir: &File, name: &str) -> Result<File> {
    match mkdirat(dir, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(io::Error::from(error)).context("failed to make a directory of references"),
    }
    let made = open_inside(dir, Path::new(name), OFlags::RDONLY | OFlags::DIRECTORY)?;
    made.context("failed to make a directory of references")
}

fn write(dir: &File, name: &str, id: &[u8]) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(dir, name, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => {
            File::from(file).write_all(&[id.trim_ascii_end(), b"\n"].concat()).context("failed to write a reference")
        }
        // A killed command wrote it, or the guest.
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(io::Error::from(error)).context("failed to write a reference"),
    }
}
