//! Calls the user's own git in a work tree of the source repository, as the user would: with the user's configuration,
//! identity, signing key and filters. Hooks do not run, since a merged commit may contain them.

use std::path::Path;
use std::process::Output;

use anyhow::{Context as _, Result};

use crate::host::process::Invocation;
use crate::term::error::Failure;
use crate::term::progress::note;
use crate::term::text::{last_lines, printable};

/// Lines of git's messages that an error shows.
const LINES: usize = 8;

/// Returns a call of the user's git.
#[must_use]
pub fn users_git(work_tree: &Path) -> Invocation {
    let git = Invocation::new("git").with_our_environment().cwd(work_tree);
    git.args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "color.ui=false"])
        .args(["-c", "submodule.recurse=false"])
}

/// Runs a call and returns its output without control characters.
///
/// # Errors
/// It fails: `what` says what it does, such as `merging`, `hint` how to go on.
pub fn run(git: &Invocation, what: &str, hint: &str) -> Result<String> {
    let Output { status, stdout, stderr } = git.output().context("failed to run git")?;
    let (stdout, stderr) = (printable(&String::from_utf8_lossy(&stdout)), printable(&String::from_utf8_lossy(&stderr)));
    if status.success() {
        if !stderr.trim().is_empty() {
            note(stderr.trim_end());
        }
        return Ok(stdout);
    }
    let words: Vec<_> = stdout.lines().chain(stderr.lines()).filter(|line| !line.starts_with("hint:")).collect();
    let words = last_lines(&words.join("\n"), LINES);
    Err(Failure::new(format!("git stopped while {what}:\n{words}")).with_hint(hint).into())
}
