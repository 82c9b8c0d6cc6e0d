//! `agent-vm apply`

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::new_workspace::{Bring, NewWorkspace};
use super::pick::{PickArgs, pick};
use super::{Target, create, set};
use crate::cli::target;
use crate::git::Source;
use crate::machine::Machine;
use crate::machine::branch::BranchName;
use crate::machine::context::Context;
use crate::machine::declared::{self, Declared};
use crate::machine::settings::SettingsPatch;
use crate::machine::unknown::no_machine;
use crate::term::error::Failure;
use crate::term::progress::note;

/// Flags of `apply`.
#[derive(Args, Clone, Debug)]
pub struct ApplyArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    pick: PickArgs,
    /// Change the machine's settings instead: JSON file with the declared settings, in the format of `create --config`
    #[arg(long, value_name = "FILE", conflicts_with = "pick")]
    pub config: Option<PathBuf>,
    /// With --config: directory of the repository [default: the current one]
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// With --config: create the machine if it does not exist
    #[arg(long)]
    create: bool,
}

/// Applies fetched commits of a machine to its source repository, or the settings of a file to the machine.
///
/// # Errors
/// As [`pick`], or there is no such machine, or a value of the file is invalid.
pub fn apply(context: &Context, args: &ApplyArgs) -> Result<()> {
    match &args.config {
        Some(file) => apply_settings(context, args, file),
        None if args.source.is_some() || args.create => {
            Err(Failure::usage("--source and --create need --config, the file with the declared settings")
                .with_hint("agent-vm apply --config FILE --source DIR")
                .into())
        }
        None => pick(context, &args.target, &args.pick),
    }
}

/// Applies the settings of a file that differ from its last application, and prints what changed. Changes by `set` and
/// `egress` since then stay.
///
/// # Errors
/// There is no such machine, or a value is invalid. The settings are then unchanged.
fn apply_settings(context: &Context, args: &ApplyArgs, file: &Path) -> Result<()> {
    let patch = SettingsPatch::read(file)?;
    patch.validate()?;
    let now = Declared { file: declared::place_of(file)?, settings: patch };
    let named = args.target.as_deref().or(now.settings.branch.as_ref().map(BranchName::as_str));
    let machine = match existing(context, args, named)? {
        Ok(machine) => machine,
        Err((source, branch)) if args.create => {
            let new = NewWorkspace { source: &source, branch, bring: Bring::default(), unfetched: None };
            let (machine, settings) = create::make_for(context, now.settings.clone(), new)?;
            let _lock = machine.lock(context.deadline())?;
            now.write(&machine)?;
            return set::report(context, &machine, &settings, &settings);
        }
        Err((_, branch)) => return Err(no_machine(&context.state, branch.as_str())),
    };
    let _lock = machine.lock(context.deadline())?;
    let before = machine.settings()?;
    let last = Declared::read(&machine)?;
    let known = last.clone().unwrap_or_default();
    let change = declared::change(&machine.name, &before, &known.settings, &now.settings)?;
    let after = set::make(context, &machine, &before, change)?;
    // Settings first: if the command is killed before the next write, the next `apply` does the same again.
    if last.as_ref() != Some(&now) {
        now.write(&machine)?;
    }
    set::report(context, &machine, &before, &after)?;
    if before.disk == after.disk {
        set::note_disk_size(&machine, &after);
    }
    note_undeclared(context, &machine, &now)
}

/// Returns the machine, or the repository and branch of the one to create.
fn existing(context: &Context, args: &ApplyArgs, named: Option<&str>) -> Result<Result<Machine, (Source, BranchName)>> {
    if args.source.is_none() && !args.create {
        return target::find(&context.state, named).map(Ok);
    }
    let (source, branch) = match &args.source {
        None => target::current(&context.state, named)?,
        Some(dir) => target::branch_of(&context.state, dir, named)?,
    };
    Ok(match target::machine_of(&context.state, &source.dir, &branch)? {
        Some(machine) => Ok(machine),
        None => Err((source, branch)),
    })
}

/// Prints the machines that this file declared before, for another branch or repository.
fn note_undeclared(context: &Context, machine: &Machine, now: &Declared) -> Result<()> {
    let others = context.state.names()?.into_iter().filter(|name| *name != machine.name);
    for other in others.map(|name| Machine::new(&context.state, name)) {
        if Declared::read(&other).is_ok_and(|last| last.is_some_and(|last| last.is_gone() || last.file == now.file)) {
            let name = &other.name;
            note(&format!(
                "notice: {name} is no longer declared, but still exists; to remove it: agent-vm destroy {name}"
            ));
        }
    }
    Ok(())
}
