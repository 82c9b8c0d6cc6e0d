//! Submodules come from the checkouts that the user's work tree has; nothing is downloaded.
//!
//! Which there are is said by the commit that was cloned: by its gitlinks. What `.gitmodules` says beside them leads nowhere:
//! a checkout lies in the user's work tree, its git directory in the repository's own, and each becomes a part of the
//! workspace.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::call::git_in;
use super::config::{Config, Format};
use super::discover::{Place, by_dot_git};
use super::gitmodules::{Entry, entries};
use super::look::{self, Look};
use super::standin::StandIn;
use super::url::file_url;
use super::{alternates, lfs, links};
use crate::host::process::Invocation;
use crate::term::progress::{self, note};

/// Submodules in submodules in…
const DEEPEST: usize = 10;
/// Mode of a gitlink in trees and indexes.
const GITLINK: &str = "160000";

/// A repository with submodules, and the work tree that gets them.
struct Level<'a> {
    /// The user's repository.
    place: &'a Place,
    format: &'a Format,
    /// Its work tree.
    checkout: &'a Path,
    /// The work tree to fill.
    target: &'a Path,
    /// Path of the latter in the workspace, for people.
    shown: String,
    depth: usize,
    scratch: &'a Path,
}

/// Fills the submodules of a new workspace. One that cannot be had stays empty, which is told.
///
/// # Errors
/// The workspace cannot be read or written.
pub fn fill(look: &Look<'_>, workspace: &Path) -> Result<()> {
    let Some(checkout) = look.work_tree() else { return tell_of_bare(look, workspace) };
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

fn tell_of_bare(look: &Look<'_>, workspace: &Path) -> Result<()> {
    let has = git_in(workspace).args(["cat-file", "-e", "HEAD:.gitmodules"]).of_machine(look.scratch).output()?;
    if has.status.success() {
        note(&format!(
            "submodules stay empty: {} has no work tree that they are checked out in",
            look.source.dir.display()
        ));
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
        for entry in entries.iter().filter(|entry| wanted.contains_key(&entry.path) || entry.refused.is_some()) {
            let shown = format!("{}{}", self.shown, entry.path);
            let filled = match (entry.refused, wanted.get(&entry.path)) {
                (Some(why), _) => Err(anyhow::anyhow!("{why}")),
                (None, Some(commit)) if here.contains_key(&entry.path) => self.one(entry, commit),
                _ => Err(self.not_checked_out()),
            };
            if let Err(error) = filled {
                crate::host::interrupt::check()?;
                note(&format!("the submodule {shown} stays empty: {error:#}"));
            }
        }
        Ok(())
    }

    fn not_checked_out(&self) -> anyhow::Error {
        anyhow::anyhow!("it is not checked out in {} (git submodule update --init)", self.checkout.display())
    }

    /// The gitlinks among the paths of some entries, with their commits, as `ls-tree` or `ls-files --stage` lists them.
    fn gitlinks(&self, list: &[&str], entries: &[Entry], git: Invocation) -> Result<BTreeMap<String, String>> {
        let paths: Vec<_> = entries.iter().filter(|entry| entry.refused.is_none()).map(|entry| &entry.path).collect();
        if paths.is_empty() {
            return Ok(BTreeMap::new());
        }
        let output = git.args(list).arg("--").args(paths).checked().context("failed to list the submodules")?;
        let link = |entry: &str| {
            let (facts, path) = entry.split_once('\t')?;
            let words: Vec<_> = facts.split(' ').collect();
            // ls-tree: mode, type, id. ls-files: mode, id, stage.
            let id = words.iter().skip(1).find(|word| matches!(word.len(), 40 | 64))?;
            (words.first() == Some(&GITLINK)).then(|| (path.to_owned(), (*id).to_owned()))
        };
        Ok(String::from_utf8_lossy(&output.stdout).split('\0').filter_map(link).collect())
    }

    fn one(&self, entry: &Entry, commit: &str) -> Result<()> {
        ensure!(self.depth < DEEPEST, "it is more than {DEEPEST} submodules deep");
        let path = Path::new(&entry.path);
        ensure!(is_directory_beneath(self.target, path), "its place in the workspace is not a directory");
        ensure!(is_directory_beneath(self.checkout, path), "it is not a directory in {}", self.checkout.display());
        let checkout = self.checkout.join(path);
        let place = by_dot_git(&checkout)?.ok_or_else(|| self.not_checked_out())?;
        let own = [&self.place.common_dir, &self.place.git_dir].map(|dir| dir.join("modules"));
        let is_own =
            own.iter().any(|modules| place.git_dir.starts_with(modules)) || place.git_dir == checkout.join(".git");
        ensure!(is_own && !place.is_linked(), "its git directory is elsewhere: {}", place.git_dir.display());
        links::check(&place)?;
        for store in alternates::of(&place.common_dir.join("objects")) {
            note(&format!("the submodule {}{} borrows objects from {}", self.shown, entry.path, store.display()));
        }
        let format = look::config(&place)?.format()?;
        let standin = StandIn::offering(&place, &format, &[], commit, self.scratch)?;
        let has = standin
            .git()
            .args(["cat-file", "-e", &format!("{commit}^{{commit}}")])
            .of_machine(self.scratch)
            .output()?;
        if !has.status.success() {
            bail!("{} does not have its commit {commit} (git submodule update --init)", checkout.display());
        }
        let what = format!("cloning the submodule {}{}", self.shown, entry.path);
        progress::step(&what, || self.clone(entry, &standin, &checkout))?;
        let target = self.target.join(path);
        let git_dir = git_in(&target).args(["rev-parse", "--absolute-git-dir"]).of_machine(self.scratch).read()?;
        lfs::bring(&place, &target, Path::new(&git_dir), self.scratch)?;
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

    /// Git's own layout of a submodule. Only the new workspace is written to.
    fn clone(&self, entry: &Entry, standin: &StandIn, checkout: &Path) -> Result<()> {
        let Entry { name, path, .. } = entry;
        let url = format!("submodule.{name}.url");
        self.inside().arg("config").arg(&url).arg(file_url(standin.path())).checked()?;
        let update = ["submodule", "--quiet", "update", "--init", "--checkout", "--no-recommend-shallow", "--"];
        self.inside().args(update).arg(path).checked()?;
        self.inside().arg("config").arg(&url).arg(file_url(checkout)).checked()?;
        let inside = git_in(&self.target.join(path)).of_machine(self.scratch);
        inside.args(["config", "remote.origin.url"]).arg(file_url(checkout)).checked().map(drop)
    }
}

/// Whether a path below a directory is a directory, without a link on the way.
fn is_directory_beneath(root: &Path, path: &Path) -> bool {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    File::open(root).is_ok_and(|root| openat2(&root, path, flags, Mode::empty(), resolve).is_ok())
}
