//! The source's uncommitted changes and ignored files, which a clone does not have: counts them, and copies them into a new
//! workspace. Filters (`filter.*`) do not run; see [`super::filtered`].

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use super::examine::Look;
use super::filtered::unchanged;
use super::standin::StandIn;
use super::work_tree;
use crate::host::files::beneath::{Entry, copy, entry, remove};
use crate::host::files::plain;
use crate::host::interrupt;
use crate::host::process::Invocation;
use crate::machine::branch::BranchName;
use crate::term::error::Failure;
use crate::term::progress::note;
use crate::term::text::bytes;

/// Longest time for counting. The count is only a notice, so a slow one must not block `create`.
const LONGEST_COUNT: Duration = Duration::from_secs(30);
/// Largest size of the copied files, in bytes.
const MOST_BYTES: u64 = 1 << 30;
/// File with the patterns of ignored files to copy, in the format of gitignore(5).
const INCLUDE_FILE: &str = ".worktreeinclude";
/// Largest such file, in bytes.
const MAX_INCLUDE: u64 = 1 << 20;

/// What a clone does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Uncommitted changes; an untracked directory counts as one.
    pub changes: usize,
    /// Ignored files; a directory counts as one.
    pub ignored: usize,
}

impl Look<'_> {
    /// Counts what a clone does not have.
    ///
    /// # Errors
    /// Git fails or takes too long.
    pub fn left(&self) -> Result<Left> {
        let Some((_standin, git)) = self.git_in_work_tree()? else { return Ok(Left::default()) };
        let git = git.time_limit(LONGEST_COUNT);
        let status = git.clone().args(["status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal"]);
        let status = status.args(["--ignored=traditional", "--ignore-submodules=dirty"]);
        let printed = status.checked().context("failed to count uncommitted changes")?.stdout;
        let entries = self.changes(&git, &printed)?;
        let ignored = entries.iter().filter(|entry| entry.starts_with(b"!!")).count();
        Ok(Left { changes: entries.len() - ignored, ignored })
    }

    /// Copies the uncommitted changes into a new workspace of `branch`, as changes of its work tree; returns their number.
    ///
    /// # Errors
    /// The changes are those of another branch, or a file cannot be copied.
    pub fn bring_changes(&self, branch: &BranchName, workspace: &Path) -> Result<usize> {
        let Some((_standin, git)) = self.git_in_work_tree()? else { return Ok(0) };
        if self.head_commit() != Some(self.start_of(branch)?.commit()) {
            return Err(Failure::usage(format!("the uncommitted changes are not those of {branch}"))
                .with_hint(format!("git switch {branch}, or create the machine without --dirty"))
                .into());
        }
        let status = git.clone().args(["status", "--porcelain", "-z", "--no-renames", "--untracked-files=all"]);
        let printed = status.arg("--ignore-submodules=all").checked().context("failed to list uncommitted changes")?;
        let entries = self.changes(&git, &printed.stdout)?;
        self.bring(entries.iter().map(|entry| path(&entry[3..])).collect(), workspace)
    }

    /// Returns the entries of `git status --porcelain -z`, without the files that only a filter changed. Each has two characters
    /// for index and work tree, a space, and the path.
    fn changes<'a>(&self, git: &Invocation, printed: &'a [u8]) -> Result<Vec<&'a [u8]>> {
        let entries = || printed.split(|byte| *byte == 0).filter(|entry| entry.len() > 3);
        let modified = entries().filter_map(|entry| entry.strip_prefix(b" M ")).collect();
        let Some(tree) = self.work_tree() else { return Ok(Vec::new()) };
        let unchanged = unchanged(git, tree, &self.source.place.git_dir.join("index"), &modified)?;
        let is_unchanged = |entry: &[u8]| entry.strip_prefix(b" M ").is_some_and(|path| unchanged.contains(path));
        Ok(entries().filter(|entry| !is_unchanged(entry)).collect())
    }

    /// Copies the ignored files that match `patterns`, or those of the source's `.worktreeinclude`, into a new workspace;
    /// returns their number.
    ///
    /// # Errors
    /// A file cannot be copied.
    pub fn bring_ignored(&self, patterns: &[String], workspace: &Path) -> Result<usize> {
        let Some(tree) = self.work_tree() else { return Ok(0) };
        let include = tree.join(INCLUDE_FILE);
        let is_plain = include.symlink_metadata().is_ok_and(|file| file.is_file());
        let mut lines = if is_plain { plain::read(&include, MAX_INCLUDE)?.unwrap_or_default() } else { Vec::new() };
        lines.extend(patterns.iter().flat_map(|pattern| format!("\n{pattern}\n").into_bytes()));
        if lines.iter().all(u8::is_ascii_whitespace) {
            return Ok(0);
        }
        let Some((standin, git)) = self.git_in_work_tree()? else { return Ok(0) };
        let file = standin.path().join("include");
        fs::write(&file, lines).context("failed to write the patterns of included files")?;
        let list = git.clone().args(["ls-files", "-z", "--others", "--ignored"]);
        let matching = list.arg("--exclude-from").arg(&file).checked().context("failed to list included files")?.stdout;
        let names = |list: &[u8]| -> Vec<Vec<u8>> {
            list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
        };
        // Files that git does not ignore are uncommitted changes. This command has no literal pathspecs; a path with ./ is none
        // of the others.
        let paths = names(&matching).into_iter().flat_map(|name| [b"./", name.as_slice(), b"\0"].concat());
        let check = git.args(["check-ignore", "-z", "--stdin"]).env("GIT_LITERAL_PATHSPECS", "0");
        let check = check.stdin(paths.collect::<Vec<u8>>()).output()?;
        // git-check-ignore(1): 1 means that it ignores none of them.
        if !matches!(check.status.code(), Some(0 | 1)) {
            return Err(anyhow!("{}", String::from_utf8_lossy(&check.stderr).trim()))
                .context("failed to list ignored files");
        }
        let ignored = names(&check.stdout);
        self.bring(ignored.iter().filter_map(|name| name.strip_prefix(b"./")).map(path).collect(), workspace)
    }

    /// Copies files of the work tree, and removes those that are missing there.
    fn bring(&self, paths: Vec<PathBuf>, workspace: &Path) -> Result<usize> {
        let Some(tree) = self.work_tree() else { return Ok(0) };
        let failed = |dir: &Path| format!("failed to open {}", dir.display());
        let from = File::open(tree).with_context(|| failed(tree))?;
        let to = File::open(workspace).with_context(|| failed(workspace))?;
        let mut found = Vec::new();
        let mut left = MOST_BYTES;
        for path in &paths {
            let kind = entry(&from, path).with_context(|| format!("failed to look at {}", path.display()))?;
            if let Some(Entry::File(size)) = kind {
                left = left.checked_sub(size).ok_or_else(|| {
                    Failure::new(format!("the files to copy into the machine are larger than {}", bytes(MOST_BYTES)))
                        .with_hint(
                            "create the machine without --dirty and --include, then commit or copy what it needs",
                        )
                })?;
            }
            found.push((path, kind));
        }
        // A file may have become a directory, whose files are listed. (Git lists another repository with a slash at its end.)
        let is_repository = |path: &Path| path.as_os_str().as_bytes().ends_with(b"/");
        let is_gone = |path: &Path, kind: Option<Entry>| match kind {
            None => true,
            Some(Entry::Directory) => !is_repository(path),
            Some(_) => false,
        };
        for (path, _) in found.iter().filter(|(path, kind)| is_gone(path, *kind)) {
            remove(&to, path).with_context(|| format!("failed to remove {}", path.display()))?;
        }
        for (path, kind) in &found {
            interrupt::check()?;
            match kind {
                kind if is_gone(path, *kind) => {}
                Some(Entry::Directory) => {
                    note(&format!("not copied into the machine: {}, a repository", path.display()));
                }
                Some(Entry::Other) => note(&format!("not copied into the machine: {}, a special file", path.display())),
                _ => copy(&from, &to, path, MOST_BYTES)
                    .with_context(|| format!("failed to copy {} into the machine", path.display()))?,
            }
        }
        let is_left = |path: &Path, kind: Option<Entry>| match kind {
            Some(Entry::Directory) => is_repository(path),
            kind => kind == Some(Entry::Other),
        };
        Ok(found.iter().filter(|(path, kind)| !is_left(path, *kind)).count())
    }

    /// Returns a git call on the work tree, with the stand-in that it needs; None without a work tree.
    fn git_in_work_tree(&self) -> Result<Option<(StandIn, Invocation)>> {
        let Some(tree) = self.work_tree() else { return Ok(None) };
        let standin = self.standin_for_index()?;
        let git = work_tree::git(self.source, &standin, tree, &self.of_user)?;
        Ok(Some((standin, git.cwd(tree).of_machine(self.scratch))))
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    OsStr::from_bytes(bytes).into()
}
