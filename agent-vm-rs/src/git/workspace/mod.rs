//! Reads the workspace's repository, which the guest owns and may have made hostile, and saves what only it has.
//!
//! `inventory` and `layout` first list everything in the workspace. Git then reads what is an ordinary repository
//! (`view`); anything else is kept as it is (`keep_workspace`).

mod bring_large_files;
mod bundle;
mod contents;
mod edited_large_files;
mod fetch;
mod files;
mod findings;
mod git_failure;
mod guest_files;
mod head;
mod held;
mod inventory;
mod keep_names;
mod keep_workspace;
mod large_files;
mod layout;
mod listed_refs;
mod objects;
mod offer;
mod pack;
mod refs;
mod store;
#[cfg(test)]
mod tests;
mod unbundle;
mod uncommitted;
mod unsaved;
mod view;
mod work_trees;

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use anyhow::Result;
use rustix::fs::OFlags;

use crate::git::origin_copy::ORIGIN_COPY;
use crate::git::{Source, SourceReader};
use crate::machine::branch::BranchName;

pub use self::bring_large_files::bring as bring_large_files;
pub use self::contents::Contents;
pub use self::fetch::{fetch, fetch_from};
pub use self::findings::{Findings, OnTheDisk, WholeReason, look};
pub use self::git_failure::{Unreadable, is_no_space, is_unreadable};
pub use self::held::{Held, of_bundle, of_workspace};
pub use self::inventory::is_there;
pub use self::keep_workspace::{finish_all, keep_whole, unfinished_in};
pub use self::offer::{MOST as MOST_OFFERS, Offering, Repository, UNCOMMITTED, Wanted, offering};
pub use self::pack::{Limit, MOST_OBJECTS, Pack, pack};
pub use self::unbundle::header;
pub use self::unsaved::Unsaved;
use self::view::{Place, SHORT, View};

/// Largest file of a reference that [`commit_of`] reads, in bytes.
const MAX_LOOSE: u64 = 4096;

/// Largest number of branches of the copy for origin that [`branches_of_copy`] returns.
const MOST_BRANCHES: usize = 10_000;

/// The state of a workspace, for `status`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct WorkspaceState {
    /// Checked-out branch, if its name is valid.
    pub branch: Option<String>,
    /// Checked-out commit.
    pub commit: Option<String>,
    /// Number of files that differ from it, including untracked ones.
    pub changed_files: usize,
    /// Number of commits that only the workspace has; None if its source repository is missing.
    pub new_commits: Option<usize>,
}

/// Returns the state of a workspace. `scratch` is a directory of the host for temporary git directories.
///
/// # Errors
/// [`Unreadable`] if git cannot read the repository; other errors are failures or timeouts of the host.
pub fn state(workspace: &Path, source: Option<&Source>, scratch: &Path) -> Result<WorkspaceState> {
    let view = open(workspace, source, scratch)?;
    let new_commits = count(&view)?;
    Ok(WorkspaceState {
        branch: view.head.branch.as_ref().map(ToString::to_string),
        commit: view.head.commit.clone(),
        changed_files: view.changed_files(true)?.len(),
        new_commits: Some(new_commits),
    })
}

/// Returns the number of ignored files and directories of a workspace.
///
/// # Errors
/// See [`state`].
pub fn ignored_files(workspace: &Path, scratch: &Path) -> Result<usize> {
    open(workspace, None, scratch)?.ignored_files()
}

/// Returns the number of commits that the workspace's references reach and its source repository lacks.
///
/// # Errors
/// See [`state`].
pub fn new_commits(workspace: &Path, source: Option<&Source>, scratch: &Path) -> Result<usize> {
    count(&open(workspace, source, scratch)?)
}

/// Returns the commit of a branch without git, if it is easily found.
#[must_use]
pub fn commit_of(workspace: &Path, branch: &BranchName) -> Option<String> {
    let root = guest_files::open_root(workspace).ok()?;
    let read = |path: &str, limit| guest_files::read_inside(&root, Path::new(path), limit).ok().flatten();
    let name = format!("refs/heads/{branch}");
    let loose = read(&format!(".git/{name}"), MAX_LOOSE).map(|text| text.trim_ascii_end().to_vec());
    let packed = || {
        let lines = read(".git/packed-refs", guest_files::MAX_PACKED_REFS)?;
        let line = lines.split(|byte| *byte == b'\n').find(|line| line.ends_with(format!(" {name}").as_bytes()))?;
        Some(line.split(|byte| *byte == b' ').next()?.to_vec())
    };
    let id = loose.or_else(packed).filter(|id| guest_files::is_object_id(id))?;
    String::from_utf8(id).ok()
}

/// Returns the branches and commits of the copy that `origin` leads to, without git. The guest wrote them.
///
/// # Errors
/// There is no copy, or its references cannot be read.
pub fn branches_of_copy(workspace: &Path) -> Result<BTreeMap<String, String>> {
    let root = guest_files::open_root(workspace)?;
    let path = Path::new(".git").join(ORIGIN_COPY);
    let copy = guest_files::open_inside(&root, &path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let copy = copy.ok_or_else(|| Unreadable(format!("the workspace has no {}", path.display())))?;
    let names = refs::of_files(&copy)?.names.into_iter();
    let branch = |(name, id): (Vec<u8>, Vec<u8>)| {
        let name = String::from_utf8(name.strip_prefix(b"refs/heads/")?.to_vec()).ok()?;
        Some((name, String::from_utf8(id).ok()?))
    };
    Ok(names.filter_map(branch).take(MOST_BRANCHES).collect())
}

fn open(workspace: &Path, source: Option<&Source>, scratch: &Path) -> Result<View> {
    let place = Place { workspace, git_dir: Path::new(".git"), work_tree: Some(Path::new("")) };
    let source = source.map(|source| SourceReader::open(source, scratch).map(Rc::new)).transpose()?;
    View::open(&place, source.as_ref(), scratch, SHORT)
}

fn count(view: &View) -> Result<usize> {
    view.new_commits().map_err(|error| match view.borrows() {
        true if is_unreadable(&error) => error.context(git_failure::borrowing()),
        _ => error,
    })
}
