//! Finds pointers among objects.

use std::collections::BTreeMap;

use anyhow::Result;

use super::pointer::{MAX_POINTER, Pointer};
use crate::host::process::Invocation;

/// Smallest pointer file, in bytes: the version line and the hash.
const MIN_POINTER: u64 = 100;

/// Returns the pointers among the objects `ids`, one on each line, with their ids. `ask` runs a call of `git`, which reads the
/// repository, and returns its output.
///
/// # Errors
/// Git fails.
pub fn pointers(
    ids: &[u8],
    git: impl Fn() -> Invocation,
    ask: impl Fn(&Invocation) -> Result<Vec<u8>>,
) -> Result<BTreeMap<String, Pointer>> {
    parsed(ids, git, ask, Pointer::parse)
}

/// Returns what `parse` makes of the objects `ids` that are as small as pointers, as [`pointers`] does.
///
/// # Errors
/// Git fails.
pub fn parsed(
    ids: &[u8],
    git: impl Fn() -> Invocation,
    ask: impl Fn(&Invocation) -> Result<Vec<u8>>,
    parse: impl Fn(&[u8]) -> Option<Pointer>,
) -> Result<BTreeMap<String, Pointer>> {
    let check = ["cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)"];
    let facts = ask(&git().args(check).stdin(ids.to_vec()))?;
    let facts = String::from_utf8_lossy(&facts);
    let is_small = |size: &str| size.parse().is_ok_and(|size| (MIN_POINTER..=MAX_POINTER).contains(&size));
    let small = facts.lines().filter_map(|line| line.split_once(" blob ").filter(|(_, size)| is_small(size)));
    let small: String = small.map(|(id, _)| format!("{id}\n")).collect();
    if small.is_empty() {
        return Ok(BTreeMap::new());
    }
    let contents = ask(&git().args(["cat-file", "--batch"]).stdin(small))?;
    Ok(objects(&contents).filter_map(|(id, bytes)| Some((id.to_owned(), parse(bytes)?))).collect())
}

/// Returns the ids and contents of the output of `git cat-file --batch`: a line `ID TYPE SIZE`, the contents and a line break.
fn objects(mut output: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    std::iter::from_fn(move || {
        let (line, rest) = output.split_at_checked(output.iter().position(|byte| *byte == b'\n')?)?;
        let line = std::str::from_utf8(line).ok()?;
        let size: usize = line.rsplit_once(' ')?.1.parse().ok()?;
        let (bytes, rest) = rest[1..].split_at_checked(size)?;
        output = rest.get(1..)?;
        Some((line.split_once(' ')?.0, bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_with_line_breaks_are_told_apart() {
        let output = b"aa blob 4\na\nb\n\nbb blob 0\n\ncc blob 1\nx\n";
        let found: Vec<_> = objects(output).collect();
        assert_eq!(found, [("aa", &b"a\nb\n"[..]), ("bb", b""), ("cc", b"x")]);
        assert_eq!(objects(b"aa blob 9\nshort\n").count(), 0);
    }
}
