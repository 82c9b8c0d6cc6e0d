//! Checks who owns a repository. Git refuses other users' repositories unless `safe.directory` allows them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::process::geteuid;

use super::discover::Place;
use crate::host::process::Invocation;
use crate::term::error::Failure;

/// Refuses a repository of another user, unless git accepts it.
///
/// # Errors
/// Git refuses it; the error holds git's message.
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

/// Applies git's own rule: root may also use what belongs to the user who ran sudo.
fn is_ours(owner: u32) -> bool {
    let sudo = || std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse::<u32>().ok());
    owner == geteuid().as_raw() || (geteuid().is_root() && sudo() == Some(owner))
}

/// Asks git with the user's own configuration, which holds `safe.directory`. This call runs no program that the
/// repository names.
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
        .with_hint("follow git's advice above, then run the command again")
        .into())
}
