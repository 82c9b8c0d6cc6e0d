//! Copies submodules from the checkouts in the user's work tree, or from the git directories in a bare repository; nothing is
//! downloaded.
//!
//! The gitlinks of the cloned commit say which submodules exist. `.gitmodules` cannot point elsewhere: a checkout must
//! be in the user's work tree, its git directory in the source repository's, and both are copied into the workspace.

use std::cell::RefCell;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::call::{LONGEST_COPY, NO_SYNC, UPLOAD_PACK, git, git_in};
use super::config::{Config, Format};
use super::discover::{Place, by_dot_git, discover};
use super::examine::{self, Look};
use super::gitmodules::{DEEPEST, Entry, gitlinks, of_commit};
use super::partial::Partial;
use super::standin::StandIn;
use super::stores::Stores;
use super::url::{file_url, without_password};
use super::url_submodules::Unfetched;
use super::{lfs, links};
use crate::host::files::beneath::is_directory;
use crate::host::files::{quoted, remove_tree};
use crate::host::process::Invocation;
use crate::term::progress::{self, note};
use crate::term::text::count;

/// Largest number of submodules that stay empty and are named, for each repository.
const MOST_NOTES: usize = 10;

/// A repository with submodules, and the work tree that receives them.
struct Level<'a> {
    /// The git directories of the source.
    place: &'a Place,
    format: &'a Format,
    /// The source's work tree.
    checkout: Option<&'a Path>,
    /// The work tree that receives the submodules.
    target: &'a Path,
    /// Path of `target` in the workspace, for messages.
    shown: String,
    depth: usize,
    scratch: &'a Path,
    /// Why those of the source's URL were not fetched.
    unfetched: &'a Unfetched,
    /// Submodules of a bare repository that stay empty.
    empty: &'a RefCell<Vec<String>>,
}

/// Copies the submodules into a new workspace. One that cannot be copied stays empty, with a note that says why.
///
/// # Errors
/// The workspace cannot be read or written.
pub fn fill(look: &Look<'_>, workspace: &Path) -> Result<()> {
    let (empty, nothing) = (RefCell::default(), Unfetched::default());
    Level {
        place: &look.source.place,
        format: look.format,
        checkout: look.work_tree(),
        target: workspace,
        shown: String::new(),
        depth: 0,
        scratch: look.scratch,
        unfetched: look.unfetched.unwrap_or(&nothing),
        empty: &empty,
    }
    .fill()?;
    let empty = empty.into_inner();
    if empty.is_empty() {
        return Ok(());
    }
    let more = count(empty.len().saturating_sub(MOST_NOTES), "other");
    let more = if empty.len() > MOST_NOTES { format!("; and {more}") } else { String::new() };
    let listed = empty.iter().take(MOST_NOTES).cloned().collect::<Vec<_>>().join("; ");
    let way_out = match (look.unfetched, look.config.get("remote.origin.url")) {
        (Some(_), Some(url)) => format!(
            "your own git may have the rights for them: git clone --recurse-submodules -- {} DIRECTORY && cd DIRECTORY && agent-vm create",
            quoted(Path::new(url))
        ),
        _ => "they are copied from the checkouts in a work tree (git submodule update --init)".to_owned(),
    };
    let stay = if empty.len() == 1 { "stays" } else { "stay" };
    note(&format!("{} {stay} empty: {listed}{more}. {way_out}", count(empty.len(), "submodule")));
    Ok(())
}

impl Level<'_> {
    fn inside(&self) -> Invocation {
        git_in(self.target).of_machine(self.scratch)
    }

    fn fill(&self) -> Result<()> {
        let entries = match of_commit(|| self.inside(), "HEAD") {
            Ok(entries) => entries,
            Err(error) => {
                note(&format!("submodules of {}stay empty: {error:#}", self.shown));
                return Ok(());
            }
        };
        let wanted = gitlinks(self.inside(), &["ls-tree", "-z", "--full-tree", "HEAD"], &entries)?;
        let here = match self.checkout {
            Some(checkout) => {
                let standin = StandIn::offering(self.place, self.format, &[], "ref: refs/heads/none", self.scratch)?;
                let index = standin.git().of_machine(self.scratch);
                let index = index.env("GIT_INDEX_FILE", self.place.git_dir.join("index"));
                let index = index.arg("--work-tree").arg(checkout).arg("-C").arg(checkout);
                gitlinks(index, &["ls-files", "--stage", "-z"], &entries)?
            }
            None => wanted.clone(),
        };
        let mut empty = 0;
        for entry in entries.iter().filter(|entry| wanted.contains_key(&entry.path) || entry.refused.is_some()) {
            let shown = format!("{}{}", self.shown, entry.path);
            let filled = match (entry.refused, wanted.get(&entry.path)) {
                (Some(why), _) => Err(anyhow!("{why}")),
                (None, Some(commit)) if here.contains_key(&entry.path) => self.one(entry, commit),
                _ => Err(self.not_there(entry)),
            };
            if let Err(error) = filled {
                crate::host::interrupt::check()?;
                if self.checkout.is_none() {
                    self.empty.borrow_mut().push(format!("{shown} ({error:#})"));
                    continue;
                }
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

    fn not_there(&self, entry: &Entry) -> anyhow::Error {
        match self.checkout {
            Some(checkout) => anyhow!("it is not checked out in {} (git submodule update --init)", checkout.display()),
            None => match self.unfetched.0.get(&format!("{}{}", self.shown, entry.path)) {
                Some(why) => anyhow!("{why}"),
                None => anyhow!("{} has no copy of it", self.place.common_dir.display()),
            },
        }
    }

    /// Finds a submodule's repository.
    fn find(&self, entry: &Entry) -> Result<Place> {
        let path = Path::new(&entry.path);
        let Some(checkout) = self.checkout else {
            if self.unfetched.0.contains_key(&format!("{}{}", self.shown, entry.path)) {
                return Err(self.not_there(entry));
            }
            let modules = Path::new("modules").join(&entry.name);
            let git_dir = self.place.common_dir.join(&modules);
            let place = match is_directory_beneath(&self.place.common_dir, &modules) {
                true => discover(&git_dir)?.filter(|place| place.git_dir == git_dir && !place.is_linked()),
                false => None,
            };
            return place.ok_or_else(|| self.not_there(entry));
        };
        ensure!(is_directory_beneath(checkout, path), "its path in {} is not a directory", checkout.display());
        let checkout = checkout.join(path);
        let place = by_dot_git(&checkout)?.ok_or_else(|| self.not_there(entry))?;
        let own = [&self.place.common_dir, &self.place.git_dir].map(|dir| dir.join("modules"));
        let is_own =
            own.iter().any(|modules| place.git_dir.starts_with(modules)) || place.git_dir == checkout.join(".git");
        ensure!(
            is_own && !place.is_linked(),
            "its git directory is outside the repository: {}",
            place.git_dir.display()
        );
        Ok(place)
    }

    fn one(&self, entry: &Entry, commit: &str) -> Result<()> {
        ensure!(self.depth < DEEPEST, "it is nested more than {DEEPEST} submodules deep");
        let path = Path::new(&entry.path);
        ensure!(is_directory_beneath(self.target, path), "its path in the workspace is not a directory");
        let place = self.find(entry)?;
        let checkout = self.checkout.map(|checkout| checkout.join(path));
        let home = checkout.as_deref().unwrap_or(&place.git_dir);
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
            bail!("{} does not have its commit {commit} (git submodule update --init)", home.display());
        }
        Partial { place: &place, config: &config, standin: &standin, scratch: self.scratch }
            .fill(&format!("{commit}\n"))?;
        let what = format!("cloning the submodule {}{}", self.shown, entry.path);
        progress::step(&what, || self.clone(entry, commit, &standin, &origin_of(&config, home)))?;
        let target = self.target.join(path);
        let git_dir = git_in(&target).args(["rev-parse", "--absolute-git-dir"]).of_machine(self.scratch).read()?;
        lfs::check_out(&place, &target, Path::new(&git_dir), self.scratch)?;
        let shown = format!("{}{}/", self.shown, entry.path);
        Level {
            place: &place,
            format: &format,
            checkout: checkout.as_deref(),
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
