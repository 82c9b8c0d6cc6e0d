//! Compares a work tree's files with the checked-out commit.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::git_failure::{Unreadable, ask};
use super::guest_files::read_inside;
use super::view::{MAX_OUTPUT, View};
use crate::git::links;
use crate::host::interrupt::Deadline;
use crate::host::process::Invocation;

/// Longest search for pipes in a work tree.
const LONGEST_SEARCH: Duration = Duration::from_secs(5);
/// Largest accepted index, in bytes.
const MAX_INDEX: u64 = 512 << 20;
/// Mode of a submodule (gitlink) in trees and indexes.
const GITLINK: &[u8] = b"160000";

impl View {
    /// Returns the paths of files that differ from the checked-out commit, including untracked ones. With
    /// `directories`, an untracked directory counts as one path.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn changed_files(&self, directories: bool) -> Result<Vec<Vec<u8>>> {
        let Some(work_tree) = self.work_tree() else { return self.staged_files() };
        self.copy_index()?;
        let untracked = if directories { "--untracked-files=normal" } else { "--untracked-files=all" };
        let changes = self.status(self.git(Some(work_tree)), &[untracked])?;
        let links = self.staged_gitlinks()?;
        Ok(changes.into_iter().map(|change| change.path).chain(links).collect())
    }

    /// Returns the paths whose entry in the index differs from the checked-out commit; none without an index.
    fn staged_files(&self) -> Result<Vec<Vec<u8>>> {
        self.copy_index()?;
        if !self.git_dir().join("index").exists() {
            return Ok(Vec::new());
        }
        let list = match &self.head.commit {
            Some(head) => ["diff-index", "--cached", "--name-only", "--no-renames", "-z", head.as_str(), "--"].to_vec(),
            None => ["ls-files", "-z"].to_vec(),
        };
        let listed = self.ask(&self.git(None).args(list))?;
        Ok(listed.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect())
    }

    /// Returns those of the `paths` whose contents in the work tree the index lacks. `git` is a call on the work tree.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub(super) fn unstaged(&self, git: Invocation, paths: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        let paths: BTreeSet<_> = paths.iter().collect();
        let changes = self.status(git, &["--untracked-files=all"])?;
        let unstaged = changes.into_iter().filter(|change| change.tree != b' ' && paths.contains(&change.path));
        Ok(unstaged.map(|change| change.path).collect())
    }

    /// Returns what `git status` lists. Git does not look into submodules: it would run there with their configuration. An LFS
    /// file with its contents is unchanged, as it is for git with Git LFS.
    fn status<A: AsRef<OsStr>>(&self, git: Invocation, args: &[A]) -> Result<Vec<Change>> {
        if let Some(work_tree) = self.work_tree() {
            // Git would wait for a pipe.
            links::require_files_in_work_tree(work_tree, Deadline::after(LONGEST_SEARCH))
                .map_err(|error| Unreadable(format!("{error:#}")))?;
        }
        let git = git.args(["status", "--porcelain=v1", "-z", "--no-renames", "--ignore-submodules=all"]);
        let listed = self.listed(&git.args(args))?;
        // Each entry has two characters for index and work tree, a space, and the path.
        let entries = listed.split(|byte| *byte == 0).filter(|entry| entry.len() > 3);
        let mut changes: Vec<_> = entries.map(Change::of).collect();
        let modified = changes.iter().filter(|change| change.tree == b'M').map(|change| change.path.as_slice());
        let unchanged = self.with_their_contents(&modified.collect())?;
        for change in changes.iter_mut().filter(|change| unchanged.contains(&change.path)) {
            change.tree = b' ';
        }
        changes.retain(|change| [change.index, change.tree] != *b"  ");
        Ok(changes)
    }

    /// Returns the paths whose gitlink in the index differs from that in the checked-out commit. Git compares them
    /// without looking into the submodule.
    fn staged_gitlinks(&self) -> Result<Vec<Vec<u8>>> {
        let Some(head) = &self.head.commit else { return Ok(self.gitlinks()?.into_keys().collect()) };
        let list =
            self.git(None).args(["diff-index", "--cached", "--raw", "-z", "--no-renames", "--ignore-submodules=none"]);
        let listed = self.ask(&list.arg(head).arg("--"))?;
        let mut fields = listed.split(|byte| *byte == 0);
        let mut paths = Vec::new();
        // Each entry is `:MODE MODE ID ID STATUS`, then the path.
        while let (Some(facts), Some(path)) = (fields.next(), fields.next()) {
            if facts.split(|byte| matches!(byte, b' ' | b':')).take(3).any(|mode| mode == GITLINK) {
                paths.push(path.to_vec());
            }
        }
        Ok(paths)
    }

    /// Returns the index's submodules: their paths and commits.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn gitlinks(&self) -> Result<BTreeMap<Vec<u8>, String>> {
        if self.work_tree().is_none() {
            return Ok(BTreeMap::new());
        }
        self.copy_index()?;
        let listed = self.ask(&self.git(None).args(["ls-files", "--stage", "-z"]))?;
        let link = |entry: &[u8]| {
            let facts = entry.strip_prefix(GITLINK)?.strip_prefix(b" ")?;
            let (id, path) = facts.split_at_checked(facts.iter().position(|byte| *byte == b'\t')?)?;
            let id = String::from_utf8_lossy(id.split(|byte| *byte == b' ').next()?).into_owned();
            Some((path[1..].to_vec(), id))
        };
        Ok(listed.split(|byte| *byte == 0).filter_map(link).collect())
    }

    /// Returns the number of ignored files and directories; a directory counts as one.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn ignored_files(&self) -> Result<usize> {
        let Some(work_tree) = self.work_tree() else { return Ok(0) };
        self.copy_index()?;
        let changes = self.status(self.git(Some(work_tree)), &["--untracked-files=normal", "--ignored=traditional"])?;
        Ok(changes.iter().filter(|change| change.index == b'!').count())
    }

    /// Returns whether all files below these paths are in the checked-out commit, unchanged.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn has_all_of(&self, paths: &[PathBuf]) -> Result<bool> {
        let Some(work_tree) = self.work_tree() else { return Ok(false) };
        self.copy_index()?;
        let all = ["--untracked-files=all", "--ignored=matching", "--"].map(OsStr::new);
        let below: Vec<_> = all.into_iter().chain(paths.iter().map(|path| or_dot(path).as_os_str())).collect();
        let differing = self.status(self.git(Some(work_tree)), &below)?;
        // Git may skip a path without listing anything; that does not mean that it has no changes.
        let lists = |path: &PathBuf| -> Result<bool> {
            let list = self.git(Some(work_tree)).args(["ls-files", "-z", "--"]).arg(or_dot(path));
            Ok(!self.ask(&list)?.is_empty())
        };
        Ok(differing.is_empty()
            && paths.iter().map(lists).collect::<Result<Vec<_>>>()?.into_iter().all(|listed| listed))
    }

    /// Returns git's list of files; fails if git could not open a directory.
    fn listed(&self, list: &Invocation) -> Result<Vec<u8>> {
        let output = ask(list, MAX_OUTPUT)?;
        let words = String::from_utf8_lossy(&output.stderr);
        match words.lines().find(|line| line.starts_with("warning: could not open directory")) {
            Some(unseen) => Err(Unreadable(unseen.to_owned()).into()),
            None => Ok(output.stdout),
        }
    }

    fn copy_index(&self) -> Result<()> {
        let to = self.git_dir.path();
        if to.join("index").exists() {
            return Ok(());
        }
        if let Some(bytes) = read_inside(&self.guest, Path::new("index"), MAX_INDEX)? {
            fs::write(to.join("index"), bytes).context("failed to copy the index")?;
        }
        // A split index also has shared files.
        let list = std::os::fd::OwnedFd::from(self.guest.try_clone().context("failed to look at the git directory")?);
        for entry in crate::host::files::tree::entries(&list).context("failed to list the git directory")? {
            let (name, _) = entry.context("failed to list the git directory")?;
            if name.to_bytes().starts_with(b"sharedindex.") {
                let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(name.to_bytes());
                let bytes = read_inside(&self.guest, Path::new(name), MAX_INDEX)?.unwrap_or_default();
                fs::write(to.join(name), bytes).context("failed to copy the index")?;
            }
        }
        let Some(work_tree) = self.work_tree().filter(|_| to.join("index").exists()) else { return Ok(()) };
        if self.is_thorough() {
            self.forget_times(work_tree)?;
        }
        // Also compare files that `git update-index --assume-unchanged` marks.
        let refresh =
            ["update-index", "-q", "--unmerged", "--ignore-missing", "--ignore-submodules", "--really-refresh"];
        self.ask(&self.git(Some(work_tree)).args(refresh)).map(drop)
    }

    /// Removes the files' sizes and times from the copied index, so that git compares their contents.
    fn forget_times(&self, work_tree: &Path) -> Result<()> {
        // Each entry is `TAG MODE ID STAGE`, then the path. Tag H: neither in conflict nor missing outside a sparse
        // checkout.
        let listed = self.ask(&self.git(Some(work_tree)).args(["ls-files", "-t", "--stage", "-z"]))?;
        let plain = listed.split_inclusive(|byte| *byte == 0).filter_map(|entry| entry.strip_prefix(b"H "));
        let update =
            self.git(None).args(["update-index", "-z", "--index-info"]).stdin(plain.collect::<Vec<_>>().concat());
        self.ask(&update).map(drop)
    }
}

/// A path that `git status` lists.
struct Change {
    /// How the index differs from the checked-out commit: a letter of git-status(1).
    index: u8,
    /// How the work tree differs from the index.
    tree: u8,
    path: Vec<u8>,
}

impl Change {
    fn of(entry: &[u8]) -> Self {
        Self { index: entry[0], tree: entry[1], path: entry[3..].to_vec() }
    }
}

fn or_dot(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}
