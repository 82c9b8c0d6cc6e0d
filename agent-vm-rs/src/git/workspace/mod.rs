//! The workspace's repository, which the guest owns and may have made hostile: looking at it, and keeping what only it has.
//!
//! What a workspace holds is listed completely first (`inventory`, `layout`); git of ours then reads what git makes (`view`),
//! and what is anything else is kept as it is (`whole`).

mod bundle;
mod files;
mod findings;
mod guest_files;
mod inventory;
mod layout;
mod named;
mod refs;
mod store;
#[cfg(test)]
mod tests;
mod trouble;
mod uncommitted;
mod view;
mod whole;

use std::path::Path;

use anyhow::Result;

use crate::git::Source;

pub use self::findings::{Findings, OnTheDisk, Own, Why, look};
pub use self::inventory::is_there;
pub use self::trouble::{Unreadable, is_no_space, is_unreadable};
use self::view::{Place, SHORT, View};
pub use self::whole::{finish_all, keep_whole};

/// What status shows of the workspace.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct WorkspaceState {
    /// Branch that is checked out, if it has a name git would take.
    pub branch: Option<String>,
    /// Commit that is checked out.
    pub commit: Option<String>,
    /// Files that differ from it, new ones included.
    pub changed_files: usize,
    /// Commits that only the workspace has; None where that cannot be told, because its source is missing.
    pub new_commits: Option<usize>,
}

/// What status shows. `scratch` is a directory on the host's side of the machine.
///
/// # Errors
/// [`Unreadable`] if git cannot make sense of the repository; else something failed on the host, or took too long.
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

/// Number of commits that references of the workspace lead to and that the source lacks.
///
/// # Errors
/// As [`state`].
pub fn new_commits(workspace: &Path, source: Option<&Source>, scratch: &Path) -> Result<usize> {
    count(&open(workspace, source, scratch)?)
}

fn open(workspace: &Path, source: Option<&Source>, scratch: &Path) -> Result<View> {
    let place = Place { workspace, git_dir: Path::new(".git"), work_tree: Some(Path::new("")) };
    View::open(&place, source, scratch, SHORT)
}

fn count(view: &View) -> Result<usize> {
    view.new_commits().map_err(|error| match view.borrows() {
        true if is_unreadable(&error) => error.context(trouble::borrowing()),
        _ => error,
    })
}
