//! Calls the user's own git in a work tree of the source repository, as the user would: with the user's configuration,
//! identity, signing key and filters. Hooks do not run, since a merged commit may contain them, and filters only from
//! outside the work tree.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::links;
use super::owner::Owner;
use super::users_programs::{PROTOCOLS, require_outside};
use crate::host::files::places::Mounts;
use crate::host::files::{quoted, resolved};
use crate::host::process::{Invocation, search_paths_without};
use crate::term::error::Failure;
use crate::term::progress::note;
use crate::term::text::{count, last_lines, one_line, printable};

/// The references that git has while it is in progress.
const IN_PROGRESS: [(&str, &str); 3] =
    [("MERGE_HEAD", "merge"), ("CHERRY_PICK_HEAD", "cherry-pick"), ("REVERT_HEAD", "revert")];
/// The files and directories that git has then in its directory.
const NOTES: [(&str, &str); 4] = [
    ("sequencer", "cherry-pick or revert"),
    ("rebase-merge", "rebase"),
    ("rebase-apply", "rebase or git am"),
    ("BISECT_LOG", "bisect"),
];
/// Longest time for reading the configuration.
const LONGEST_LOOK: Duration = Duration::from_secs(10);
/// How the messages of Git LFS about a file begin that it cannot download; the first is printed for each.
const NO_DOWNLOAD: [&str; 4] =
    ["Error downloading object: ", "Downloading ", "Errors logged to ", "Use `git lfs logs last` "];
/// How the line begins that git writes again and again while it changes files.
const PROGRESS: &str = "Updating files: ";
/// Lines of git's messages that an error shows.
const LINES: usize = 8;

/// Returns a call of the user's git. Root calls it as the owner of the work tree: git would leave files of root there, and run
/// programs that this user's configuration names.
#[must_use]
pub fn users_git(work_tree: &Path) -> Invocation {
    let git = Owner::of(work_tree).map_or_else(|| Invocation::new("git").with_our_environment(), Owner::git);
    // A commit of the machine can bring a program or a library, such as `.venv/bin/git-lfs`.
    let mounts = Mounts::read();
    let paths = search_paths_without(|dir| mounts.is_in(dir, work_tree));
    let git = paths.fold(git, |git, (name, path)| git.env(name, path));
    git.cwd(work_tree)
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "color.ui=false"])
        // The machine chooses the server in .lfsconfig. `fetch` has brought the contents; without a server, what is missing
        // stays a pointer. `lfs.fetchexclude` would make pointers of all files.
        .args(["-c", "lfs.url=", "-c", "lfs.standalonetransferagent=", "-c", "lfs.skipdownloaderrors=true"])
        // Missing objects of a partial clone are not fetched: the configuration of a repository that was downloaded says how.
        .args(["-c", "protocol.allow=never"])
        .args(PROTOCOLS.iter().flat_map(|protocol| ["-c".to_owned(), format!("protocol.{protocol}.allow=never")]))
        // Git would start a program of its own, with the configuration that a merge may have changed.
        .args(["-c", "submodule.recurse=false", "-c", "gc.auto=0", "-c", "maintenance.auto=false"])
}

/// Checks that git can change a work tree: nothing is in progress there that `--abort` would undo, and no program of the
/// configuration is, or can be changed by, a file of a work tree, which the machine may have changed.
///
/// # Errors
/// Otherwise.
pub fn require_ready(work_tree: &Path) -> Result<()> {
    let list = users_git(work_tree).args(["config", "--null", "--show-scope", "--show-origin", "--list"]);
    // A repository that was downloaded may include a pipe.
    let list = list.time_limit(LONGEST_LOOK);
    let settings = list.checked().context("failed to read git's configuration")?.stdout;
    require_outside(&work_trees(work_tree)?, &settings)?;
    require_own_tree(work_tree)?;
    let git_dirs = paths_of_git(work_tree, ["--absolute-git-dir", "--git-common-dir"])?;
    git_dirs.iter().try_for_each(|dir| links::require_own_files(dir))?;
    require_empty_temporary(work_tree)?;
    let paths = paths_of_git(work_tree, NOTES.iter().flat_map(|(path, _)| ["--git-path", path]))?;
    let noted = paths.iter().zip(NOTES).find(|(path, _)| path.symlink_metadata().is_ok()).map(|(_, (_, what))| what);
    let found = IN_PROGRESS.iter().find(|(reference, _)| exists(work_tree, reference)).map(|(_, what)| *what);
    if let Some(what) = found.or(noted) {
        return Err(Failure::new(format!("a {what} is in progress in {}", work_tree.display()))
            .with_hint(format!("finish it first: git -C {} status", quoted(work_tree)))
            .into());
    }
    Ok(())
}

/// Refuses a repository whose configuration sends git to the files of another directory. Git also reads `core.worktree` of
/// a linked work tree.
fn require_own_tree(work_tree: &Path) -> Result<()> {
    let top = users_git(work_tree).args(["rev-parse", "--show-toplevel"]).checked();
    let top = top.context("failed to find git's work tree")?.stdout;
    let top = PathBuf::from(OsStr::from_bytes(top.strip_suffix(b"\n").unwrap_or(&top)));
    if resolved(&top) == resolved(work_tree) {
        return Ok(());
    }
    let (tree, top) = (work_tree.display(), one_line(&top.display().to_string()));
    Err(Failure::new(format!("git would change files outside {tree}: its configuration names the work tree {top}"))
        .with_hint(format!(
            "to find the setting: git -C {} config --show-origin --get-all core.worktree",
            quoted(work_tree)
        ))
        .into())
}

/// Returns the work trees of a repository, this one first: the machine's commits may have been merged into any of them.
fn work_trees(work_tree: &Path) -> Result<Vec<PathBuf>> {
    let listed = users_git(work_tree).args(["worktree", "list", "--porcelain"]).checked()?.stdout;
    let listed = String::from_utf8_lossy(&listed);
    // A bare repository is listed, too, and the git directory of a submodule.
    let git_dirs = paths_of_git(work_tree, ["--git-common-dir"])?;
    let is_git_dir = |path: &PathBuf| git_dirs.iter().any(|dir| resolved(dir) == resolved(path));
    let trees = listed.split("\n\n").filter(|lines| !lines.lines().any(|line| line == "bare"));
    let others = trees.filter_map(|lines| Some(PathBuf::from(lines.lines().next()?.strip_prefix("worktree ")?)));
    let others = others.filter(|path| !is_git_dir(path));
    Ok(std::iter::once(work_tree.to_owned()).chain(others).collect())
}

/// Returns the paths that `git rev-parse` prints in a work tree.
fn paths_of_git<'a>(work_tree: &Path, asked: impl IntoIterator<Item = &'a str>) -> Result<Vec<PathBuf>> {
    let printed = users_git(work_tree).arg("rev-parse").args(asked).checked().context("failed to find git's files")?;
    let lines = printed.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.map(|line| work_tree.join(OsStr::from_bytes(line))).collect())
}

/// Returns the directory in which the user's Git LFS keeps files: git-lfs-config(5), `lfs.storage`.
///
/// # Errors
/// Git fails.
pub fn lfs_store(work_tree: &Path) -> Result<PathBuf> {
    let dirs = paths_of_git(work_tree, ["--git-common-dir"])?;
    let named = users_git(work_tree).args(["config", "--type=path", "--get", "lfs.storage"]).output()?.stdout;
    let named = named.strip_suffix(b"\n").filter(|named| !named.is_empty()).unwrap_or(b"lfs");
    Ok(dirs.first().map_or(work_tree, PathBuf::as_path).join(OsStr::from_bytes(named)))
}

/// Refuses a store of Git LFS elsewhere that the repository chose, with its configuration or a link, and in which `tmp` has
/// files. Git LFS removes all that are older than an hour.
fn require_empty_temporary(work_tree: &Path) -> Result<()> {
    let store = resolved(&lfs_store(work_tree)?);
    let dirs = paths_of_git(work_tree, ["--git-common-dir"])?;
    let is_own = dirs.iter().any(|dir| store == resolved(dir).join("lfs"));
    let temporary = store.join("tmp");
    // Git LFS leaves directories.
    let is_empty = || walkdir::WalkDir::new(&temporary).into_iter().flatten().all(|entry| entry.file_type().is_dir());
    if is_own || is_empty() {
        return Ok(());
    }
    let scope = users_git(work_tree).args(["config", "--show-scope", "--get", "lfs.storage"]).output()?.stdout;
    if ["global\t", "system\t"].iter().any(|users| scope.starts_with(users.as_bytes())) {
        return Ok(());
    }
    let why = if scope.is_empty() { "a link leads there" } else { "the repository's configuration names it" };
    let (dir, tmp) = (quoted(work_tree), quoted(&temporary));
    Err(Failure::new(format!(
        "Git LFS would remove the files in {}, its directory of temporary files: {why}",
        one_line(&temporary.display().to_string())
    ))
    .with_hint(format!(
        "to see them: ls -lR {tmp}\nto see the setting: git -C {dir} config --show-origin --get-all lfs.storage\n\
         if you chose it, remove the files; otherwise remove the setting or the link"
    ))
    .into())
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
    // A signing key may have a passphrase.
    let Output { status, stdout, stderr } = git.output_with_terminal().context("failed to run git")?;
    let stderr = without_progress(&String::from_utf8_lossy(&stderr));
    let (stdout, stderr) = (printable(&String::from_utf8_lossy(&stdout)), printable(&stderr));
    let (missing, stderr) = without_downloads(&stderr);
    if missing > 0 {
        let files = count(missing, "Git LFS file");
        note(&format!("notice: the contents of {files} are missing; to download them: git lfs pull"));
    }
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

/// Returns the number of files that Git LFS did not download, and git's messages without those about them.
fn without_downloads(messages: &str) -> (usize, String) {
    let missing = messages.lines().filter(|line| line.starts_with(NO_DOWNLOAD[0])).count();
    if missing == 0 {
        return (0, messages.to_owned());
    }
    let others = messages.lines().filter(|line| !NO_DOWNLOAD.iter().any(|start| line.starts_with(start)));
    (missing, others.map(|line| format!("{line}\n")).collect())
}

/// Returns git's messages without progress, which git also writes where there is no terminal.
fn without_progress(messages: &str) -> String {
    let lines = messages.lines().filter_map(|line| line.rsplit('\r').next());
    lines.filter(|line| !line.starts_with(PROGRESS)).map(|line| format!("{line}\n")).collect()
}
