//! What only a workspace's repository has.

use std::collections::BTreeSet;

use super::contents::Contents;
use super::listed_refs::Reference;
use super::view::View;

/// What only the workspace has.
pub struct Unsaved {
    /// The workspace's repository.
    pub view: View,
    /// Its references.
    pub references: Vec<Reference>,
    /// Commits that the source repository lacks, including those that no reference reaches.
    pub commits: Vec<String>,
    /// Number of references to tags, trees and blobs that the source repository has no reference to.
    pub others: usize,
    /// Tag objects that no reference reaches and that the source repository has no reference to.
    pub tags: Vec<String>,
    /// Files that differ from every commit.
    pub files: Vec<Vec<u8>>,
    /// Number of objects that the source repository's own history needs and only the workspace has: the source is damaged.
    pub holes: usize,
}

impl Unsaved {
    /// Returns whether the source repository has everything.
    pub(super) fn is_empty(&self) -> bool {
        self.commits.is_empty() && self.others == 0 && self.files.is_empty() && self.holes == 0
    }

    /// Counts what only the workspace has.
    #[must_use]
    pub fn contents(&self) -> Contents {
        let commits: BTreeSet<_> = self.commits.iter().collect();
        let is_new = |name: &[u8], exact: bool| {
            let matching = self.references.iter().filter(move |one| match exact {
                true => one.name == name,
                false => one.name.starts_with(name),
            });
            matching.filter(|one| commits.contains(&one.object)).count()
        };
        let older =
            if is_new(b"refs/stash", true) > 0 { self.view.older_stashes().unwrap_or_default() } else { Vec::new() };
        Contents {
            commits: self.commits.len(),
            stashes: is_new(b"refs/stash", true) + older.iter().filter(|commit| commits.contains(commit)).count(),
            notes: is_new(b"refs/notes/", false),
            tags: self.others,
            changed_files: self.files.len(),
            missing_in_source: self.holes,
        }
    }
}
