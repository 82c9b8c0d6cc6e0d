//! Checks the sizes in the LFS pointers of a machine's commits. Git LFS removes contents from its store if a pointer that it
//! checks out names another size.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::fetched::FetchedRefs;
use super::lfs::{Pointer, parsed};
use super::users_git::{lfs_store, users_git};
use crate::host::files::quoted;
use crate::host::process::Invocation;
use crate::term::error::Failure;

/// Largest list of new objects, and of those as small as pointers, in bytes.
const MAX_LIST: usize = 1 << 30;

/// Checks that no pointer in the machine's `commits`, which the user's references do not reach, has another size than the
/// contents in the store of the user's Git LFS.
///
/// # Errors
/// One has, or git fails.
pub fn require_true_sizes(refs: &FetchedRefs, tree: &Path, commits: &[&str]) -> Result<()> {
    let store = lfs_store(tree)?;
    if !store.join("objects").is_dir() {
        return Ok(());
    }
    let ask = |git: &Invocation| Ok(git.checked_within(MAX_LIST)?.stdout);
    let list = ["rev-list", "--objects", "--no-object-names", "--missing=allow-any", "--ignore-missing", "--stdin"];
    let new = ask(&refs.git().args(list).stdin(refs.new_since_others(commits)))?;
    let pointers = parsed(&new, || refs.git(), ask, Pointer::parse_any).context("failed to list Git LFS files")?;
    let is_wrong = |pointer: &Pointer| {
        let contents = pointer.path().strip_prefix("lfs").map(|below| store.join(below));
        contents.is_ok_and(|path| path.metadata().is_ok_and(|found| found.len() != pointer.size))
    };
    let Some((id, _)) = pointers.iter().find(|(_, pointer)| is_wrong(pointer)) else { return Ok(()) };
    let shown = users_git(tree).args(["rev-parse", "--short", id]).read().unwrap_or_else(|_| id.clone());
    Err(Failure::new(format!(
        "a Git LFS pointer of the machine, {shown}, names another size than the contents in {} have; Git LFS would remove them",
        store.display()
    ))
    .with_hint(format!("to see it: git -C {} cat-file blob {id}", quoted(tree)))
    .into())
}
