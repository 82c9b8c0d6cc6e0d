//! Gives a new workspace the contents of its LFS files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::index::record;
use super::pointer::{MAX_POINTER, Pointer};
use super::store::{Copied, has};
use crate::git::call::git_in;
use crate::git::discover::Place;
use crate::host::files::beneath;
use crate::host::interrupt;
use crate::term::progress::{self, note};
use crate::term::text::count;

/// Puts the contents that the source repository has in the place of a new work tree's pointers, and into the store of its git
/// directory, and prints how many are missing. The caller syncs the workspace.
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
                placed.push(path);
            }
        }
        refresh(&placed, &tree, git_dir)?;
        Ok(files.len() - placed.len())
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

/// Copies the contents of a pointer into the store, which is not synced yet, and from there to the pointer's place in the work tree. Returns false if the
/// source lacks them.
fn place(path: &Path, pointer: &Pointer, tree: &File, source: &File, git_dir: &File) -> Result<bool> {
    if !has(git_dir, pointer) {
        let Some(contents) = beneath::open_file(source, &pointer.path()).filter(|_| has(source, pointer)) else {
            return Ok(false);
        };
        let Some(copied) = Copied::new(pointer, &contents, git_dir)? else { return Ok(false) };
        copied.place(git_dir)?;
    }
    let failed = || format!("failed to write {}", path.display());
    let contents = beneath::open_file(git_dir, &pointer.path()).with_context(failed)?;
    beneath::replace(tree, path, contents).with_context(failed)?;
    Ok(true)
}

/// Writes the sizes and times of the files into the index, so that they count as unchanged. Git itself would run a filter for
/// each file.
fn refresh(paths: &[&PathBuf], tree: &File, git_dir: &Path) -> Result<()> {
    let failed = "failed to record Git LFS files";
    let metadata = |path: &&PathBuf| Some(beneath::open_file(tree, path)?.metadata());
    let found = paths.iter().filter_map(|path| Some((path.as_os_str().as_bytes().to_vec(), metadata(path)?)));
    let found = found.map(|(path, metadata)| Ok((path, metadata?))).collect::<std::io::Result<BTreeMap<_, _>>>();
    let path = git_dir.join("index");
    let mut index = fs::read(&path).context(failed)?;
    record(&mut index, &found.context(failed)?).context("git wrote an index of an unknown format").context(failed)?;
    fs::write(&path, index).context(failed)
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
