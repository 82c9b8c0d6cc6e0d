//! The references of a remote repository: which branch to use, and how its tags become tags of the bare repository. Tags that
//! the user made there stay, and one that the remote moves or removes follows it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::call::git;
use super::refs::{self, collide};
use crate::host::process::Invocation;

/// The remote's tags, as they were fetched last.
pub const FETCHED: &str = "refs/agent-vm-url/new-tags/";
/// The remote's tags, as they became tags last.
const FOLLOWED: &str = "refs/agent-vm-url/tags/";
const TAGS: &str = "refs/tags/";

/// What `git ls-remote --symref REMOTE HEAD refs/heads/*` prints.
#[derive(Debug, PartialEq, Eq)]
pub struct Heads {
    /// The branch that HEAD leads to, or that has its commit.
    pub default: Option<String>,
    /// Whether ids are SHA-256.
    pub is_sha256: bool,
}

impl Heads {
    /// Parses lines of `ref: refs/heads/NAME<TAB>HEAD` and `ID<TAB>NAME`; None if there is no commit.
    #[must_use]
    pub fn parse(printed: &str) -> Option<Self> {
        let ids: Vec<_> = printed.lines().filter(|line| !line.starts_with("ref: ")).collect();
        let ids: Vec<_> = ids.iter().filter_map(|line| line.split_once('\t')).collect();
        let head = ids.iter().find(|(_, name)| *name == "HEAD").map(|(id, _)| *id);
        let branches = || ids.iter().filter_map(|(id, name)| Some((*id, name.strip_prefix("refs/heads/")?)));
        let symbolic = printed.lines().find_map(|line| line.strip_prefix("ref: refs/heads/")?.strip_suffix("\tHEAD"));
        // HEAD may be detached, or lead to a branch without commits.
        let default = symbolic.filter(|_| head.is_some());
        let default = default.or_else(|| branches().find(|(id, _)| Some(*id) == head).map(|(_, name)| name));
        Some(Self { default: default.map(str::to_owned), is_sha256: ids.first()?.0.len() == 64 })
    }
}

/// Makes tags of those that were fetched.
///
/// # Errors
/// Git fails.
pub fn follow_tags(dir: &Path) -> Result<()> {
    let named = |start: &str| -> Result<BTreeMap<String, String>> {
        let list = within(dir).args(["for-each-ref", refs::FORMAT]).arg(start).checked()?.stdout;
        let one = |one: refs::Ref| Some((String::from_utf8(one.name).ok()?.strip_prefix(start)?.to_owned(), one.id));
        Ok(refs::parse(&list).into_iter().filter_map(one).collect())
    };
    let (now, before, own) = (named(FETCHED)?, named(FOLLOWED)?, named(TAGS)?);
    // A tag is the remote's as long as it is what the remote had.
    let is_remotes = |name: &String| own.get(name).is_none_or(|own| Some(own) == before.get(name));
    let mut lines = String::new();
    for (name, old) in before.iter().filter(|(name, _)| !now.contains_key(*name)) {
        if own.get(name) == Some(old) {
            lines += &format!("delete {TAGS}{name} {old}\n");
        }
        lines += &format!("delete {FOLLOWED}{name} {old}\n");
    }
    update(dir, &lines)?;
    let stays = |name: &String| own.get(name).is_some_and(|id| now.contains_key(name) || before.get(name) != Some(id));
    let staying: Vec<_> = own.keys().filter(|name| stays(name)).collect();
    let mut lines = String::new();
    for (name, id) in now.iter().filter(|(name, _)| is_remotes(name)) {
        let blocked = || staying.iter().any(|other| collide(name.as_bytes(), other.as_bytes()));
        if (own.get(name), before.get(name)) != (Some(id), Some(id)) && !blocked() {
            let old = own.get(name).map_or_else(|| "0".repeat(id.len()), Clone::clone);
            lines += &format!("update {TAGS}{name} {id} {old}\nupdate {FOLLOWED}{name} {id}\n");
        }
    }
    update(dir, &lines)
}

fn update(dir: &Path, lines: &str) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    within(dir).args(["update-ref", "--stdin"]).stdin(lines).checked().context("failed to update tags").map(drop)
}

fn within(dir: &Path) -> Invocation {
    git().arg("--git-dir").arg(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_branch_is_read() {
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        let of = |printed: &str| Heads::parse(printed).map(|heads| heads.default);
        let branches = format!("{one}\trefs/heads/x\n{two}\trefs/heads/a/b\n");
        assert_eq!(of(&format!("ref: refs/heads/x\tHEAD\n{one}\tHEAD\n{branches}")), Some(Some("x".to_owned())));
        assert_eq!(of(&format!("{two}\tHEAD\n{branches}")), Some(Some("a/b".to_owned())), "detached");
        assert_eq!(of(&branches), Some(None), "unborn");
        assert_eq!(of(""), None);
        assert!(Heads::parse(&format!("{}\tHEAD\n", "3".repeat(64))).unwrap().is_sha256);
    }
}
