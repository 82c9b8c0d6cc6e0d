//! Compares a work tree's files with the checked-out commit.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use super::git_failure::{Unreadable, ask};
use super::guest_files::read_inside;
use super::view::{MAX_OUTPUT, View};
use crate::host::process::Invocation;

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
        let Some(work_tree) = self.work_tree() else { return Ok(Vec::new()) };
        self.copy_index()?;
        let untracked = if directories { "--untracked-files=normal" } else { "--untracked-files=all" };
        let status = self.git(Some(work_tree)).args(["status", "--porcelain=v1", "-z", "--no-renames", untracked]);
        let listed = self.listed(&status.arg("--ignore-submodules=all"))?;
        let entries = listed.split(|byte| *byte == 0).filter(|entry| entry.len() > 3);
        let links = self.staged_gitlinks()?;
        Ok(entries.map(|entry| entry[3..].to_vec()).chain(links).collect())
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

    /// Returns whether all files below these paths are in the checked-out commit, unchanged.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn has_all_of(&self, paths: &[PathBuf]) -> Result<bool> {
        let Some(work_tree) = self.work_tree() else { return Ok(false) };
        self.copy_index()?;
        let all = ["--untracked-files=all", "--ignored=matching", "--no-renames", "--"];
        let status = self.git(Some(work_tree)).args(["status", "--porcelain=v1", "-z"]).args(all);
        let differing = self.listed(&paths.iter().fold(status, |status, path| status.arg(or_dot(path))))?;
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
        if self.is_thorough()
            && let Ok(index) = fs::File::options().write(true).open(to.join("index"))
        {
            // Git compares a file's contents, and not only its size and time, if the file is newer than the index.
            index
                .set_modified(UNIX_EPOCH + Duration::from_secs(1))
                .context("failed to set the index's modification time")?;
        }
        let Some(work_tree) = self.work_tree().filter(|_| to.join("index").exists()) else { return Ok(()) };
        // Also compare files that `git update-index --assume-unchanged` marks.
        let refresh =
            ["update-index", "-q", "--unmerged", "--ignore-missing", "--ignore-submodules", "--really-refresh"];
        self.ask(&self.git(Some(work_tree)).args(refresh)).map(drop)
    }
}

fn or_dot(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}
