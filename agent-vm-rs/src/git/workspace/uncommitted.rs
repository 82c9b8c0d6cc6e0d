//! Turns uncommitted files into commits: one of what is staged, and on top of it one of the work tree.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

use super::edited_large_files::{Edited, Large};
use super::git_failure::{Unreadable, is_unreadable};
use super::refs::shown;
use super::view::View;
use crate::host::process::Invocation;

/// The messages of the commits.
const STAGED: &str = "Staged in the machine, not committed\n";
const OURS: &str = "Unfinished merge in the machine: ours\n";
const THEIRS: &str = "Unfinished merge in the machine: theirs\n";
const CHANGED: &str = "Changed in the machine, not committed\n";

/// Commits of changed files.
pub(super) struct Saved {
    /// The id of the last.
    pub commit: String,
    /// Paths that git did not save.
    pub left: Vec<Vec<u8>>,
    /// Git LFS files that it has as pointers. No store has their contents yet.
    pub edited: Vec<Edited>,
}

impl View {
    /// Makes commits of the changed `files` and returns the id of the last. No filter and no conversion changes the
    /// contents. The commits have the time `date` in git's format, or the current one.
    ///
    /// # Errors
    /// A file cannot be read, or git fails or does not save one.
    pub(super) fn commit_files(&self, files: &[Vec<u8>], date: Option<&str>) -> Result<String> {
        let Saved { commit, left, .. } = self.commit_what_git_saves(files, date, Large::Whole)?;
        match left.first() {
            Some(first) => Err(Unreadable(format!("git did not save {}", shown(first))).into()),
            None => Ok(commit),
        }
    }

    /// Makes the same commits, with edited Git LFS files as `large` says, and also returns what git did not save: it skips a
    /// path that it never tracks, such as .GIT/x, without an error, and a repository inside the work tree.
    ///
    /// # Errors
    /// A file cannot be read, or git fails.
    pub(super) fn commit_what_git_saves(&self, files: &[Vec<u8>], date: Option<&str>, large: Large) -> Result<Saved> {
        let view = self;
        let tree = view.work_tree().context("there is no work tree")?;
        let text =
            |git: Invocation| -> Result<String> { Ok(String::from_utf8_lossy(&view.ask(&git)?).trim().to_owned()) };
        let head: Vec<_> = view.head.commit.iter().flat_map(|commit| ["-p".to_owned(), commit.clone()]).collect();
        let commit = |tree: &str, parents: &[String], message: &str| {
            let git = view.git(None).args(["commit-tree", "--no-gpg-sign", tree]).args(parents);
            let git = ["AUTHOR", "COMMITTER"].iter().fold(git, |git, who| {
                let git = git.env(format!("GIT_{who}_NAME"), "agent-vm");
                let git = git.env(format!("GIT_{who}_EMAIL"), "agent-vm@localhost");
                date.iter().fold(git, |git, date| git.env(format!("GIT_{who}_DATE"), date))
            });
            text(git.stdin(message))
        };
        let staged = match text(view.git(None).arg("write-tree")) {
            Ok(staged) => vec![commit(&staged, &head, STAGED)?],
            // git write-tree fails during a merge with conflicts.
            Err(error) if is_unreadable(&error) => [(2, OURS), (3, THEIRS)]
                .iter()
                .map(|(side, message)| commit(&self.side(*side)?, &head, message))
                .collect::<Result<_>>()?,
            Err(error) => return Err(error),
        };
        let empty_tree = text(view.git(None).args(["hash-object", "-t", "tree", "--stdin"]))?;
        let unchanged = || {
            let git = view.git(Some(tree)).args(["-c", "core.autocrlf=false", "-c", "core.bigFileThreshold=1"]);
            git.arg(format!("--attr-source={empty_tree}"))
        };
        // A submodule is a directory, which has no contents of its own.
        let links = view.gitlinks()?;
        // The index has the pointer of an LFS file.
        let unchanged_files = view.with_their_contents(&files.iter().map(Vec::as_slice).collect())?;
        let wanted = files.iter().filter(|file| !links.contains_key(*file) && !unchanged_files.contains(*file));
        let wanted: Vec<_> = wanted.map(Vec::as_slice).collect();
        let edited = match large {
            Large::Whole => Vec::new(),
            Large::Pointers => view.edited_large_files(&wanted)?,
        };
        let edited_paths: BTreeSet<_> = edited.iter().map(|edited| edited.path.as_slice()).collect();
        let plain = wanted.into_iter().filter(|path| !edited_paths.contains(path));
        let paths: Vec<u8> = plain.flat_map(|path| [path, b"\0"].concat()).collect();
        let add = unchanged().args(["update-index", "--add", "--remove", "--replace", "-z", "--stdin"]);
        view.ask(&add.stdin(paths))?;
        view.stage_pointers(&edited)?;
        let mut left = view.unstaged(unchanged(), files)?;
        left.retain(|path| !edited_paths.contains(path.as_slice()));
        let whole = text(view.git(None).arg("write-tree"))?;
        let parents: Vec<_> =
            head.into_iter().chain(staged.into_iter().flat_map(|commit| ["-p".to_owned(), commit])).collect();
        Ok(Saved { commit: commit(&whole, &parents, CHANGED)?, left, edited })
    }

    /// Returns the time of the checked-out commit, so that a commit of the same changes always has the same id.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub(super) fn date_of_head(&self) -> Result<String> {
        let time = match &self.head.commit {
            Some(commit) => self.ask(&self.git(None).args(["show", "--no-patch", "--format=%ct"]).arg(commit))?,
            None => b"0".to_vec(),
        };
        Ok(format!("@{} +0000", String::from_utf8_lossy(&time).trim()))
    }

    /// Returns the tree of what is staged, with side 2 (ours) or 3 (theirs) of each conflict.
    fn side(&self, side: u8) -> Result<String> {
        let view = self;
        let listed = view.ask(&view.git(None).args(["ls-files", "--stage", "-z"]))?;
        // Each entry is `MODE ID STAGE`, then the path.
        let entry = |entry: &[u8]| {
            let (facts, path) = entry.split_at_checked(entry.iter().position(|byte| *byte == b'\t')?)?;
            let (facts, stage) = facts.split_at_checked(facts.len().checked_sub(2)?)?;
            let is_in_it = stage == b" 0" || stage == [b' ', b'0' + side];
            is_in_it.then(|| [facts, path, b"\0"].concat())
        };
        let entries: Vec<u8> = listed.split(|byte| *byte == 0).filter_map(entry).flatten().collect();
        let index = view.git_dir().join(format!("index-of-side-{side}"));
        let of_side = |git: Invocation| git.env("GIT_INDEX_FILE", &index);
        view.ask(&of_side(view.git(None).args(["update-index", "-z", "--index-info"])).stdin(entries))?;
        Ok(String::from_utf8_lossy(&view.ask(&of_side(view.git(None).arg("write-tree")))?).trim().to_owned())
    }
}
