//! Brings what a kept bundle or workspace holds into a repository, as `refs/agent-vm/MACHINE/kept/TIME/…`. No fetch of a
//! machine changes these references.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::change::{Change, Update};
use super::plan::{KEPT, Named, Plan};
use super::{apply, bring};
use crate::git::namespace::{claim, namespace};
use crate::git::workspace::{Held, Limit, Unreadable};
use crate::git::{Source, SourceReader, links};
use crate::machine::name::VmName;
use crate::machine::state_dir::StateDir;

/// What to restore, and where to.
pub struct Restoring<'a> {
    /// State directory of the machine that had it.
    pub state: &'a StateDir,
    /// Name of that machine.
    pub machine: &'a VmName,
    /// The part of the name of what was kept that tells it from others of the machine.
    pub time: &'a str,
    /// What it holds, opened for this repository.
    pub held: &'a Held,
    /// The repository.
    pub source: &'a Source,
    /// A directory for temporary files.
    pub scratch: &'a Path,
    /// Limit of what is brought.
    pub limit: Limit<'a>,
}

/// Restores everything and returns the start of the references' names, and the changed ones. A reference that has another
/// object stays as `former/ID` beside the new one.
///
/// # Errors
/// Git refuses an object, there is too much, or the repository cannot be written.
pub fn restore(restoring: &Restoring<'_>) -> Result<(String, Vec<Update>)> {
    let Restoring { held, source, scratch, .. } = restoring;
    links::check(&source.place)?;
    require_same_format(source, held)?;
    let reader = SourceReader::open(source, scratch)?;
    let known: Named = reader.refs.iter().map(|one| (one.name.clone(), one.id.clone())).collect();
    let (offered, _, _kept) = bring(&held.repositories, source, &reader.stores, restoring.limit)?;
    let (state, machine) = (restoring.state, restoring.machine);
    let namespace = namespace(source, state, machine)?;
    let prefix = format!("{namespace}{}{}/", String::from_utf8_lossy(KEPT), restoring.time);
    let below = |name: &[u8]| name.strip_prefix(prefix.as_bytes()).map(<[u8]>::to_vec);
    let current = known.iter().filter_map(|(name, id)| Some((below(name)?, id.clone()))).collect();
    let mut plan = Plan::new(&current, &offered);
    // What else is there is the user's.
    plan.delete.clear();
    let updates = match plan.is_empty() {
        true => Vec::new(),
        false => {
            claim(source, state, machine, &namespace)?;
            let (git_dir, standin) = (&source.place.common_dir, &reader.standin);
            apply(source, Change { git_dir, standin, known: &known, plan: &plan, prefix: &prefix, scratch })?
        }
    };
    Ok((prefix, updates))
}

fn require_same_format(source: &Source, held: &Held) -> Result<()> {
    let length = if source.format.objects == "sha256" { 64 } else { 40 };
    match held.tips().iter().find(|tip| tip.len() != length) {
        Some(_) => Err(Unreadable(format!("{} has {} objects", source.dir.display(), source.format.objects)).into()),
        None => Ok(()),
    }
}

/// Returns whether a repository is shallow where what was kept is not: git does not show the history behind such a commit, and
/// may remove it.
///
/// # Errors
/// A list of shallow commits cannot be read.
pub fn is_shallower(source: &Source, held: &Held) -> Result<bool> {
    let (own, kept) = (source.shallow_commits()?, held.shallow_commits()?);
    Ok(own.iter().any(|commit| !kept.contains(commit)))
}

/// Returns whether a repository has everything that was offered: its references that last reach it, and no object is
/// missing.
///
/// # Errors
/// Git fails.
pub fn has_everything(source: &Source, held: &Held, scratch: &Path) -> Result<bool> {
    links::check(&source.place)?;
    let SourceReader { standin, tips: safe, .. } = SourceReader::open(source, scratch)?;
    let tips: String = held.tips().iter().map(|tip| format!("{tip}\n")).collect();
    // It fails if anything is missing.
    let git = || standin.git().of_machine(scratch);
    let walk = git().args(["rev-list", "--objects", "--quiet", "--stdin"]).stdin(tips.clone()).output();
    if !walk.context("failed to read the repository")?.status.success() {
        return Ok(false);
    }
    let range = tips + &safe.iter().map(|tip| format!("^{tip}\n")).collect::<String>();
    let new = git().args(["rev-list", "--objects", "--max-count=1", "--stdin"]).stdin(range);
    Ok(new.read().context("failed to read the repository")?.is_empty())
}
