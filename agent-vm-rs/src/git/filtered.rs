//! Finds files that a filter wrote and that did not change since. Git compares the contents of files that are as new as the
//! index, as after a clone. Filters (`filter.*`) do not run here, so what they wrote would count as changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::lfs::pointers;
use crate::host::files::beneath;
use crate::host::interrupt::{self, Deadline, Until};
use crate::host::process::Invocation;

/// Longest time for reading large files.
const LONGEST: Duration = Duration::from_secs(10);

/// What the index says about a file.
struct Entry {
    id: String,
    /// Time of the last change of the contents, and of the file's state: seconds and nanoseconds.
    mtime: (u64, u64),
    ctime: (u64, u64),
    inode: u64,
    size: u64,
}

impl Entry {
    /// Returns whether the file is the one that git looked at when it wrote the entry. The index has 32 bits of each number.
    fn is(&self, file: &Metadata) -> bool {
        let low = |number: u64| number & u64::from(u32::MAX);
        self.mtime == (low(file.mtime().cast_unsigned()), file.mtime_nsec().cast_unsigned())
            && self.ctime == (low(file.ctime().cast_unsigned()), file.ctime_nsec().cast_unsigned())
            && self.inode == low(file.ino())
            && self.size == low(file.size())
    }
}

/// Returns those of the `paths`, whose contents differ from the index, that nobody changed since git wrote `index`. `git` is a
/// call on the work tree `tree`.
///
/// # Errors
/// Git fails, or a signal arrived.
pub(super) fn unchanged<'a>(
    git: &Invocation,
    tree: &Path,
    index: &Path,
    paths: &BTreeSet<&'a [u8]>,
) -> Result<BTreeSet<&'a [u8]>> {
    let Some(written) = index.metadata().ok().filter(|_| !paths.is_empty()) else { return Ok(BTreeSet::new()) };
    let written = (written.mtime(), written.mtime_nsec());
    let root = File::open(tree).with_context(|| format!("failed to open {}", tree.display()))?;
    let filters = filters(git, paths)?;
    let listed = git.clone().args(["ls-files", "--stage", "--debug", "-z"]).checked();
    let listed = listed.context("failed to list files with git")?.stdout;
    let (mut found, mut large) = (BTreeSet::new(), Vec::new());
    for (path, entry) in entries(&listed) {
        let Some(path) = paths.get(path).copied() else { continue };
        let Some(file) = beneath::open_file(&root, OsStr::from_bytes(path).as_ref()) else { continue };
        let metadata = file.metadata().with_context(|| format!("failed to look at a file of {}", tree.display()))?;
        let at = (metadata.mtime(), metadata.mtime_nsec());
        // Git writes the index at once after the last file, so the clock, which advances every few milliseconds, may say the
        // same. A file system may count only seconds.
        let is_before = at < written || (at == written && at.1 != 0 && filters.contains_key(path));
        if is_before && entry.is(&metadata) {
            found.insert(path);
        } else if filters.get(path).is_some_and(|filter| *filter == "lfs") {
            large.push((path, entry.id, file));
        }
    }
    let ids: String = large.iter().map(|(_, id, _)| format!("{id}\n")).collect();
    let pointers = pointers(ids.as_bytes(), || git.clone(), |git| Ok(git.checked()?.stdout))?;
    let mut until = Until(Deadline::after(LONGEST));
    for (path, id, file) in large {
        let Some(pointer) = pointers.get(&id) else { continue };
        if file.metadata().is_ok_and(|found| found.len() == pointer.size)
            && pointer.copy(&file, &mut until).unwrap_or(false)
        {
            found.insert(path);
        }
        interrupt::check()?;
    }
    Ok(found)
}

/// Returns the filters of files that have one.
fn filters<'a>(git: &Invocation, paths: &BTreeSet<&'a [u8]>) -> Result<BTreeMap<&'a [u8], String>> {
    let list: Vec<u8> = paths.iter().flat_map(|path| [path, &b"\0"[..]].concat()).collect();
    let check = git.clone().args(["check-attr", "-z", "--stdin", "filter"]).stdin(list);
    let printed = check.checked().context("failed to read the attributes of files")?.stdout;
    // Each entry has a path, the attribute and its value: gitattributes(5).
    let fields: Vec<_> = printed.split(|byte| *byte == 0).collect();
    let named = fields.chunks_exact(3).filter(|entry| !matches!(entry[2], b"unspecified" | b"unset" | b"set"));
    let named = named.filter_map(|entry| Some((*paths.get(entry[0])?, String::from_utf8_lossy(entry[2]).into_owned())));
    Ok(named.collect())
}

/// Returns the entries that `git ls-files --stage --debug -z` printed, without those in conflict: `MODE ID STAGE`, a tab, the
/// path, a zero byte, and five lines of names and numbers.
fn entries(printed: &[u8]) -> impl Iterator<Item = (&[u8], Entry)> {
    let mut rest = printed;
    std::iter::from_fn(move || {
        let (head, after) = rest.split_at_checked(rest.iter().position(|byte| *byte == 0)?)?;
        let lines = after.get(1..)?;
        let end = lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(4)?.0;
        rest = &lines[end + 1..];
        Some(entry(head, &lines[..end]))
    })
    .flatten()
}

fn entry<'a>(head: &'a [u8], lines: &[u8]) -> Option<(&'a [u8], Entry)> {
    let (facts, path) = head.split_at_checked(head.iter().position(|byte| *byte == b'\t')?)?;
    let id = std::str::from_utf8(facts.strip_suffix(b" 0")?).ok()?.split_once(' ')?.1.to_owned();
    let lines = std::str::from_utf8(lines).ok()?;
    let value = |key: &str| Some(lines.split_once(key)?.1.split_whitespace().next()?.to_owned());
    let number = |key| value(key)?.parse().ok();
    let time = |key| {
        let value = value(key)?;
        let (seconds, nanoseconds) = value.split_once(':')?;
        Some((seconds.parse().ok()?, nanoseconds.parse().ok()?))
    };
    let (mtime, ctime) = (time("mtime:")?, time("ctime:")?);
    Some((&path[1..], Entry { id, mtime, ctime, inode: number("ino:")?, size: number("size:")? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_the_index_are_read() {
        let entry = |stage: u8, path: &str| {
            format!(
                "100644 aa{stage} {stage}\t{path}\0  ctime: 5:6\n  mtime: 3:4\n  dev: 1\tino: 7\n  uid: 0\tgid: 0\n  size: 8\tflags: 0\n"
            )
        };
        let printed = [entry(0, "a\nsize: 9"), entry(1, "b"), entry(0, "c")].concat();
        let found: Vec<_> = entries(printed.as_bytes()).collect();
        assert_eq!(found.iter().map(|(path, _)| *path).collect::<Vec<_>>(), [&b"a\nsize: 9"[..], b"c"]);
        let first = &found[0].1;
        assert_eq!(
            (first.id.as_str(), first.mtime, first.ctime, first.inode, first.size),
            ("aa0", (3, 4), (5, 6), 7, 8)
        );
    }
}
