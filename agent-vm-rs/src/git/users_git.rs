//! Calls the user's own git in a work tree of the source repository, as the user would: with the user's configuration,
//! identity, signing key and filters. Hooks do not run, since a merged commit may contain them, and filters only from
//! outside the work tree.

use std::path::Path;
use std::process::Output;

use anyhow::{Context as _, Result};

use crate::host::files::quoted;
use crate::host::process::Invocation;
use crate::term::error::Failure;
use crate::term::progress::note;
use crate::term::text::{last_lines, one_line, printable};

/// What git notes while it is in progress.
const IN_PROGRESS: [(&str, &str); 3] =
    [("MERGE_HEAD", "merge"), ("CHERRY_PICK_HEAD", "cherry-pick"), ("REVERT_HEAD", "revert")];
/// Settings that name programs for the contents of files: gitattributes(5).
const PROGRAMS: &str = "^(filter\\..*\\.(clean|smudge|process)|merge\\..*\\.driver)$";
/// Lines of git's messages that an error shows.
const LINES: usize = 8;

/// Returns a call of the user's git.
#[must_use]
pub fn users_git(work_tree: &Path) -> Invocation {
    let git = Invocation::new("git").with_our_environment().cwd(work_tree);
    git.args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "color.ui=false"])
        .args(["-c", "submodule.recurse=false"])
}

/// Checks that git can change a work tree: nothing is in progress there that `--abort` would undo, and no filter or merge
/// driver of the configuration is a file of the work tree, which the machine may have changed.
///
/// # Errors
/// Otherwise.
pub fn require_ready(work_tree: &Path) -> Result<()> {
    let dir = quoted(work_tree);
    for (reference, what) in IN_PROGRESS {
        if exists(work_tree, reference) {
            return Err(Failure::new(format!("a {what} is in progress in {}", work_tree.display()))
                .with_hint(format!("finish it first: git -C {dir} status"))
                .into());
        }
    }
    let list = users_git(work_tree).args(["config", "--null", "--get-regexp", PROGRAMS]).output()?.stdout;
    for entry in String::from_utf8_lossy(&list).split('\0') {
        let Some((key, command)) = entry.split_once('\n') else { continue };
        if command.split(|c: char| c.is_whitespace() || "'\"".contains(c)).any(|word| is_of(work_tree, word)) {
            return Err(Failure::new(format!(
                "git would run a program of the work tree, which the machine may have changed: {} = {}",
                one_line(key),
                one_line(command)
            ))
            .with_hint(format!("name it by an absolute path elsewhere: git -C {dir} config {} COMMAND", one_line(key)))
            .into());
        }
    }
    Ok(())
}

/// Returns whether a word of a command is a path in the work tree.
fn is_of(work_tree: &Path, word: &str) -> bool {
    let path = Path::new(word);
    match path.strip_prefix(work_tree) {
        Ok(_) => true,
        Err(_) if path.is_absolute() || word.is_empty() || word.starts_with('-') || word.starts_with('~') => false,
        // A bare word is a program on PATH, unless there is such a file.
        Err(_) => word.contains('/') || work_tree.join(path).symlink_metadata().is_ok_and(|file| !file.is_dir()),
    }
}

/// Returns whether git knows a reference such as `MERGE_HEAD` in a work tree.
#[must_use]
pub fn exists(work_tree: &Path, reference: &str) -> bool {
    let ask = users_git(work_tree).args(["rev-parse", "--verify", "--quiet", reference]).output();
    ask.is_ok_and(|output| output.status.success())
}

/// Runs a call and returns its output without control characters.
///
/// # Errors
/// It fails: `what` says what it does, such as `merging`, `hint` how to go on then.
pub fn run(git: &Invocation, what: &str, hint: impl FnOnce() -> String) -> Result<String> {
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
    Err(Failure::new(format!("git stopped while {what}:\n{words}")).with_hint(hint()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_the_work_tree_are_recognized() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("filter.py"), "").unwrap();
        let own = dir.path().join("x").display().to_string();
        for (word, is_own) in [
            ("./tools/f.sh", true),
            ("tools/f.sh", true),
            ("filter.py", true),
            (own.as_str(), true),
            ("git-lfs", false),
            ("/usr/bin/f", false),
            ("--", false),
            ("%f", false),
        ] {
            assert_eq!(is_of(dir.path(), word), is_own, "{word}");
        }
    }
}
