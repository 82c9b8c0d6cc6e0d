//! The branches of the bare repository of a URL, which follow those of the remote.

use std::path::Path;

use anyhow::{Result, bail};

use super::call::git;
use super::refs::{self, collide};
use crate::host::files::quoted;
use crate::host::process::Invocation;
use crate::machine::branch::BranchName;
use crate::term::error::Failure;
use crate::term::text::one_line;

/// Makes a branch the default one.
///
/// # Errors
/// Git fails.
pub fn set_head(dir: &Path, default: &str) -> Result<()> {
    let remote = format!("refs/remotes/origin/{default}");
    within(dir).args(["symbolic-ref", "refs/remotes/origin/HEAD", &remote]).checked()?;
    within(dir).args(["symbolic-ref", "HEAD", &format!("refs/heads/{default}")]).checked()?;
    Ok(())
}

/// Returns the commit that a machine of a branch starts at.
///
/// # Errors
/// There is none.
pub fn start(dir: &Path, branch: &BranchName) -> Result<String> {
    let names = [format!("refs/heads/{branch}"), format!("refs/remotes/origin/{branch}"), "HEAD".to_owned()];
    for name in names {
        let commit = within(dir).args(["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")]).output()?;
        if commit.status.success() {
            return Ok(String::from_utf8_lossy(&commit.stdout).trim().to_owned());
        }
    }
    bail!("{} has no commit of {branch}", dir.display())
}

/// Creates the local branch that follows the remote's, or moves it to the remote's newer commit.
///
/// # Errors
/// Git fails, or a branch with commits of its own is in the way.
pub fn set_branch(dir: &Path, branch: &BranchName) -> Result<()> {
    let (own, remote) = (format!("refs/heads/{branch}"), format!("refs/remotes/origin/{branch}"));
    let commit = |name: &str| -> Result<Option<String>> {
        let output = within(dir).args(["rev-parse", "--verify", "--quiet", name]).output()?;
        let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(output.status.success().then_some(id))
    };
    let Some(new) = commit(&remote)? else { return Ok(()) };
    let old = commit(&own)?;
    if let Some(old) = &old {
        // A work tree of the user may have it checked out.
        let is_behind = within(dir).args(["merge-base", "--is-ancestor", old, &new]).output()?.status.success();
        if !is_behind || dir.join("worktrees").exists() {
            return Ok(());
        }
    }
    if old.is_none() {
        clear_way(dir, &own)?;
    }
    within(dir).args(["update-ref", &own, &new, old.as_deref().unwrap_or("")]).checked()?;
    for (key, value) in [("remote", "origin"), ("merge", own.as_str())] {
        within(dir).args(["config", "--", &format!("branch.{branch}.{key}"), value]).checked()?;
    }
    Ok(())
}

/// Removes local branches whose name is a directory of `own`, or below it: the remote has replaced them.
fn clear_way(dir: &Path, own: &str) -> Result<()> {
    let listed = within(dir).args(["for-each-ref", refs::FORMAT, "refs/heads"]).checked()?.stdout;
    let in_the_way = refs::parse(&listed).into_iter().filter(|one| collide(&one.name, own.as_bytes()));
    for (name, id) in in_the_way.filter_map(|one| Some((String::from_utf8(one.name).ok()?, one.id))) {
        let only_there = within(dir).args(["rev-list", "--max-count=1", &id, "--not", "--remotes=origin"]).read()?;
        if !only_there.is_empty() || dir.join("worktrees").exists() {
            let branch = |name: &str| name.strip_prefix("refs/heads/").unwrap_or(name).to_owned();
            let (old, new, git_dir) = (branch(&name), branch(own), quoted(dir));
            let renamed = quoted(Path::new(&format!("old-{}", old.replace('/', "-"))));
            let old = one_line(&old);
            return Err(Failure::new(format!("the branch {old} of {} is in the way of {new}", dir.display()))
                .with_hint(format!("git -C {git_dir} branch --move {} {renamed}", quoted(Path::new(&old))))
                .into());
        }
        within(dir).args(["update-ref", "--no-deref", "-d", &name, &id]).checked()?;
    }
    Ok(())
}

fn within(dir: &Path) -> Invocation {
    git().arg("--git-dir").arg(dir)
}
