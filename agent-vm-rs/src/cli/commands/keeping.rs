//! Keeps what only a machine has before it is removed.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;

use crate::git::kept::Facts;
use crate::git::saved_work::SavedWork;
use crate::git::workspace::{self, Findings, OnTheDisk, Unsaved, WholeReason, is_no_space};
use crate::git::{Origin, Source};
use crate::host::files::places::Mounts;
use crate::host::files::quoted;
use crate::host::interrupt;
use crate::machine::Machine;
use crate::term::error::{Failure, Interrupted, exit_code, hint_of};
use crate::term::progress::note;

/// What to keep of a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Keep {
    /// Commits and changed files that the source repository lacks, in a bundle; the whole workspace if a bundle cannot
    /// hold them
    Changes,
    /// The whole workspace
    Workspace,
    /// Nothing; commits and files are lost
    Nothing,
}

/// Saves what only the machine has, and returns where it is. It is synced to disk when this returns; on failure nothing has
/// changed.
pub fn keep(machine: &Machine, keep: Keep, saved_work: &SavedWork) -> Result<Vec<PathBuf>> {
    if let Some(point) = Mounts::read().point_in(&machine.dir) {
        return Err(Failure::new(format!("a file system is mounted in the machine: {}", point.display()))
            .with_hint(format!("umount {}", quoted(point)))
            .into());
    }
    let mut kept = saved_work.finish(machine)?;
    let facts = facts(machine);
    for finished in &kept {
        if let Err(error) = saved_work.record_if_missing(finished, &facts) {
            tracing::info!("{} is not recorded yet: {error:#}", finished.display());
        }
        note(&format!(
            "an earlier workspace of {} is kept in {}\n{}",
            machine.name,
            finished.display(),
            way_back(finished)
        ));
    }
    let workspace = machine.workspace();
    kept.extend(match keep {
        Keep::Nothing => None,
        Keep::Workspace if workspace::is_there(&workspace) => {
            Some(keep_workspace(saved_work, &workspace, "the workspace", &facts)?)
        }
        Keep::Workspace => None,
        Keep::Changes => keep_changes(machine, saved_work, &workspace, facts)?,
    });
    Ok(kept)
}

/// Saves what only the workspace has: in a bundle, or as the whole workspace. Returns its path, if there is something to save.
fn keep_changes(machine: &Machine, saved_work: &SavedWork, workspace: &Path, facts: Facts) -> Result<Option<PathBuf>> {
    let source = source(machine)?;
    let scratch = saved_work.scratch(machine)?;
    let findings = workspace::look(workspace, source.as_ref(), &scratch.dir)?;
    let (why, contents) = match findings {
        Findings::Nothing => return Ok(None),
        Findings::Whole(why, contents) => (why, contents),
        Findings::Bundle(own) => match own.bundle() {
            Ok(file) => return keep_bundle(machine, saved_work, &own, &file, facts).map(Some),
            Err(error) if workspace::is_unreadable(&error) => {
                (WholeReason::Unreadable(format!("{error:#}")), own.contents())
            }
            Err(error) => return Err(error),
        },
    };
    let reason = match &why {
        WholeReason::Unreadable(why) => format!("its repository cannot be read: {why}"),
        WholeReason::Holds(what) => what.clone(),
    };
    let facts = Facts { contents: Some(contents).filter(|contents| !contents.is_empty()), why: Some(reason), ..facts };
    let what = match why {
        WholeReason::Unreadable(why) => format!("the workspace's repository cannot be read ({why}); the workspace"),
        WholeReason::Holds(what) => format!("a bundle cannot hold everything in the workspace ({what}); the workspace"),
    };
    keep_workspace(saved_work, workspace, &what, &facts).map(Some)
}

fn keep_bundle(machine: &Machine, saved_work: &SavedWork, own: &Unsaved, file: &Path, facts: Facts) -> Result<PathBuf> {
    let contents = own.contents();
    let (described, is_only_files) = (contents.describe(), contents.commits == 0 && contents.tags == 0);
    let kept = saved_work.keep_file(file, &Facts { contents: Some(contents), ..facts })?;
    if let Err(interrupted) = interrupt::check() {
        saved_work.discard(&kept)?;
        return Err(interrupted);
    }
    let what = if is_only_files { "changed files" } else { "commits" };
    note(&format!(
        "the {what} that only {} had are in {} ({described})\n{}",
        machine.name,
        kept.display(),
        way_back(&kept)
    ));
    Ok(kept)
}

fn keep_workspace(saved_work: &SavedWork, workspace: &Path, what: &str, facts: &Facts) -> Result<PathBuf> {
    interrupt::check()?;
    let kept = saved_work.keep_workspace(workspace, facts)?;
    note(&format!(
        "{what} is kept whole in {} (the guest's git configuration and hooks are renamed to *.of-the-guest)\n{}",
        kept.display(),
        way_back(&kept)
    ));
    Ok(kept)
}

/// Returns lines with the commands that take back what was kept. Git alone cannot if its repository is elsewhere.
pub fn way_back(kept: &Path) -> String {
    let name = kept.file_stem().unwrap_or_default().display();
    let restore = format!("  take it back: agent-vm kept restore {name}");
    let Some(command) = workspace::fetch_from(kept) else {
        return restore;
    };
    let shallow = if command.contains(" --update-shallow ") {
        "\n  (its history is shallow: the command of git makes your repository shallow at the same commits)"
    } else {
        ""
    };
    format!("{restore}\n  or with git alone: {command}{shallow}")
}

/// Returns the machine's repository; None if it is missing.
pub fn source(machine: &Machine) -> Result<Option<Source>> {
    match machine.settings().ok().map(|settings| Origin::of(machine, &settings)) {
        Some(Origin::Here(source)) => Ok(Some(source)),
        // What it lacks is unknown then.
        Some(Origin::Unusable(error)) => Err(error.context("its source cannot be used")),
        Some(Origin::Missing) | None => Ok(None),
    }
}

fn facts(machine: &Machine) -> Facts {
    let settings = machine.settings().ok();
    Facts {
        branch: settings.as_ref().map(|settings| settings.branch.to_string()),
        source: settings.map(|settings| settings.source),
        ..Facts::default()
    }
}

/// Returns an error that explains why the machine was not removed, and what to do.
pub fn refused(machine: &Machine, error: anyhow::Error) -> anyhow::Error {
    if error.is::<Interrupted>() {
        return error;
    }
    let name = &machine.name;
    let hint = match hint_of(&error) {
        // The message may have names that the guest chose.
        _ if is_no_space(&error) => format!(
            "keep it on another disk: agent-vm destroy {name} --keep-in DIR\nif the disk is not full, keep the whole workspace: agent-vm destroy {name} --keep workspace"
        ),
        _ if error.is::<OnTheDisk>() => format!(
            "in the machine, move it into /workspace; or remove it with the disk: agent-vm destroy {name} --keep workspace"
        ),
        Some(hint) => hint,
        None => format!("try again, or keep the whole workspace: agent-vm destroy {name} --keep workspace"),
    };
    let exit = exit_code(&error);
    error.context(
        Failure::new(format!("{name} was not removed: its work cannot be saved now")).with_hint(hint).exit(exit),
    )
}
