//! Changes the source's references to a machine's objects.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::plan::{FORMER, Named, Plan};
use super::writing::Writing;
use crate::git::refs::is_snapshot;
use crate::git::standin::StandIn;
use crate::git::workspace::UNCOMMITTED;
use crate::host::files::quoted;
use crate::host::process::Invocation;
use crate::term::error::Failure;
use crate::term::text::{last_lines, one_line, printable};

/// Number of lines of git's messages that an error shows.
const LINES: usize = 4;

/// A changed reference.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Update {
    /// Its full name; bytes that are not valid UTF-8 are replaced.
    pub reference: String,
    /// The object before.
    pub old: Option<String>,
    /// The object now.
    pub new: Option<String>,
    /// The reference to the former commit, if no other reference reaches it.
    pub former: Option<String>,
}

/// A change of the source's references.
pub struct Change<'a> {
    /// The source's git directory.
    pub git_dir: &'a Path,
    /// A stand-in with all references of the source.
    pub standin: &'a StandIn,
    /// The references before, with their full names.
    pub known: &'a Named,
    /// How they change.
    pub plan: &'a Plan,
    /// The start of the names of the machine's references.
    pub prefix: &'a str,
    /// A directory for temporary files.
    pub scratch: &'a Path,
}

impl Change<'_> {
    fn git(&self) -> Invocation {
        self.standin.git().of_machine(self.scratch)
    }

    fn full(&self, name: &[u8]) -> Vec<u8> {
        [self.prefix.as_bytes(), name].concat()
    }

    /// Returns the new objects, with the names of their references.
    fn new_objects(&self) -> impl Iterator<Item = (&Vec<u8>, &String)> {
        self.plan.create.iter().chain(self.plan.change.iter().map(|(name, (_, new))| (name, new)))
    }

    /// Returns the number of commits that no reference reached before.
    ///
    /// # Errors
    /// Git fails.
    pub fn commits(&self) -> Result<usize> {
        let tips = self.new_objects().filter(|(name, _)| *name != UNCOMMITTED).map(|(_, id)| format!("{id}\n"));
        let input: String = tips.chain(self.known.values().map(|id| format!("^{id}\n"))).collect();
        let count = self.git().args(["rev-list", "--count", "--ignore-missing", "--stdin"]).stdin(input);
        count.read().context("failed to count commits")?.parse().context("git printed no number")
    }

    /// Changes the references and returns the changes. At every moment, each commit that a reference led to has one.
    ///
    /// # Errors
    /// Git cannot write a reference.
    pub fn apply(&self) -> Result<Vec<Update>> {
        let _writing = Writing::begin(self.git_dir)?;
        let lost = self.lost()?;
        let former = |old: &String| lost.contains(old).then(|| self.full(&[FORMER, old.as_bytes()].concat()));
        let mut lines = Vec::new();
        for old in &lost {
            lines.extend(former(old).map(|name| line("update", &name, &[old])));
        }
        self.write(&lines)?;
        let create = |late: bool| {
            let new = self.plan.create.iter().filter(move |(name, _)| self.plan.must_wait(name) == late);
            new.map(|(name, new)| line("create", &self.full(name), &[new]))
        };
        let changed = self.plan.change.iter().map(|(name, (old, new))| line("update", &self.full(name), &[new, old]));
        self.write(&create(false).chain(changed).collect::<Vec<_>>())?;
        let gone = self.plan.delete.iter().map(|(name, old)| line("delete", &self.full(name), &[old]));
        self.write(&gone.collect::<Vec<_>>())?;
        self.write(&create(true).collect::<Vec<_>>())?;
        let shown = |name: &[u8]| one_line(&String::from_utf8_lossy(name));
        let update = |name: &[u8], old: Option<&String>, new: Option<&String>| Update {
            reference: shown(&self.full(name)),
            old: old.cloned(),
            new: new.cloned(),
            former: old.and_then(former).map(|name| shown(&name)),
        };
        let created = self.plan.create.iter().map(|(name, new)| update(name, None, Some(new)));
        let changed = self.plan.change.iter().map(|(name, (old, new))| update(name, Some(old), Some(new)));
        let deleted = self.plan.delete.iter().map(|(name, old)| update(name, Some(old), None));
        Ok(created.chain(changed).chain(deleted).collect())
    }

    /// Writes references, without following symbolic ones: they may lead to the user's branches.
    fn write(&self, lines: &[Vec<u8>]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let update = ["-c", "core.fsync=all", "update-ref", "--no-deref", "--stdin"];
        let output = self.git().args(update).stdin(lines.concat()).output()?;
        if output.status.success() {
            return Ok(());
        }
        // Git names the files in the stand-in.
        let (standin, git_dir) = (self.standin.path().display().to_string(), self.git_dir.display().to_string());
        let words = printable(&String::from_utf8_lossy(&output.stderr)).replace(&standin, &git_dir);
        let hint = match words.split('\'').find(|word| word.ends_with(".lock")) {
            Some(lock) => {
                format!("if no other git command runs there, remove its lock: rm {}", quoted(Path::new(lock)))
            }
            None => format!("to see what is wrong: git --git-dir {} fsck", quoted(self.git_dir)),
        };
        Err(Failure::new(format!(
            "failed to write references of the source repository:\n{}",
            last_lines(words.trim_end(), LINES)
        ))
        .with_hint(hint)
        .into())
    }

    /// Returns the ids that no reference would reach any more. Snapshots of uncommitted changes may go, and so reach
    /// nothing.
    fn lost(&self) -> Result<BTreeSet<String>> {
        let plan = self.plan;
        let changed = plan.change.iter().map(|(name, (old, _))| (name, old));
        let olds: BTreeSet<_> =
            changed.chain(&plan.delete).filter(|(name, _)| *name != UNCOMMITTED).map(|(_, old)| old.as_str()).collect();
        if olds.is_empty() {
            return Ok(BTreeSet::new());
        }
        let is_unchanged = |name: &Vec<u8>| {
            let below = name.strip_prefix(self.prefix.as_bytes());
            below.is_none_or(|below| !plan.change.contains_key(below) && !plan.delete.contains_key(below))
        };
        let unchanged = self.known.iter().filter(|(name, _)| is_unchanged(name) && !is_snapshot(name));
        // What is created last does not exist yet when references are removed.
        let new = self.new_objects().filter(|(name, _)| *name != UNCOMMITTED && !plan.must_wait(name));
        let kept: BTreeSet<_> = unchanged.chain(new).map(|(_, id)| id.as_str()).collect();
        let input: String = olds.iter().map(|old| format!("{old}\n")).collect();
        let kinds = self.git().args(["cat-file", "--batch-check=%(objectname) %(objecttype)"]).stdin(input.clone());
        let kinds = kinds.read().context("failed to look at former commits")?;
        let input = input + &kept.iter().map(|id| format!("^{id}\n")).collect::<String>();
        let reached = self.git().args(["rev-list", "--ignore-missing", "--stdin"]).stdin(input);
        let reached = reached.read().context("failed to look at former commits")?;
        let unreached: BTreeSet<_> = reached.lines().collect();
        let is_lost = |line: &str| {
            let (id, kind) = line.split_once(' ')?;
            let lost = match kind {
                "commit" => unreached.contains(id),
                "missing" => false,
                _ => !kept.contains(id),
            };
            lost.then(|| id.to_owned())
        };
        Ok(kinds.lines().filter_map(is_lost).collect())
    }
}

/// Returns a line for `git update-ref --stdin`.
fn line(verb: &str, name: &[u8], ids: &[&String]) -> Vec<u8> {
    let ids: String = ids.iter().map(|id| format!(" {id}")).collect();
    [verb.as_bytes(), b" ", name, ids.as_bytes(), b"\n"].concat()
}
