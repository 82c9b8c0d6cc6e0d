//! Gives a new workspace the contents of its LFS files.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::pointer::{MAX_POINTER, Pointer};
use super::store::{has, keep};
use crate::git::call::{LONGEST_COPY, NO_SYNC, git_in};
use crate::git::discover::Place;
use crate::host::files::beneath;
use crate::host::interrupt;
use crate::term::progress::{self, note};
use crate::term::text::count;

/// Puts the contents that the source repository has in the place of a new work tree's pointers, and into the store of its git
/// directory, and prints how many are missing.
///
/// # Errors
/// The work tree cannot be listed, or the workspace cannot be written.
pub fn check_out(source: &Place, work_tree: &Path, git_dir: &Path, scratch: &Path) -> Result<()> {
    let failed = |path: &Path| format!("failed to open {}", path.display());
    let tree = File::open(work_tree).with_context(|| failed(work_tree))?;
    let files = pointers(work_tree, &tree, scratch)?;
    if files.is_empty() {
        return Ok(());
    }
    let from = File::open(&source.common_dir).with_context(|| failed(&source.common_dir))?;
    let to = File::open(git_dir).with_context(|| failed(git_dir))?;
    let missing = progress::step("copying Git LFS files", || {
        let mut placed = Vec::new();
        for (path, pointer) in &files {
            interrupt::check()?;
            if place(path, pointer, &tree, &from, &to)? {
                placed.extend([path.as_os_str().as_bytes(), b"\0"].concat());
            }
        }
        let placed_files = placed.iter().filter(|byte| **byte == 0).count();
        refresh(work_tree, placed, scratch)?;
        Ok(files.len() - placed_files)
    })?;
    if missing == 0 {
        note(&format!("{} copied with the contents", count(files.len(), "Git LFS file")));
    } else {
        note(&format!(
            "{missing} of {} Git LFS files stay pointers: {} lacks their contents (run git lfs fetch before agent-vm create)",
            files.len(),
            source.common_dir.join("lfs").display()
        ));
    }
    Ok(())
}

/// Copies the contents of a pointer into the store, and from there to the pointer's place in the work tree. Returns false if the
/// source lacks them.
fn place(path: &Path, pointer: &Pointer, tree: &File, source: &File, git_dir: &File) -> Result<bool> {
    if !has(git_dir, pointer) {
        let Some(contents) = beneath::open_file(source, &pointer.path()).filter(|_| has(source, pointer)) else {
            return Ok(false);
        };
        if !keep(pointer, &contents, git_dir)? {
            return Ok(false);
        }
    }
    let failed = || format!("failed to write {}", path.display());
    let contents = beneath::open_file(git_dir, &pointer.path()).with_context(failed)?;
    beneath::replace(tree, path, contents).with_context(failed)?;
    Ok(true)
}

/// Writes the sizes and times of the files into the index, so that they count as unchanged. Git gets the files' pointers from a
/// filter that answers with what the index has.
fn refresh(work_tree: &Path, paths: Vec<u8>, scratch: &Path) -> Result<()> {
    let filter = ["-c", "filter.lfs.clean=git cat-file blob :0:%f", "-c", "filter.lfs.required=true"];
    let refresh = git_in(work_tree).args(NO_SYNC).args(filter).args(["update-index", "-z", "--stdin"]).stdin(paths);
    let refresh = refresh.of_machine(scratch).time_limit(LONGEST_COPY);
    refresh.checked().context("failed to record Git LFS files").map(drop)
}

/// Returns the files that have the attribute `filter=lfs` and are pointers.
fn pointers(work_tree: &Path, tree: &File, scratch: &Path) -> Result<Vec<(PathBuf, Pointer)>> {
    // Most repositories use no LFS attribute; skip the slow listing for them.
    let attributes =
        git_in(work_tree).args(["grep", "--cached", "--quiet", "-F", "filter=lfs"]).args(["--", ".gitattributes"]);
    let attributes =
        attributes.args([":(glob)**/.gitattributes"]).env("GIT_LITERAL_PATHSPECS", "0").of_machine(scratch);
    if !attributes.output()?.status.success() {
        return Ok(Vec::new());
    }
    let list = git_in(work_tree).args(["ls-files", "-z", "--", ":(attr:filter=lfs)"]).env("GIT_LITERAL_PATHSPECS", "0");
    let printed = list.of_machine(scratch).checked().context("failed to list Git LFS files")?.stdout;
    let paths = printed.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    let pointer = |path: &[u8]| {
        let path = PathBuf::from(OsStr::from_bytes(path));
        let mut bytes = Vec::new();
        beneath::open_file(tree, &path)?.take(MAX_POINTER).read_to_end(&mut bytes).ok()?;
        Some((path, Pointer::parse(&bytes)?))
    };
    Ok(paths.filter_map(pointer).collect())
}
