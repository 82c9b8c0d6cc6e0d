//! Finds the user's source repository and clones a branch of it.
//!
//! The source repository may have been downloaded, and everything in it, `.git` included, may be hostile. So git never
//! runs with its configuration ([`standin`]), and no path that it names is followed out of it ([`discover`],
//! [`links`], [`submodules`]).

mod alternates;
mod call;
mod clone;
mod config;
mod discover;
mod examine;
pub mod fetch;
pub mod fetched;
mod filtered;
mod git_processes;
mod gitmodules;
mod install;
pub mod kept;
mod known_commands;
mod lfs;
pub mod lfs_sizes;
mod links;
pub mod merge_options;
pub mod mirror;
pub mod names;
pub mod namespace;
mod origin;
pub mod origin_copy;
mod owner;
mod partial;
mod passed;
mod plain_config;
mod public_address;
pub mod push;
mod reader;
mod refs;
mod remote_call;
pub mod saved_work;
mod source_parts;
mod stale_locks;
mod standin;
mod stores;
mod submodule_urls;
mod submodules;
mod uncommitted;
mod url;
mod url_branches;
mod url_refs;
pub mod url_source;
pub mod url_source_use;
mod url_submodule_dirs;
pub mod url_submodules;
mod user;
pub mod users_git;
mod users_programs;
mod work_tree;
pub mod workspace;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::host::files::quoted;
use crate::machine::branch::BranchName;
use crate::term::error::Failure;

pub use self::call::{git, git_in};
use self::config::{Config, Format};
use self::discover::Place;
use self::examine::Head;
pub use self::examine::Look;
pub use self::origin::Origin;
pub use self::reader::SourceReader;
use self::standin::StandIn;
pub use self::stores::Stores;
pub use self::url::URL_PATH;
pub use self::work_tree::Tracking;

/// HEAD's text in a repository that stores references in tables (reftable).
const IN_TABLES: &[u8] = b"ref: refs/heads/.invalid";

/// The user's source repository, seen from one of its work trees.
#[derive(Clone, Debug)]
pub struct Source {
    /// The main work tree, or the git directory of a bare repository. It identifies the repository.
    pub dir: PathBuf,
    place: Place,
    config: Config,
    format: Format,
}

impl Source {
    /// Returns the repository that contains `cwd`; None if there is none.
    ///
    /// # Errors
    /// The repository belongs to another user, its configuration or format cannot be read, or `cwd` points to a
    /// repository that it is not part of.
    pub fn discover(cwd: &Path) -> Result<Option<Self>> {
        let Some(place) = discover::discover(cwd)? else { return Ok(None) };
        owner::check(&place, cwd)?;
        let dir = place.source_dir();
        let config = examine::config(&place)?;
        let format = config.format()?;
        Ok(Some(Self { dir, place, config, format }))
    }

    /// Returns the checked-out branch; None if HEAD is detached.
    ///
    /// # Errors
    /// HEAD cannot be read, or the branch's name is refused.
    pub fn current_branch(&self) -> Result<Option<BranchName>> {
        match self.head()? {
            Head::Reference(name) => name.strip_prefix("refs/heads/").map(str::parse).transpose().map_err(Into::into),
            Head::Commit(_) => Ok(None),
        }
    }

    /// Returns the full name of the reference that a branch tracks in this repository itself, as the configuration says.
    #[must_use]
    pub fn tracked_here(&self, branch: &BranchName) -> Option<&str> {
        let here = self.config.get(&format!("branch.{branch}.remote")) == Some(".");
        self.config.get(&format!("branch.{branch}.merge")).filter(|_| here)
    }

    /// Returns its branches, without those whose names are refused.
    ///
    /// # Errors
    /// Git fails.
    pub fn branches(&self) -> Result<Vec<BranchName>> {
        let scratch = tempfile::tempdir().context("failed to make a temporary directory")?;
        let refs = examine::list(&self.place, &self.format, scratch.path())?;
        let names = refs.iter().filter_map(|one| std::str::from_utf8(&one.name).ok()?.strip_prefix("refs/heads/"));
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    fn head(&self) -> Result<Head> {
        if let Some(text) = mirror::head_of(&self.dir) {
            let text = text.to_owned();
            return Ok(if text.starts_with("refs/") { Head::Reference(text) } else { Head::Commit(text) });
        }
        let text = standin::head_of(&self.place.git_dir)?;
        let line = text.trim_ascii_end();
        if line == IN_TABLES {
            return self.head_in_tables();
        }
        let line = String::from_utf8(line.to_vec()).context("the current branch's name is not valid UTF-8")?;
        Ok(line
            .strip_prefix("ref: ")
            .map_or_else(|| Head::Commit(line.clone()), |name| Head::Reference(name.to_owned())))
    }

    fn head_in_tables(&self) -> Result<Head> {
        let scratch = tempfile::tempdir().context("failed to make a temporary directory")?;
        let standin = StandIn::for_head(&self.place, &self.format, scratch.path())?;
        let symbolic = standin.git().args(["symbolic-ref", "--quiet", "HEAD"]).output()?;
        if symbolic.status.success() {
            let name = String::from_utf8(symbolic.stdout).context("the current branch's name is not valid UTF-8")?;
            return Ok(Head::Reference(name.trim_end_matches('\n').to_owned()));
        }
        standin.git().args(["rev-parse", "--verify", "HEAD"]).read().map(Head::Commit).context("failed to read HEAD")
    }

    /// Returns a path in `dir` that this repository reads objects from: see [`Stores::within`].
    ///
    /// # Errors
    /// See [`Source::stores`].
    pub fn store_in(&self, dir: &Path) -> Result<Option<PathBuf>> {
        Ok(self.stores()?.within(dir))
    }

    /// Checks that this repository uses no object store of a machine.
    ///
    /// # Errors
    /// It uses one, or a list of borrowed stores cannot be read.
    pub fn require_own_objects(&self, state: &Path) -> Result<()> {
        let stores = self.stores()?;
        let Some(store) = stores.within(state) else { return Ok(()) };
        let dir = quoted(&self.dir);
        // A repack could write through a link.
        let hint = if stores.borrowed.contains(&store) {
            let list = quoted(&stores.objects.join("info/alternates"));
            format!("copy the objects, then remove the list: git -C {dir} repack -a -d && rm {list}")
        } else {
            format!("git clone --no-local {dir} COPY makes a repository with objects of its own")
        };
        Err(Failure::new(format!("{} uses objects of a machine: {}", self.dir.display(), store.display()))
            .with_hint(hint)
            .into())
    }

    /// Returns its object store, the stores that it borrows from, and its list of shallow commits.
    ///
    /// # Errors
    /// A list of borrowed stores cannot be read.
    pub fn stores(&self) -> Result<Stores> {
        Stores::of(&self.place)
    }
}
