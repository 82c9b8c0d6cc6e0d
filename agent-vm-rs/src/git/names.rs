//! What shell completion shows of a repository. Reads files only: it runs no git, except to read the configuration of a
//! repository whose git directory is elsewhere, and writes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::discover::discover;
use crate::host::files::{has_dir, plain};
use crate::machine::branch::BranchName;

/// Largest `packed-refs` that is read, in bytes.
const MAX_PACKED: u64 = 1 << 20;
/// Most files and directories below `refs/heads` that are looked at.
const MAX_LOOSE: usize = 2_000;

/// Returns the directory that identifies the repository of `cwd`, as [`super::Source::dir`]; None if there is none or it is
/// refused.
#[must_use]
pub fn source_dir(cwd: &Path) -> Option<PathBuf> {
    Some(discover(cwd).ok()??.source_dir())
}

/// Returns the branches of the repository of `cwd` that begin with `typed`, sorted; none if its references are in tables.
#[must_use]
pub fn branches(cwd: &Path, typed: &str) -> Vec<BranchName> {
    let Ok(Some(place)) = discover(cwd) else { return Vec::new() };
    let mut names = packed(&place.common_dir.join("packed-refs"));
    loose(&place.common_dir.join("refs/heads"), "", &mut MAX_LOOSE.clone(), &mut names);
    names.into_iter().filter(|name| name.starts_with(typed)).filter_map(|name| name.parse().ok()).collect()
}

/// Returns the branches in a file of packed references: lines `ID refs/heads/NAME`.
fn packed(path: &Path) -> BTreeSet<String> {
    let bytes = plain::read(path, MAX_PACKED).ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.lines().filter_map(|line| line.split_once(" refs/heads/")).map(|(_, name)| name.to_owned()).collect()
}

/// Adds the branches that have files of their own, without following links, until `left` entries have been seen.
fn loose(dir: &Path, prefix: &str, left: &mut usize, names: &mut BTreeSet<String>) {
    if !has_dir(dir).unwrap_or(false) {
        return;
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Some(rest) = left.checked_sub(1) else { return };
        *left = rest;
        let (Ok(kind), Ok(name)) = (entry.file_type(), entry.file_name().into_string()) else { continue };
        let name = format!("{prefix}{name}");
        if kind.is_dir() {
            loose(&entry.path(), &format!("{name}/"), left, names);
        } else if kind.is_file() && !name.ends_with(".lock") {
            names.insert(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path, typed: &str) -> Vec<String> {
        branches(dir, typed).iter().map(ToString::to_string).collect()
    }

    /// Returns a repository without git's help, with one packed and some loose branches.
    fn repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for part in ["objects", "refs/heads/feature", "refs/tags"] {
            fs::create_dir_all(dir.path().join(".git").join(part)).unwrap();
        }
        for (file, text) in [
            ("HEAD", "ref: refs/heads/main\n"),
            (
                "packed-refs",
                "# pack-refs with: peeled\n1234 refs/heads/packed\n^5678\n1234 refs/tags/v1\n1234 refs/heads/main\n",
            ),
            ("refs/heads/main", "1234\n"),
            ("refs/heads/main.lock", ""),
            ("refs/heads/feature/x", "1234\n"),
        ] {
            fs::write(dir.path().join(".git").join(file), text).unwrap();
        }
        dir
    }

    #[test]
    fn packed_and_loose_branches_are_listed_once() {
        let dir = repository();
        assert_eq!(names(dir.path(), ""), ["feature/x", "main", "packed"]);
        assert_eq!(names(dir.path(), "fea"), ["feature/x"]);
        assert_eq!(source_dir(&dir.path().join(".git/refs")).unwrap(), dir.path().canonicalize().unwrap());
    }

    #[test]
    fn links_and_large_files_are_left_out() {
        let dir = repository();
        let heads = dir.path().join(".git/refs/heads");
        std::os::unix::fs::symlink("/etc", heads.join("etc")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, heads.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(names(dir.path(), ""), ["feature/x", "main", "packed"]);
        let packed = fs::File::options().write(true).open(dir.path().join(".git/packed-refs")).unwrap();
        packed.set_len(MAX_PACKED + 1).unwrap();
        assert_eq!(names(dir.path(), ""), ["feature/x", "main"]);
        fs::rename(&heads, dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &heads).unwrap();
        assert!(names(dir.path(), "").is_empty());
    }

    #[test]
    fn a_bounded_number_of_loose_branches_is_looked_at() {
        let dir = repository();
        for number in 0..=MAX_LOOSE {
            fs::write(dir.path().join(format!(".git/refs/heads/b{number}")), "").unwrap();
        }
        let found = names(dir.path(), "b").len();
        assert!((MAX_LOOSE - 5..=MAX_LOOSE).contains(&found), "{found}");
    }
}
