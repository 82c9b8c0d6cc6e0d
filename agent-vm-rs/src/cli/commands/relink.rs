//! `agent-vm relink`

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::Target;
use crate::cli::target;
use crate::git::{Source, workspace};
use crate::host::files::places::Mounts;
use crate::host::interrupt;
use crate::machine::Machine;
use crate::machine::branch::BranchName;
use crate::machine::context::Context;
use crate::machine::state_dir::StateDir;
use crate::machine::unknown::{lost, no_machine};
use crate::term::error::Failure;
use crate::term::output::print_json;
use crate::term::progress::note;

/// Flags of `relink`.
#[derive(Args, Clone, Debug)]
pub struct RelinkArgs {
    #[command(flatten)]
    target: Target,
    /// Directory of the repository [default: the current one]
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// Relink even if the repository and the machine share no commit
    #[arg(long)]
    force: bool,
}

/// Assigns a machine to a repository that has moved. The machine keeps its name.
///
/// # Errors
/// There is no such machine or repository, the two share no commit, or the repository already has a machine for the
/// branch.
pub fn relink(context: &Context, args: &RelinkArgs) -> Result<()> {
    let source = target::repository(&context.state, args.source.as_deref())?;
    source.require_own_objects(context.state.path())?;
    let machine = find(&context.state, &source, args.target.as_deref())?;
    let _lock = machine.lock(context.deadline())?;
    let mut settings = machine.settings()?;
    let name = &machine.name;
    if let Some(other) = target::machine_of(&context.state, &source.dir, &settings.branch)?
        && other.name != *name
    {
        return Err(Failure::new(format!(
            "the branch {} of {} already has a machine: {}",
            settings.branch,
            source.dir.display(),
            other.name
        ))
        .with_hint(format!("agent-vm destroy {}\nthen: agent-vm relink {name}", other.name))
        .into());
    }
    if !args.force {
        require_common_history(&machine, &source)?;
    }
    let old = std::mem::replace(&mut settings.source, source.dir);
    if old != settings.source {
        settings.source_mount = Mounts::read().point_of(&settings.source);
        machine.write_settings(&settings)?;
    }
    if context.json {
        return print_json(&serde_json::json!({ "name": name, "source": settings.source, "before": old }));
    }
    if old == settings.source {
        note(&format!("{name} already belongs to {}: nothing changed", old.display()));
    } else {
        note(&format!("{name} now belongs to {} (before: {})", settings.source.display(), old.display()));
    }
    Ok(())
}

/// Returns the machine of a branch of the repository, else one of that branch whose repository is missing, else one by
/// name.
fn find(state: &StateDir, source: &Source, target: Option<&str>) -> Result<Machine> {
    let (branch, word) = match target {
        Some(word) => (word.parse().ok(), word.to_owned()),
        None => {
            let branch: BranchName = source.current_branch()?.ok_or_else(|| {
                Failure::new(format!("HEAD of {} is detached: there is no current branch", source.dir.display()))
                    .with_hint("name a branch or a machine (agent-vm list shows them)")
            })?;
            let word = branch.to_string();
            (Some(branch), word)
        }
    };
    if let Some(branch) = &branch {
        if let Some(machine) = target::machine_of(state, &source.dir, branch)? {
            return Ok(machine);
        }
        let lost = lost(state, branch)?;
        match &lost[..] {
            [] => {}
            [machine] => return Ok(machine.clone()),
            [machine, ..] => {
                let names: Vec<_> = lost.iter().map(|machine| machine.name.as_str()).collect();
                return Err(Failure::usage(format!(
                    "the source repositories of several machines for {word} are missing: {}",
                    names.join(", ")
                ))
                .with_hint(format!("choose one: agent-vm relink {}", machine.name))
                .into());
            }
        }
    }
    let by_name = word.parse().ok().map(|name| Machine::new(state, name)).filter(Machine::exists);
    by_name.ok_or_else(|| no_machine(state, &word))
}

/// Refuses a repository that shares no history with the machine, since it is most likely the wrong one.
fn require_common_history(machine: &Machine, source: &Source) -> Result<()> {
    let (name, dir) = (&machine.name, source.dir.display());
    let again = format!("if it is the right repository: agent-vm relink {name} --source DIR --force");
    let shares = shares_history(machine, source).with_context(|| {
        Failure::new(format!("failed to compare the commits of {name} with those of {dir}")).general_hint(&again)
    })?;
    if shares {
        return Ok(());
    }
    Err(Failure::new(format!("{dir} and {name} share no commit")).with_hint(again).into())
}

/// Returns whether a repository shares a commit with the machine; true if the machine has no commit.
fn shares_history(machine: &Machine, source: &Source) -> Result<bool> {
    let count = |source| workspace::new_commits(&machine.workspace(), source, &machine.dir);
    let (all, new) = (count(None)?, count(Some(source))?);
    Ok(all == 0 || new < all)
}

/// Refuses to create a second machine for a branch if the source of another one is missing, most likely this repository.
///
/// # Errors
/// There is such a machine, and it shares a commit with this repository.
pub fn refuse_beside_lost(state: &StateDir, source: &Source, branch: &BranchName) -> Result<()> {
    for machine in lost(state, branch)? {
        match shares_history(&machine, source) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                interrupt::check()?;
                tracing::info!("the commits of {} were not compared: {error:#}", machine.name);
                continue;
            }
        }
        let name = &machine.name;
        return Err(Failure::new(format!(
            "the source repository of {name}, a machine for {branch}, is missing; it may have moved to {}",
            source.dir.display()
        ))
        .with_hint(format!(
            "if it moved: agent-vm relink {name}\nto remove the machine and keep its commits: agent-vm destroy {name}"
        ))
        .into());
    }
    Ok(())
}
