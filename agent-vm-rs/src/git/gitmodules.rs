//! Reads `.gitmodules`. The file is part of the repository, so every path and name in it may be hostile.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::config::Config;
use crate::host::process::Invocation;

/// Largest number of submodules that are cloned; further ones stay empty.
pub const MOST: usize = 1000;

/// Deepest nesting of submodules that is followed.
pub const DEEPEST: usize = 10;

/// Mode of a submodule (gitlink) in trees and indexes.
const GITLINK: &str = "160000";

/// A submodule's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name; `modules/NAME` is its git directory.
    pub name: String,
    /// Its path in the work tree.
    pub path: String,
    /// Its URL, which may be relative.
    pub url: Option<String>,
    /// Why it is not cloned; None if it may be.
    pub refused: Option<&'static str>,
}

/// Returns the entries of a `.gitmodules` file, in its order.
#[must_use]
pub fn entries(gitmodules: &Config) -> Vec<Entry> {
    let all: Vec<(&str, &str)> = gitmodules.values("submodule", "path").collect();
    let twice = |is_it: &dyn Fn(&(&str, &str)) -> bool| all.iter().filter(|entry| is_it(entry)).count() > 1;
    let entry = |(number, (name, path)): (usize, &(&str, &str))| {
        let refused = if number >= MOST {
            Some("the repository has too many submodules")
        } else if [name, path].iter().any(|text| text.contains([char::REPLACEMENT_CHARACTER, '\n'])) {
            Some("its name or path is not valid UTF-8 or has a newline")
        } else if !stays_below(path) || has_git(path) {
            Some("its path is not below the work tree")
        } else if !stays_below(name) {
            Some("its name is not below the git directory")
        } else if twice(&|(_, other)| other == path) {
            Some("another submodule has the same path")
        } else if twice(&|(other, _)| other == name) {
            Some("another submodule has the same name")
        } else if all.iter().any(|(other, _)| is_inside(name, other)) {
            Some("its git directory would be inside another submodule's")
        } else {
            None
        };
        let url = gitmodules.get(&format!("submodule.{name}.url")).map(str::to_owned);
        Entry { name: (*name).to_owned(), path: (*path).to_owned(), url, refused }
    };
    all.iter().enumerate().map(entry).collect()
}

/// Returns the entries of the `.gitmodules` of a commit; none if it has no such file.
///
/// # Errors
/// Git cannot read the file.
pub fn of_commit(git: impl Fn() -> Invocation, commit: &str) -> Result<Vec<Entry>> {
    let file = format!("{commit}:.gitmodules");
    if !git().args(["cat-file", "-e", &file]).output()?.status.success() {
        return Ok(Vec::new());
    }
    let list = git().args(["config", "--no-includes", "--null", "--list", "--blob", &file]).checked()?;
    Ok(entries(&Config::parse(&list.stdout)))
}

/// Returns the gitlinks at the paths of `entries`, with their commits, from the output of `ls-tree` or `ls-files --stage`.
///
/// # Errors
/// Git fails.
pub fn gitlinks(git: Invocation, list: &[&str], entries: &[Entry]) -> Result<BTreeMap<String, String>> {
    let paths: Vec<_> = entries.iter().filter(|entry| entry.refused.is_none()).map(|entry| &entry.path).collect();
    if paths.is_empty() {
        return Ok(BTreeMap::new());
    }
    let output = git.args(list).arg("--").args(paths).checked().context("failed to list the submodules")?;
    let link = |entry: &str| {
        let (facts, path) = entry.split_once('\t')?;
        let words: Vec<_> = facts.split(' ').collect();
        // ls-tree prints mode, type, id; ls-files prints mode, id, stage.
        let id = words.iter().skip(1).find(|word| matches!(word.len(), 40 | 64))?;
        (words.first() == Some(&GITLINK)).then(|| (path.to_owned(), (*id).to_owned()))
    };
    Ok(String::from_utf8_lossy(&output.stdout).split('\0').filter_map(link).collect())
}

/// Returns whether a path stays below its directory and cannot be taken for an option.
fn stays_below(path: &str) -> bool {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    // Git splits names at both separators.
    path.split(['/', '\\']).all(is_plain) && !path.starts_with('-') && !path.contains('\0')
}

/// Returns whether a submodule of this name has its git directory in that of another one.
fn is_inside(name: &str, other: &str) -> bool {
    name.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'))
}

fn has_git(path: &str) -> bool {
    path.split('/').any(|part| part.eq_ignore_ascii_case(".git"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(entries: &[(&str, &str)]) -> Vec<Option<&'static str>> {
        let printed: String = entries
            .iter()
            .map(|(name, path)| format!("submodule.{name}.path\n{path}\0submodule.{name}.url\nx\0"))
            .collect();
        super::entries(&Config::parse(printed.as_bytes())).into_iter().map(|entry| entry.refused).collect()
    }

    #[test]
    fn unsafe_paths_and_names_are_refused() {
        for path in ["../x", ".", "..", "", "/abs", "a/../b", "a//b", "a/", "./a", ".git", ".git/x", "a/.GIT/b", "-x"] {
            assert!(refused(&[("n", path)])[0].is_some(), "{path:?}");
        }
        for name in ["..", "../x", "a/../b", "a\\..\\b", "/a", "-x", "a//b"] {
            assert!(refused(&[(name, "p")])[0].is_some(), "{name:?}");
        }
        assert!(refused(&[("caf\u{fffd}", "p")])[0].is_some());
        assert!(["caf\u{fffd}", "a\nb"].iter().all(|path| refused(&[("n", path)])[0].is_some()));
        assert!(matches!(refused(&[("a", "p"), ("a/b", "q"), ("ab", "r")])[..], [None, Some(_), None]));
        for ordinary in ["a", "libs/the sub", "ü/ø", "a.b", "a.path", "...", "$(id)", "a=b", "x.git"] {
            assert_eq!(refused(&[(ordinary, ordinary)]), [None], "{ordinary:?}");
        }
    }

    #[test]
    fn duplicates_are_refused() {
        assert!(refused(&[("a", "p"), ("b", "p")]).iter().all(Option::is_some));
        assert!(refused(&[("a", "p"), ("a", "q")]).iter().all(Option::is_some));
        assert_eq!(refused(&[("a", "p"), ("b", "q")]), [None, None]);
    }

    #[test]
    fn their_number_is_bounded() {
        let many: Vec<_> = (0..=MOST).map(|number| (format!("n{number}"), format!("p{number}"))).collect();
        let many: Vec<_> = many.iter().map(|(name, path)| (name.as_str(), path.as_str())).collect();
        let refused = refused(&many);
        assert_eq!((refused[MOST - 1], refused[MOST].is_some()), (None, true));
    }
}
