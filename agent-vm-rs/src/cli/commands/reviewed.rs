//! What was fetched from a machine, for commands that show or use it. They use exactly the commits that were fetched, and
//! so can be reviewed: what the machine does meanwhile does not count.

use std::path::Path;

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::fetching::{MAX_SIZE, fetch_from, source_of};
use crate::git::fetched::FetchedRefs;
use crate::git::users_git::users_git;
use crate::git::{Source, workspace};
use crate::host::files::{quoted, require_replaceable, write_file};
use crate::host::process::Invocation;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::settings::Settings;
use crate::term::error::Failure;
use crate::term::output::{print, print_json};
use crate::term::progress::note;
use crate::term::text::printable;

/// The object id of the empty tree, which every repository has: SHA-1 and SHA-256.
const EMPTY_TREES: [&str; 2] =
    ["4b825dc642cb6eb9a060e54bf8d69288fbee4904", "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321"];
/// Largest patch, in bytes.
const MAX_PATCH: usize = 1 << 30;

/// A machine's source repository with what was fetched into it.
pub struct Reviewed {
    /// The source repository.
    pub source: Source,
    /// The machine's references in it.
    pub refs: FetchedRefs,
    /// The machine's settings.
    pub settings: Settings,
}

/// Returns what was fetched from a machine. If nothing was fetched yet, this fetches it. If the machine has other commits
/// now, a notice says so.
///
/// # Errors
/// The source repository is missing or cannot be read.
pub fn fetched(context: &Context, machine: &Machine) -> Result<Reviewed> {
    let settings = machine.settings()?;
    let source = source_of(machine, &settings)?;
    let refs = FetchedRefs::of(&source, machine)?;
    if refs.is_empty() {
        fetch_from(context, machine, true, MAX_SIZE)?;
        let refs = FetchedRefs::of(&source, machine)?;
        return Ok(Reviewed { source, refs, settings });
    }
    let fetched = refs.find(&format!("heads/{}", settings.branch)).map(|tip| tip.commit);
    let now = workspace::commit_of(&machine.workspace(), &settings.branch);
    if now.is_some() && now != fetched {
        note(&format!(
            "notice: {} has changed {} since the last fetch: agent-vm fetch {}",
            machine.name, settings.branch, machine.name
        ));
    }
    Ok(Reviewed { source, refs, settings })
}

/// Returns the id of the empty tree in the object format of `id`.
#[must_use]
pub fn empty_tree(id: &str) -> &'static str {
    EMPTY_TREES[usize::from(id.len() == 64)]
}

/// Writes the exact output of a call of `git diff` to a file.
///
/// # Errors
/// Git fails, the changes are too large, or the file cannot be written or is a device or a pipe.
pub fn write_patch(git: &Invocation, file: &Path) -> Result<()> {
    require_replaceable(file)?;
    let patch = git.checked_within(MAX_PATCH)?.stdout;
    write_file(file, patch, 0o644).with_context(|| format!("failed to write the changes to {}", file.display()))?;
    note(&format!("to apply the changes: git apply {}", quoted(file)));
    Ok(())
}

/// Returns the directory that the command was called in, or the root directory if that is gone.
#[must_use]
pub fn cwd() -> std::path::PathBuf {
    std::env::current_dir().unwrap_or_else(|_| Path::new("/").to_owned())
}

/// Returns whether a commit contains everything of a work tree's HEAD.
#[must_use]
pub fn is_ahead(tree: &Path, commit: &str) -> bool {
    let git = users_git(tree).args(["merge-base", "--is-ancestor", "HEAD", commit]);
    git.output().is_ok_and(|output| output.status.success())
}

/// Prints what git said about a work tree of the source repository; with `--json`, its branch and commit.
///
/// # Errors
/// Git fails, or stdout is closed.
pub fn report(context: &Context, machine: &Machine, tree: &Path, said: &str) -> Result<()> {
    if !context.json {
        return print(said);
    }
    let commit = users_git(tree).args(["rev-parse", "--verify", "HEAD"]).read()?;
    let branch = users_git(tree).args(["symbolic-ref", "--quiet", "--short", "HEAD"]).output()?.stdout;
    let branch = String::from_utf8_lossy(&branch).trim_end().to_owned();
    let branch = (!branch.is_empty()).then_some(branch);
    print_json(&json!({ "name": machine.name, "work_tree": tree, "branch": branch, "commit": commit }))
}

/// Prints the output of a git call without control characters, coloured on a terminal.
///
/// # Errors
/// Git fails, or stdout is closed.
pub fn show(git: &Invocation) -> Result<()> {
    let code = git.each_line(|line| {
        let line = printable(line);
        let style = style(&line);
        print(&format!("{style}{line}{style:#}\n"))
    })?;
    match code {
        0 => Ok(()),
        code => Err(Failure::new(format!("git cannot show what was fetched (exit status: {code})"))
            .with_hint("if an object is missing, fetch it from the machine: agent-vm fetch")
            .into()),
    }
}

/// Returns the colour of a line of `git log` or `git diff`.
fn style(line: &str) -> Style {
    let colored = |color: AnsiColor| Style::new().fg_color(Some(color.into()));
    let starts = |words: &[&str]| words.iter().any(|word| line.starts_with(word));
    match line {
        _ if starts(&["diff --git ", "index ", "--- ", "+++ "]) => Style::new().bold(),
        _ if line.starts_with('+') => colored(AnsiColor::Green),
        _ if line.starts_with('-') => colored(AnsiColor::Red),
        _ if starts(&["@@ "]) => colored(AnsiColor::Cyan),
        _ if starts(&["commit "]) => colored(AnsiColor::Yellow),
        _ => Style::new(),
    }
}

/// Returns the commits that `git log -z --format=%H%n%an%n%ae%n%aI%n%s` printed.
#[must_use]
pub fn commits(printed: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(printed);
    let commit = |entry: &str| {
        let mut lines = entry.splitn(5, '\n').map(str::to_owned);
        let mut next = || lines.next().unwrap_or_default();
        json!({ "commit": next(), "author": next(), "email": next(), "date": next(), "subject": next() })
    };
    text.split('\0').filter(|entry| !entry.is_empty()).map(commit).collect()
}

/// Returns the files that `git diff --numstat -z` printed. Binary files have no numbers of lines.
#[must_use]
pub fn files(printed: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(printed);
    let file = |entry: &str| {
        let mut parts = entry.splitn(3, '\t');
        let mut next = || parts.next().unwrap_or_default();
        let (added, removed) = (next().parse::<u64>().ok(), next().parse::<u64>().ok());
        json!({ "path": next(), "added": added, "removed": removed })
    };
    text.split('\0').filter(|entry| !entry.is_empty()).map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gits_output_becomes_json() {
        let commits = commits(b"1\na\na@b\n2026-01-01\nsubject\0\x002\nb\nb@c\n2026\nx\ty\0");
        assert_eq!((commits.len(), commits[1]["subject"].as_str()), (2, Some("x\ty")));
        let files = files(b"1\t2\ta b\0-\t-\tbin\0");
        assert_eq!(files[0], json!({ "path": "a b", "added": 1, "removed": 2 }));
        assert_eq!(files[1], json!({ "path": "bin", "added": null, "removed": null }));
    }
}
