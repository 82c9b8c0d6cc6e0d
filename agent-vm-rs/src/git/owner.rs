//! Checks who owns a repository, and writes as its owner. Git refuses other users' repositories unless `safe.directory`
//! allows them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::discover::Place;
use crate::host::account;
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

/// A user, other than root, who owns something that root changes.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    uid: Uid,
    gid: Gid,
}

impl Owner {
    /// Returns the owner of a file or directory if this process is root's and the owner is not root.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let owner = fs::metadata(path).ok().filter(|_| geteuid().is_root())?;
        (owner.uid() != 0).then(|| Self { uid: Uid::from_raw(owner.uid()), gid: Gid::from_raw(owner.gid()) })
    }

    /// Does `work` in a thread with the rights of this user, as do the programs that it starts. What it writes belongs to the
    /// user, who could also replace directories by links meanwhile.
    ///
    /// # Errors
    /// The kernel refuses to change the thread's user, or `work` fails.
    pub fn act<T: Send>(self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                set_thread_groups(&[])
                    .and_then(|()| set_thread_res_gid(self.gid, self.gid, self.gid))
                    .and_then(|()| set_thread_res_uid(self.uid, self.uid, self.uid))
                    .context("failed to act as the owner of the repository")?;
                work()
            });
            match thread.join() {
                Ok(outcome) => outcome,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Returns a call of git by this user, with the user's own configuration.
    #[must_use]
    pub fn git(self) -> Invocation {
        let home = self.home();
        let call = Invocation::new("setpriv").args([format!("--reuid={}", self.uid.as_raw())]);
        let call =
            call.args([format!("--regid={}", self.gid.as_raw()), "--clear-groups".to_owned()]).args(["--", "git"]);
        call.with_our_environment().env("HOME", &home).env("XDG_CONFIG_HOME", home.join(".config"))
    }

    /// Returns the user's home directory; the root directory if it is unknown.
    fn home(self) -> PathBuf {
        let home = account::field(self.uid.as_raw(), 5).map(PathBuf::from);
        home.filter(|home| home.is_absolute()).unwrap_or_else(|| "/".into())
    }
}
