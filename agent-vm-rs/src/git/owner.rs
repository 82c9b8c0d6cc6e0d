//! Whose a repository is. Git refuses those of other users unless the user has said otherwise (`safe.directory`).

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::process::geteuid;

use super::discover::Place;
use crate::host::process::Invocation;
use crate::term::error::Failure;

/// Refuses a repository of another user that git would refuse.
///
/// # Errors
/// It is one, in git's own words.
pub fn check(place: &Place, cwd: &Path) -> Result<()> {
    let dot_git = place.work_tree.as_ref().map(|tree| tree.join(".git"));
    let parts = [place.work_tree.as_ref(), dot_git.as_ref(), Some(&place.git_dir), Some(&place.common_dir)];
    for part in parts.into_iter().flatten() {
        let metadata = fs::symlink_metadata(part).with_context(|| format!("failed to look at {}", part.display()))?;
        if !is_ours(metadata.uid()) {
            return ask_git(cwd);
        }
    }
    Ok(())
}

/// As git has it: root may use what belongs to the user who has become root.
fn is_ours(owner: u32) -> bool {
    let sudo = || std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse::<u32>().ok());
    owner == geteuid().as_raw() || (geteuid().is_root() && sudo() == Some(owner))
}

/// With the user's own configuration, which says whom they trust. This runs no program that the repository names.
fn ask_git(cwd: &Path) -> Result<()> {
    let ask = Invocation::new("git")
        .with_our_environment()
        .args(["-c", "safe.bareRepository=all", "-c", "core.fsmonitor=false"])
        .arg("-C");
    let output = ask.arg(cwd).args(["rev-parse", "--git-dir"]).env("LC_ALL", "C").output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::new(format!("git cannot use the repository of {}:\n{words}", cwd.display()))
        .with_hint("do what git says, then try again")
        .into())
}
