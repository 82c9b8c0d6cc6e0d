//! Examines the source repository before a branch of it is cloned.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::Source;
use super::config::{Config, Format};
use super::discover::Place;
use super::links;
use super::refs::{self, Known, Ref, Start};
use super::standin::StandIn;
use super::url_submodules::Unfetched;
use super::user;
use crate::host::files::quoted;
use crate::machine::branch::BranchName;
use crate::term::error::Failure;
use crate::term::progress::note;
use crate::term::text;

/// What HEAD names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// Full name of a reference, which need not exist.
    Reference(String),
    /// A commit id: HEAD is detached.
    Commit(String),
}

/// A source repository that passed the checks, with its references.
pub struct Look<'a> {
    pub(super) source: &'a Source,
    pub(super) config: &'a Config,
    pub(super) format: &'a Format,
    pub(super) refs: Vec<Ref>,
    head: Head,
    /// The settings of the user's own git configuration that are used.
    pub(super) of_user: Config,
    /// A directory of the machine for temporary files.
    pub(super) scratch: &'a Path,
    /// Which submodules of a remote repository could not be fetched.
    pub(super) unfetched: Option<&'a Unfetched>,
}

impl<'a> Look<'a> {
    /// Checks and reads a source repository. `unfetched` are the submodules of a URL that were not fetched.
    ///
    /// # Errors
    /// Its git directory leads out of itself, it has an unknown format, or a list of borrowed stores cannot be read.
    pub fn at(source: &'a Source, scratch: &'a Path, unfetched: Option<&'a Unfetched>) -> Result<Self> {
        let place = &source.place;
        links::check(place)?;
        let (config, format) = (&source.config, &source.format);
        for store in source.stores()?.borrowed {
            note(&format!(
                "{} borrows objects from {} (objects/info/alternates); the branch's objects are copied",
                source.dir.display(),
                store.display()
            ));
        }
        if let Some(tree) = &place.work_tree
            && !place.is_linked()
            && !place.git_dir.starts_with(tree)
        {
            note(&format!("{} keeps its git directory in {}", tree.display(), place.git_dir.display()));
        }
        let refs = list(place, format, scratch)?;
        let head = source.head()?;
        let of_user = user::settings(place, config, format, scratch)?;
        Ok(Self { source, config, format, refs, head, of_user, scratch, unfetched })
    }

    pub(super) fn known(&self) -> Known<'_> {
        Known { refs: &self.refs, config: self.config }
    }

    /// Returns the commit that a branch starts at: its own, its remote-tracking branch's, or HEAD's for a new branch.
    ///
    /// # Errors
    /// The repository has no commit yet, or another branch blocks the name.
    pub fn start_of(&self, branch: &BranchName) -> Result<Start> {
        let known = self.known();
        if let Some(start) = known.start(branch) {
            return Ok(start);
        }
        if let Some(other) = known.in_the_way_of(branch) {
            return Err(Failure::new(format!("cannot create the branch {branch}: the branch '{other}' exists"))
                .with_hint("choose another name: git cannot have both a branch NAME and a branch NAME/OTHER")
                .into());
        }
        let commit = self.head_commit().ok_or_else(|| {
            Failure::new(format!("the repository {} has no commit yet", self.source.dir.display()))
                .with_hint(format!("git -C {} commit --allow-empty -m 'first commit'", quoted(&self.source.dir)))
        })?;
        Ok(Start::New(commit.to_owned()))
    }

    pub(super) fn head_commit(&self) -> Option<&str> {
        match &self.head {
            Head::Commit(commit) => Some(commit),
            Head::Reference(name) => self.known().commit(name),
        }
    }

    /// Returns the work tree; see [`Source::work_tree`].
    pub(super) fn work_tree(&self) -> Option<&'a Path> {
        self.source.work_tree()
    }

    /// Returns a stand-in git directory for comparing the work tree and its index with HEAD.
    pub(super) fn standin_for_index(&self) -> Result<StandIn> {
        let commit =
            self.head_commit().map(|id| Ref { id: id.to_owned(), name: b"refs/heads/head".into(), symbolic: None });
        StandIn::offering(&self.source.place, self.format, commit.as_slice(), "ref: refs/heads/head", self.scratch)
    }
}

/// Returns a repository's configuration, including that of the work tree.
pub(super) fn config(place: &Place) -> Result<Config> {
    let common = Config::read(&place.common_dir.join("config"))?;
    if !common.is_true("extensions.worktreeconfig") {
        return Ok(common);
    }
    Ok(common.and(Config::read(&place.git_dir.join("config.worktree"))?))
}

/// Returns every reference.
pub(super) fn list(place: &Place, format: &Format, scratch: &Path) -> Result<Vec<Ref>> {
    list_in(&StandIn::for_showing(place, format, scratch)?, scratch).map(|(refs, _)| refs)
}

/// Returns every reference of a stand-in, and the names of those that git skips because they are damaged. A remote's HEAD
/// that points to a deleted branch is common and not damage.
pub(super) fn list_in(standin: &StandIn, scratch: &Path) -> Result<(Vec<Ref>, Vec<String>)> {
    let printed = standin.git().args(["for-each-ref", refs::FORMAT]).of_machine(scratch).checked();
    let printed = printed.context("failed to list the repository's references")?;
    let said = String::from_utf8_lossy(&printed.stderr).into_owned();
    let broken = said.lines().filter_map(|line| line.strip_prefix("warning: ignoring broken ref "));
    let broken = broken.filter(|name| !name.ends_with("/HEAD")).map(text::one_line).collect();
    Ok((refs::parse(&printed.stdout), broken))
}
