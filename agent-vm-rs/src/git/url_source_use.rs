//! Who uses the bare repository of a URL, and its removal after the last machine.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};

use super::call::git;
use super::kept::{self, Presence};
use super::url_submodule_dirs::{COMMITS, git_dirs};
use crate::host::files::{plain, remove_any, remove_file, rename_durably, write_file};
use crate::host::lock::{Lock, lock_beside};
use crate::machine::Machine;
use crate::machine::state_dir::StateDir;

/// Directory of the repositories, in the user's data directory.
pub(super) const DIRECTORY: &str = "agent-vm-sources";
/// Prefix of a repository that is being made or removed, in the directory around it.
pub(super) const NEW: &str = ".new-";
/// Lock of those who write into the repository, in the directory around it.
pub(super) const LOCK: &str = "lock";
/// File around the repository with the state directories of its machines, one on each line.
const STATES: &str = "state-dirs";
/// Its largest size, in bytes.
const MAX_STATES: u64 = 1 << 20;
/// File around the repository that commands lock together while they make a machine.
const IN_USE: &str = "in-use";

/// Keeps the repository of a URL from being removed.
pub struct InUse(#[expect(dead_code, reason = "the kernel releases the lock when it is closed")] File);

impl InUse {
    /// Notes that a state directory will have a machine of the repository. The caller holds the lock around it.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn begin(around: &Path, state: &StateDir) -> Result<Self> {
        let file = open(around)?;
        flock(&file, FlockOperation::LockShared).context("failed to lock the repository of a URL")?;
        let mut text = states(around)?.unwrap_or_default();
        let line = format!("{}\n", state.path().display());
        if !text.split_inclusive('\n').any(|known| known == line) {
            text += &line;
            write_file(&around.join(STATES), text, 0o600)?;
        }
        Ok(Self(file))
    }
}

/// Removes the repository at `source` if it is that of a URL, no machine uses it any more, and it has nothing that the remote
/// lacks. Returns whether it was removed. The next machine of the URL makes it again.
///
/// # Errors
/// It cannot be examined or removed.
pub fn remove_unused(source: &Path, state: &StateDir) -> Result<bool> {
    let is_one = |around: &&Path| around.parent().is_some_and(|above| above.ends_with(DIRECTORY));
    let Some(around) = source.parent().filter(is_one).filter(|around| around.join(STATES).is_file()) else {
        return Ok(false);
    };
    let Some(_lock) = Lock::try_take(&lock_beside(around, LOCK))? else { return Ok(false) };
    let file = open(around)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    // Its machines in another state directory are not looked for. Such a directory can be a link to a disk that is not mounted.
    let own = state.path().to_str();
    let states = states(around)?.unwrap_or_default();
    let is_gone = |path: &str| fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    if states.lines().any(|line| Some(line) != own && !is_gone(line)) {
        return Ok(false);
    }
    let uses = |machine: Machine| machine.settings().map_or(true, |settings| settings.source == source);
    if state.names()?.into_iter().any(|name| uses(Machine::new(state, name))) {
        return Ok(false);
    }
    let is_needed = |kept: &kept::Kept| kept.source() == Some(source) && kept.presence != Presence::Missing;
    if kept::all(state)?.iter().any(is_needed) || has_own(source)? {
        return Ok(false);
    }
    // A killed removal is completed by the next command for this URL.
    let gone = around.join(format!("{NEW}gone"));
    remove_any(&gone)?;
    rename_durably(source, &gone)?;
    remove_any(&gone)?;
    remove_file(&around.join(STATES))?;
    Ok(true)
}

/// Returns whether a repository or a submodule of it has something that its remote lacks, as far as git can tell.
fn has_own(source: &Path) -> Result<bool> {
    if has_more(source, "refs/agent-vm-url/tags/*")? {
        return Ok(true);
    }
    for git_dir in git_dirs(source) {
        if has_more(&git_dir, &format!("{COMMITS}*"))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether a repository has something that neither the remote's branches nor the references `of_remote` lead to.
fn has_more(git_dir: &Path, of_remote: &str) -> Result<bool> {
    // The user's work trees, and contents of Git LFS files that came out of machines.
    if ["worktrees", "lfs"].iter().any(|name| git_dir.join(name).symlink_metadata().is_ok()) {
        return Ok(true);
    }
    let list = ["rev-list", "--objects", "--max-count=1", "--all", "--not", "--remotes=origin"];
    let list = git().arg("--git-dir").arg(git_dir).args(list).arg(format!("--glob={of_remote}")).output()?;
    Ok(!list.status.success() || !list.stdout.is_empty())
}

fn states(around: &Path) -> Result<Option<String>> {
    let text = plain::read(&around.join(STATES), MAX_STATES)?;
    Ok(text.map(|text| String::from_utf8_lossy(&text).into_owned()))
}

fn open(around: &Path) -> Result<File> {
    let path = around.join(IN_USE);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    file.with_context(|| format!("failed to write {}", path.display()))
}
