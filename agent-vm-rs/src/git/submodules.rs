//! Copies submodules from the checkouts in the user's work tree; nothing is downloaded.
//!
//! The gitlinks of the cloned commit say which submodules exist. `.gitmodules` cannot point elsewhere: a checkout must
//! be in the user's work tree, its git directory in the source repository's, and both are copied into the workspace.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::call::{LONGEST_COPY, NO_SYNC, UPLOAD_PACK, git, git_in};
use super::config::{Config, Format};
use super::discover::{Place, by_dot_git};
use super::examine::{self, Look};
use super::gitmodules::{Entry, entries};
use super::partial::Partial;
use super::standin::StandIn;
use super::stores::Stores;
use super::url::{file_url, without_password};
use super::{lfs, links};
use crate::host::files::beneath::is_directory;
use crate::host::files::remove_tree;
use crate::host::process::Invocation;
use crate::term::progress::{self, note};
use crate::term::text::count;

/// Deepest nesting of submodules that is followed.
const DEEPEST: usize = 10;
/// Largest number of notes about submodules that stay empty, for each repository.
const MOST_NOTES: usize = 10;
/// Mode of a submodule (gitlink) in trees and indexes.
const GITLINK: &str = "160000";

/// A repository with submodules, and the work tree that receives them.
struct Level<'a> {
    /// The git directories of the source.
    place: &'a Place,
    format: &'a Format,
    /// The source's work tree.
    checkout: &'a Path,
    /// The work tree that receives the submodules.
    target: &'a Path,
    /// Path of `target` in the workspace, for messages.
    shown: String,
    depth: usize,
    scratch: &'a Path,
}

/// Copies the submodules into a new workspace. One that cannot be copied stays empty, with a note that says why.
///
/// # Errors
/// The workspace cannot be read or written.
pub fn fill(look: &Look<'_>, workspace: &Path) -> Result<()> {
    let Some(checkout) = look.work_tree() else { return note_if_bare(look, workspace) };
    Level {
        place: &look.source.place,
        format: look.format,
        checkout,
        target: workspace,
        shown: String::new(),
        depth: 0,
        scratch: look.scratch,
    }
    .fill()
}

fn note_if_bare(look: &Look<'_>, workspace: &Path) -> Result<()> {
    let has = git_in(workspace).args(["cat-file", "-e", "HEAD:.gitmodules"]).of_machine(look.scratch).output()?;
    if has.status.success() {
        note(&format!("submodules stay empty: {} has no work tree with checkouts of them", look.source.dir.display()));
    }
    Ok(())
}

impl Level<'_> {
    fn inside(&self) -> Invocation {
        git_in(self.target).of_machine(self.scratch)
    }

    fn fill(&self) -> Result<()> {
        if !self.inside().args(["cat-file", "-e", "HEAD:.gitmodules"]).output()?.status.success() {
            return Ok(());
        }
        let list = self.inside().args(["config", "--no-includes", "--null", "--list", "--blob", "HEAD:.gitmodules"]);
        let printed = match list.checked() {
            Ok(output) => output.stdout,
            Err(error) => {
                note(&format!("submodules of {}stay empty: {error:#}", self.shown));
                return Ok(());
            }
        };
        let entries = entries(&Config::parse(&printed));
        let wanted = self.gitlinks(&["ls-tree", "-z", "--full-tree", "HEAD"], &entries, self.inside())?;
        let standin = StandIn::offering(self.place, self.format, &[], "ref: refs/heads/none", self.scratch)?;
        let index = standin.git().of_machine(self.scratch).env("GIT_INDEX_FILE", self.place.git_dir.join("index"));
        let index = index.arg("--work-tree").arg(self.checkout).arg("-C").arg(self.checkout);
        let here = self.gitlinks(&["ls-files", "--stage", "-z"], &entries, index)?;
        let mut empty = 0;
        for entry in entries.iter().filter(|entry| wanted.contains_key(&entry.path) || entry.refused.is_some()) {
            let shown = format!("{}{}", self.shown, entry.path);
            let filled = match (entry.refused, wanted.get(&entry.path)) {
                (Some(why), _) => Err(anyhow::anyhow!("{why}")),
                (None, Some(commit)) if here.contains_key(&entry.path) => self.one(entry, commit),
                _ => Err(self.not_checked_out()),
            };
            if let Err(error) = filled {
                crate::host::interrupt::check()?;
                empty += 1;
                if empty <= MOST_NOTES {
                    note(&format!("the submodule {shown} stays empty: {error:#}"));
                }
            }
        }
        if empty > MOST_NOTES {
            note(&format!("{} stay empty, too", count(empty - MOST_NOTES, "other submodule")));
        }
        Ok(())
    }

    fn not_checked_out(&self) -> anyhow::Error {
        anyhow::anyhow!("it is not checked out in {} (git submodule update --init)", self.checkout.display())
    }

    /// Returns the gitlinks at the paths of `entries`, with their commits, from the output of `ls-tree` or `ls-files
    /// --stage`.
    fn gitlinks(&self, list: &[&str], entries: &[Entry], git: Invocation) -> Result<BTreeMap<String, String>> {
        let paths: Vec<_> = entries.iter().filter(|entry| entry.refused.is_none()).map(|entry| &entry.path).collect();
        if paths.is_empty() {
            return Ok(BTreeMap::new());
        }
        let output = git.args(list).arg("--").args(paths).checked().context("failed to list the submodules")?;
        let link = |entry: &str| {
            let (facts, path) = entry.split_once('\t')?;
            let words: Vec<_> = facts.split(' ').collect();
            // ls-tree prints mode, type, id; ls-files prints mode, id, stage.
            let id = words.iter().skip(1).find(|word| matches!(word.len(), 40 | 64))?;
            (words.first() == Some(&GITLINK)).then(|| (path.to_owned(), (*id).to_owned()))
        };
        Ok(String::from_utf8_lossy(&output.stdout).split('\0').filter_map(link).collect())
    }

    fn one(&self, entry: &Entry, commit: &str) -> Result<()> {
        ensure!(self.depth < DEEPEST, "it is nested more than {DEEPEST} submodules deep");
        let path = Path::new(&entry.path);
        ensure!(is_directory_beneath(self.target, path), "its path in the workspace is not a directory");
        ensure!(
            is_directory_beneath(self.checkout, path),
            "its path in {} is not a directory",
            self.checkout.display()
        );
        let checkout = self.checkout.join(path);
        let place = by_dot_git(&checkout)?.ok_or_else(|| self.not_checked_out())?;
        let own = [&self.place.common_dir, &self.place.git_dir].map(|dir| dir.join("modules"));
        let is_own =
            own.iter().any(|modules| place.git_dir.starts_with(modules)) || place.git_dir == checkout.join(".git");
        ensure!(
            is_own && !place.is_linked(),
            "its git directory is outside the repository: {}",
            place.git_dir.display()
        );
        links::check(&place)?;
        let stores = Stores::of(&place)?;
        // The machine's directory is in the state directory.
        if let Some(store) = self.scratch.parent().and_then(|state| stores.within(state)) {
            bail!("it uses objects of a machine: {}", store.display());
        }
        for store in stores.borrowed {
            note(&format!("the submodule {}{} borrows objects from {}", self.shown, entry.path, store.display()));
        }
        let config = examine::config(&place)?;
        let format = config.format()?;
        let standin = StandIn::offering(&place, &format, &[], commit, self.scratch)?;
        let has = standin
            .git()
            .args(["cat-file", "-e", &format!("{commit}^{{commit}}")])
            .of_machine(self.scratch)
            .output()?;
        if !has.status.success() {
            bail!("{} does not have its commit {commit} (git submodule update --init)", checkout.display());
        }
        Partial { place: &place, config: &config, standin: &standin, scratch: self.scratch }
            .fill(&format!("{commit}\n"))?;
        let what = format!("cloning the submodule {}{}", self.shown, entry.path);
        progress::step(&what, || self.clone(entry, commit, &standin, &origin_of(&config, &checkout)))?;
        let target = self.target.join(path);
        let git_dir = git_in(&target).args(["rev-parse", "--absolute-git-dir"]).of_machine(self.scratch).read()?;
        lfs::check_out(&place, &target, Path::new(&git_dir), self.scratch)?;
        let shown = format!("{}{}/", self.shown, entry.path);
        Level {
            place: &place,
            format: &format,
            checkout: &checkout,
            target: &target,
            shown,
            depth: self.depth + 1,
            ..*self
        }
        .fill()
    }

    /// Clones a submodule in git's own layout: its git directory is `modules/NAME` in that of the repository around it. Not with
    /// `git submodule`, which reads names and URLs from the file `.gitmodules` in the work tree, in another way than we do. Only
    /// the new workspace is written to; after an error the submodule is empty again.
    fn clone(&self, entry: &Entry, commit: &str, standin: &StandIn, url: &str) -> Result<()> {
        let target = self.target.join(&entry.path);
        let around = self.inside().args(["rev-parse", "--absolute-git-dir"]).read()?;
        let git_dir = Path::new(&around).join("modules").join(&entry.name);
        ensure!(fs::symlink_metadata(&git_dir).is_err(), "another submodule has its git directory");
        let cloned = self.clone_to(entry, commit, standin, url, &target, &git_dir);
        if cloned.is_err() {
            let empty = || -> Result<()> {
                remove_tree(&git_dir)?;
                remove_tree(&target)?;
                fs::create_dir(&target).context("failed to empty it")
            };
            empty()?;
        }
        cloned
    }

    fn clone_to(
        &self,
        entry: &Entry,
        commit: &str,
        standin: &StandIn,
        url: &str,
        target: &Path,
        git_dir: &Path,
    ) -> Result<()> {
        let setting = |key: &str, value: &str| {
            let name = format!("submodule.{}.{key}", entry.name);
            self.inside().args(["config", "--"]).arg(name).arg(value).checked().map(drop)
        };
        setting("url", url)?;
        setting("active", "true")?;
        fs::create_dir_all(git_dir.parent().unwrap_or(git_dir)).context("failed to make its git directory")?;
        let clone =
            git().args(NO_SYNC).args(["clone", "--quiet", "--template=", "--no-checkout", "--origin", "origin"]);
        let clone = clone.args(UPLOAD_PACK).arg("--separate-git-dir").arg(git_dir);
        clone
            .arg("--")
            .arg(file_url(standin.path()))
            .arg(target)
            .of_machine(self.scratch)
            .time_limit(LONGEST_COPY)
            .checked()?;
        // Git writes absolute paths there, which do not exist in the guest.
        let pointer = [b"gitdir: ", relative(target, git_dir).as_os_str().as_bytes(), b"\n"].concat();
        fs::write(target.join(".git"), pointer).context("failed to write its .git")?;
        let inside = || git_in(target).args(NO_SYNC).of_machine(self.scratch);
        inside().args(["config", "core.worktree"]).arg(relative(git_dir, target)).checked()?;
        inside().args(["config", "--", "remote.origin.url"]).arg(url).checked()?;
        inside().args(["checkout", "--quiet", "--detach", commit]).checked().map(drop)
    }
}

/// Returns the URL of `origin` in the machine: that of the submodule's own remote, without a password. A submodule without a
/// remote has the URL of its checkout.
fn origin_of(config: &Config, checkout: &Path) -> String {
    let first = || config.get(&format!("remote.{}.url", config.subsections("remote", "url").first()?));
    let url = config.get("remote.origin.url").or_else(first);
    url.map_or_else(|| file_url(checkout), without_password)
}

/// Returns the relative path that leads from one directory to another. Both are absolute and without links.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(one, other)| one == other).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}

/// Returns whether `path` below `root` is a directory that no symbolic link leads to.
fn is_directory_beneath(root: &Path, path: &Path) -> bool {
    File::open(root).is_ok_and(|root| is_directory(&root, path))
}
