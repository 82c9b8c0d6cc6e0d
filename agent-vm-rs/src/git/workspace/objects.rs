//! Lists the objects in a workspace's own store, and counts the holes in its source that they fill.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use anyhow::Result;

use super::git_failure::{Unreadable, ask, is_unreadable};
use super::refs::shown;
use super::view::{MAX_OUTPUT, View};

/// Number of the source's objects, and the size of their contents in bytes, that git reads to find damage.
const MOST_READ: usize = 100_000;
const MOST_BYTES_READ: u64 = 128 << 20;

/// Returns the store's own commits and all its tag objects, including those that no reference reaches, and the number of the
/// source's holes that it fills.
///
/// # Errors
/// [`Unreadable`] if git cannot read every object; other errors are failures of the host.
pub(super) fn objects(view: &View) -> Result<(Vec<String>, Vec<String>, usize)> {
    let list = view.git(None).args(["cat-file", "--batch-all-objects", "--unordered"]);
    let list = list.arg("--batch-check=%(objecttype) %(objectname)");
    // The view's store also borrows from the source repository; here only the guest's store counts.
    let list = list.env("GIT_OBJECT_DIRECTORY", view.git_dir().join("guest-objects"));
    let Output { stdout: all, stderr, .. } = ask(&list, MAX_OUTPUT)?;
    // Git skips a pack that it cannot open, and prints "missing" for an object that it cannot read.
    let words = String::from_utf8_lossy(&stderr);
    if let Some(error) = words.lines().find(|line| line.starts_with("error: ")) {
        return Err(Unreadable(error.to_owned()).into());
    }
    if let Some(missing) = all.split(|byte| *byte == b'\n').find(|line| line.ends_with(b" missing")) {
        return Err(Unreadable(format!("the object {} is damaged", shown(&missing[..missing.len() - 8]))).into());
    }
    let of_kind = |kind: &'static [u8]| {
        let lines = all.split(|byte| *byte == b'\n').filter_map(move |line| line.strip_prefix(kind));
        lines.map(|id| String::from_utf8_lossy(id).into_owned())
    };
    let safe = view.safe.iter().map(|tip| format!("^{tip}\n"));
    let tips: String = of_kind(b"commit ").map(|commit| commit + "\n").chain(safe).collect();
    let own = view.ask(&view.git(None).args(["rev-list", "--all", "--stdin"]).stdin(tips))?;
    let own: Vec<_> = String::from_utf8_lossy(&own).lines().map(str::to_owned).collect();
    let ids: String = of_kind(b"").filter_map(|line| Some(line.split_once(' ')?.1.to_owned() + "\n")).collect();
    let holes = holes(view, ids, &own)?;
    Ok((own, of_kind(b"tag ").collect(), holes))
}

/// Returns how many of the objects `ids` the source repository lacks although its own references reach them, or one if
/// it has a damaged one.
fn holes(view: &View, ids: String, own: &[String]) -> Result<usize> {
    let Some(source) = &view.source_objects() else { return Ok(0) };
    // Git reads an object for its type; without it, an empty file would count as the object.
    let check = ["cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)"];
    let checked = view.ask(&view.git(None).args(check).stdin(ids).env("GIT_OBJECT_DIRECTORY", source))?;
    let checked = String::from_utf8_lossy(&checked);
    if is_damaged(view, source, &checked)? {
        return Ok(1);
    }
    let mut lacking: BTreeSet<_> = checked.lines().filter_map(|line| line.strip_suffix(" missing")).collect();
    if lacking.is_empty() {
        return Ok(0);
    }
    let reached = |tips: String| {
        let list = ["rev-list", "--objects", "--no-object-names", "--missing=allow-any", "--stdin"];
        view.ask(&view.git(None).args(list).stdin(tips)).map(|listed| String::from_utf8_lossy(&listed).into_owned())
    };
    // New work is complete in the workspace. It is subtracted first, because the source's whole history may be long.
    let safe = || view.safe.iter().map(|tip| format!("{tip}\n"));
    let new = reached(own.iter().map(|tip| format!("{tip}\n")).chain(safe().map(|tip| format!("^{tip}"))).collect())?;
    let new: BTreeSet<_> = new.lines().collect();
    lacking.retain(|id| !new.contains(id));
    if lacking.is_empty() {
        return Ok(0);
    }
    Ok(reached(safe().collect())?.lines().filter(|id| lacking.contains(id)).count())
}

/// Returns whether the source repository has a damaged object among those that `tips` reach. Git reads the newest.
pub(super) fn is_damaged_in_source(view: &View, tips: &[&str]) -> Result<bool> {
    let Some(source) = &view.source_objects() else { return Ok(false) };
    let tips: String = tips.iter().map(|tip| format!("{tip}\n")).collect();
    let list = ["rev-list", "--objects", "--no-object-names", "--in-commit-order", "--stdin"];
    let ids = view.ask(&view.git(None).args(list).stdin(tips))?;
    let check = ["cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)"];
    let check = view.git(None).args(check).stdin(ids).env("GIT_OBJECT_DIRECTORY", source);
    match view.ask(&check) {
        Ok(checked) => {
            let checked = String::from_utf8_lossy(&checked);
            // Git prints this also for an object whose beginning it cannot read.
            Ok(checked.lines().any(|line| line.ends_with(" missing")) || is_damaged(view, source, &checked)?)
        }
        Err(error) if is_unreadable(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Returns whether the source repository has a damaged object among those of `checked`, the lines `ID TYPE SIZE` of git. Git
/// reads as many as a short time allows.
fn is_damaged(view: &View, source: &Path, checked: &str) -> Result<bool> {
    let mut bytes = 0_u64;
    let mut ids = String::new();
    for line in checked.lines().take(MOST_READ) {
        let mut words = line.split(' ');
        let (Some(id), Some(size)) = (words.next(), words.nth(1).and_then(|size| size.parse::<u64>().ok())) else {
            continue;
        };
        if bytes.saturating_add(size) <= MOST_BYTES_READ {
            bytes += size;
            ids.extend([id, "\n"]);
        }
    }
    let read = view.git(None).args(["cat-file", "--batch", "--buffer"]).stdin(ids);
    match ask(&read.env("GIT_OBJECT_DIRECTORY", source), MAX_OUTPUT) {
        Ok(_) => Ok(false),
        Err(error) if is_unreadable(&error) => Ok(true),
        Err(error) => Err(error),
    }
}
