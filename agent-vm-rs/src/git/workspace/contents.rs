//! What only a workspace has, as numbers.

use serde::{Deserialize, Serialize};

use crate::term::text::count;

/// Numbers of things that a source repository lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Contents {
    /// Commits, including those of stashes and notes.
    pub commits: usize,
    /// Stash entries.
    pub stashes: usize,
    /// References to notes.
    pub notes: usize,
    /// Tags, and references to trees and blobs.
    pub tags: usize,
    /// Changed and untracked files.
    pub changed_files: usize,
    /// Objects that the damaged source repository lacks.
    pub missing_in_source: usize,
}

impl Contents {
    /// Returns whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns a summary such as `3 commits and 1 changed file`; empty if there is nothing.
    #[must_use]
    pub fn describe(&self) -> String {
        let all = [
            (self.commits, "commit"),
            (self.stashes, "stashed change"),
            (self.notes, "notes reference"),
            (self.tags, "tag"),
            (self.changed_files, "changed file"),
            (self.missing_in_source, "object missing in its damaged source"),
        ];
        let parts: Vec<_> =
            all.iter().filter(|(number, _)| *number > 0).map(|(number, thing)| count(*number, thing)).collect();
        match parts.as_slice() {
            [rest @ .., last] if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
            parts => parts.concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_is_named() {
        let some = Contents { commits: 5, stashes: 2, notes: 1, changed_files: 1, ..Contents::default() };
        assert_eq!(some.describe(), "5 commits, 2 stashed changes, 1 notes reference and 1 changed file");
        assert_eq!(Contents { commits: 1, ..Contents::default() }.describe(), "1 commit");
        assert!(Contents::default().is_empty() && Contents::default().describe().is_empty());
    }
}
