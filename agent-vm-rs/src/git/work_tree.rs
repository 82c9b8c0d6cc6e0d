//! The work tree of the source repository: its git calls, and whether a file of it would be committed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::config::Config;
use super::standin::StandIn;
use super::{Source, links, user};
use crate::host::files::plain;
use crate::host::interrupt::Deadline;
use crate::host::process::Invocation;

/// Largest accepted `info/exclude`, in bytes.
const MAX_EXCLUDE: u64 = 1 << 20;
/// Longest time for finding pipes in a work tree, which delays every command that looks at the work tree.
const LONGEST_SEARCH: Duration = Duration::from_secs(1);
/// Longest time for looking at one file, which is for a notice only.
const LONGEST_LOOK: Duration = Duration::from_secs(10);

/// What git knows about a file of a work tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// It is in the index.
    Tracked,
    /// `git add --all` would add it.
    Untracked,
    /// Git ignores it, or there is no work tree.
    Ignored,
}

impl Source {
    /// Returns the work tree; None if the repository's configuration says that it is bare or has its work tree
    /// elsewhere.
    #[must_use]
    pub fn work_tree(&self) -> Option<&Path> {
        let place = &self.place;
        let tree = place.work_tree.as_deref()?;
        if place.is_linked() {
            return Some(tree);
        }
        let elsewhere = self
            .config
            .get("core.worktree")
            .is_some_and(|named| fs::canonicalize(place.git_dir.join(named)).map_or(true, |real| real != tree));
        (!elsewhere && !self.config.is_true("core.bare")).then_some(tree)
    }

    /// Returns the repository's own list of ignored files, which need not exist.
    #[must_use]
    pub fn exclude_file(&self) -> PathBuf {
        self.place.common_dir.join("info/exclude")
    }

    /// Returns what git knows about a file, whose path is relative to the work tree.
    ///
    /// # Errors
    /// Git fails, or the git directory leads out of itself.
    pub fn tracking(&self, file: &Path) -> Result<Tracking> {
        let Some(tree) = self.work_tree() else { return Ok(Tracking::Ignored) };
        links::check(&self.place)?;
        let scratch = tempfile::tempdir().context("failed to make a temporary directory")?;
        let standin = StandIn::offering(&self.place, &self.format, &[], "ref: refs/heads/none", scratch.path())?;
        let of_user = user::settings(&self.place, &self.config, &self.format, scratch.path())?;
        let git = git(self, &standin, tree, &of_user)?.cwd(tree).of_machine(scratch.path()).time_limit(LONGEST_LOOK);
        // git-ls-files(1): with -t, each path has a letter for its state.
        let list = git.args(["ls-files", "-t", "-z", "--cached", "--others", "--exclude-standard", "--"]).arg(file);
        let printed = list.checked().context("failed to list a file with git")?.stdout;
        Ok(match printed.first() {
            None => Tracking::Ignored,
            Some(b'?') => Tracking::Untracked,
            Some(_) => Tracking::Tracked,
        })
    }
}

/// Returns a git call on a stand-in that has the source repository's index and ignores the same files.
///
/// # Errors
/// Git would wait for a pipe, or a file cannot be read.
pub(super) fn git(source: &Source, standin: &StandIn, tree: &Path, of_user: &Config) -> Result<Invocation> {
    links::require_files_in_work_tree(tree, Deadline::after(LONGEST_SEARCH))?;
    let (place, config) = (&source.place, &source.config);
    fs::create_dir(standin.path().join("info")).context("failed to make a directory for git")?;
    let exclude = source.exclude_file();
    let is_plain = |path: &Path| fs::symlink_metadata(path).is_ok_and(|file| file.is_file());
    if is_plain(&exclude)
        && let Some(patterns) = plain::read(&exclude, MAX_EXCLUDE)?
    {
        fs::write(standin.path().join("info/exclude"), patterns).context("failed to copy info/exclude")?;
    }
    // git-update-index(1): a split index consists of two files.
    for entry in fs::read_dir(&place.git_dir).context("failed to list the git directory")?.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b"sharedindex.") && is_plain(&entry.path()) {
            std::os::unix::fs::symlink(entry.path(), standin.path().join(entry.file_name()))
                .context("failed to link the index")?;
        }
    }
    let mut git = standin.git().arg("--work-tree").arg(tree);
    for key in ["core.filemode", "core.symlinks", "core.ignorecase", "core.sparsecheckout"] {
        if config.get(key).is_some() {
            git = git.arg("-c").arg(format!("{key}={}", config.is_true(key)));
        }
    }
    for (key, value) in user::for_work_tree(config, of_user) {
        git = git.arg("-c").arg(format!("{key}={value}"));
    }
    Ok(git.env("GIT_INDEX_FILE", place.git_dir.join("index")))
}
