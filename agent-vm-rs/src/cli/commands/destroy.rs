//! `agent-vm destroy`

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use super::{Target, mcp_config};
use crate::cli::target;
use crate::git::Origin;
use crate::git::saved_work::SavedWork;
use crate::git::workspace::{self, Findings, OnTheDisk, Unsaved, WholeReason, is_no_space};
use crate::host::files::{remove_any, remove_file, rename_durably};
use crate::host::interrupt;
use crate::machine::context::Context;
use crate::machine::{Machine, sweep};
use crate::term::error::{Failure, Interrupted, exit_code, hint_of};
use crate::term::output::print_json;
use crate::term::progress::note;
use crate::term::text::count;
use crate::vm::shutdown;

/// Flags of `destroy`.
#[derive(Args, Clone, Debug)]
pub struct DestroyArgs {
    #[command(flatten)]
    target: Target,
    /// Do not ask for confirmation; without a terminal it never asks
    #[arg(short, long)]
    yes: bool,
    /// What to keep of the workspace
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Keep::Changes)]
    keep: Keep,
    /// Directory to keep it in [default: .bundles in the state directory]
    #[arg(long, value_name = "DIR")]
    keep_in: Option<PathBuf>,
}

/// What to keep of a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Keep {
    /// Commits and changed files that the source repository lacks, in a bundle; the whole workspace if a bundle cannot
    /// hold them
    Changes,
    /// The whole workspace
    Workspace,
    /// Nothing; commits and files are lost
    Nothing,
}

/// Removes a machine. Commits that only its workspace has are kept in a bundle. On a terminal, the command asks first,
/// unless `--yes` is given.
///
/// # Errors
/// The user declines, something cannot be kept, or something cannot be removed. In the first two cases the machine is
/// unchanged.
pub fn destroy(context: &Context, args: &DestroyArgs) -> Result<()> {
    let machine =
        target::find_used(&context.state, args.target.as_deref()).inspect_err(|_| note_earlier(context, args))?;
    let _lock = machine.lock(context.deadline())?;
    let saved_work = SavedWork::of(&machine, args.keep_in.as_deref())?;
    if !args.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        ask(&machine, args.keep, &saved_work)?;
    }
    shutdown::stop(&machine, context.timeout)?;
    let kept = keep(&machine, args.keep, &saved_work).map_err(|error| refused(&machine, error))?;
    remove(context, &machine)?;
    if context.json {
        let kept: Vec<_> = kept.iter().map(|path| path.to_string_lossy()).collect();
        print_json(&serde_json::json!({ "name": machine.name, "kept": kept }))?;
    }
    Ok(())
}

/// Prints where the work of an earlier machine is, if there is any.
fn note_earlier(context: &Context, args: &DestroyArgs) {
    for name in target::possible_names(&context.state, args.target.as_deref()) {
        let machine = Machine::new(&context.state, name);
        let kept = SavedWork::of(&machine, args.keep_in.as_deref()).map(|saved| saved.newest()).unwrap_or_default();
        if let Some(kept) = kept.filter(|_| !machine.exists()) {
            let command = workspace::fetch_from_bundle(&kept).or_else(|| workspace::fetch_from_kept(&kept));
            let command = command.map(|command| format!("\n  take it back: {command}")).unwrap_or_default();
            note(&format!("what only an earlier {} had is in {}{command}", machine.name, kept.display()));
        }
    }
}

/// Stops and removes a machine. Saves what only its workspace has in the state directory. The caller holds its lock.
///
/// # Errors
/// As [`destroy`].
pub fn destroy_keeping_changes(context: &Context, machine: &Machine) -> Result<()> {
    let saved_work = SavedWork::of(machine, None)?;
    shutdown::stop(machine, context.timeout)?;
    keep(machine, Keep::Changes, &saved_work).map_err(|error| refused(machine, error))?;
    remove(context, machine)
}

/// Removes a machine after everything to keep was saved. Signals are ignored from here on.
fn remove(context: &Context, machine: &Machine) -> Result<()> {
    let name = &machine.name;
    // Rename first: the name is free at once, and an interrupted removal can continue later.
    let gone = context.state.path().join(format!("{}{name}", sweep::GONE));
    let left = || format!("failed to remove the remains of {name}");
    let source = machine.settings().ok().map(|settings| settings.source);
    remove_any(&gone).with_context(left)?;
    rename_durably(&machine.dir, &gone)?;
    remove_any(&gone).with_context(left)?;
    note(&format!("removed {name}"));
    let notices = source.map(|source| mcp_config::leftovers(context, machine, &source)).unwrap_or_default();
    notices.iter().for_each(|notice| note(notice));
    Ok(())
}

/// Saves what only the machine has, and returns where it is. It is synced to disk when this returns; on failure nothing has
/// changed.
fn keep(machine: &Machine, keep: Keep, saved_work: &SavedWork) -> Result<Vec<PathBuf>> {
    let mut kept = saved_work.finish(machine)?;
    for finished in &kept {
        let take_back = take_back(finished);
        note(&format!("an earlier workspace of {} is kept in {}{take_back}", machine.name, finished.display()));
    }
    let workspace = machine.workspace();
    kept.extend(match keep {
        Keep::Nothing => None,
        Keep::Workspace if workspace::is_there(&workspace) => {
            Some(keep_workspace(saved_work, &workspace, "the workspace")?)
        }
        Keep::Workspace => None,
        Keep::Changes => keep_changes(machine, saved_work, &workspace)?,
    });
    Ok(kept)
}

/// Saves what only the workspace has: in a bundle, or as the whole workspace. Returns its path, if there is something to save.
fn keep_changes(machine: &Machine, saved_work: &SavedWork, workspace: &Path) -> Result<Option<PathBuf>> {
    let source = match machine.settings().ok().map(|settings| Origin::of(machine, &settings)) {
        Some(Origin::Here(source)) => Some(source),
        // Nobody knows then what it lacks.
        Some(Origin::Unusable(error)) => return Err(error.context("its source cannot be used")),
        Some(Origin::Missing) | None => None,
    };
    let scratch = saved_work.scratch(machine)?;
    let findings = workspace::look(workspace, source.as_ref(), &scratch.dir)?;
    let why = match findings {
        Findings::Nothing => return Ok(None),
        Findings::Whole(why) => why,
        Findings::Bundle(own) => match own.bundle() {
            Ok(file) => return keep_bundle(machine, saved_work, &own, &file).map(Some),
            Err(error) if workspace::is_unreadable(&error) => WholeReason::Unreadable(format!("{error:#}")),
            Err(error) => return Err(error),
        },
    };
    let what = match why {
        WholeReason::Unreadable(why) => format!("the workspace's repository cannot be read ({why}); the workspace"),
        WholeReason::Holds(what) => format!("a bundle cannot hold everything in the workspace ({what}); the workspace"),
    };
    keep_workspace(saved_work, workspace, &what).map(Some)
}

fn keep_bundle(machine: &Machine, saved_work: &SavedWork, own: &Unsaved, file: &Path) -> Result<PathBuf> {
    let kept = saved_work.keep_file(file, "bundle")?;
    if let Err(interrupted) = interrupt::check() {
        remove_file(&kept)?;
        return Err(interrupted);
    }
    let what = if own.commits.is_empty() && own.others == 0 { "changed files" } else { "commits" };
    note(&format!(
        "the {what} that only {} had are in {} ({})\n  take them back: {}",
        machine.name,
        kept.display(),
        own.describe(),
        workspace::fetch(&kept, own.has_other_references())
    ));
    Ok(kept)
}

fn keep_workspace(saved_work: &SavedWork, workspace: &Path, what: &str) -> Result<PathBuf> {
    interrupt::check()?;
    let kept = saved_work.keep_workspace(workspace)?;
    note(&format!(
        "{what} is kept whole in {} (the guest's git configuration and hooks are renamed to *.of-the-guest){}",
        kept.display(),
        take_back(&kept)
    ));
    Ok(kept)
}

/// Returns a line with the command that fetches the commits of a kept workspace; empty if its repository is elsewhere.
fn take_back(kept: &Path) -> String {
    let Some(command) = workspace::fetch_from_kept(kept) else { return String::new() };
    let shallow = if command.contains(" --update-shallow ") {
        "\n  (its history is shallow: the command makes your repository shallow at the same commits)"
    } else {
        ""
    };
    format!("\n  take its commits back: {command}{shallow}")
}

/// Returns an error that explains why the machine was not removed, and what to do.
fn refused(machine: &Machine, error: anyhow::Error) -> anyhow::Error {
    if error.is::<Interrupted>() {
        return error;
    }
    let name = &machine.name;
    let hint = match hint_of(&error) {
        _ if is_no_space(&error) => format!("keep it on another disk: agent-vm destroy {name} --keep-in DIR"),
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

/// Asks whether to go on, with what is kept and where.
fn ask(machine: &Machine, keep: Keep, saved_work: &SavedWork) -> Result<()> {
    let name = &machine.name;
    let source = machine.settings().ok().and_then(|settings| Origin::of(machine, &settings).usable());
    let place = saved_work.dir().display();
    let loss = match keep {
        Keep::Nothing => " Its commits and changed files are lost.".to_owned(),
        Keep::Workspace => format!(" Its whole workspace is kept in {place}."),
        Keep::Changes => match workspace::state(&machine.workspace(), source.as_ref(), &machine.dir) {
            Ok(state) => {
                let parts = [(state.new_commits.unwrap_or(0), "commit"), (state.changed_files, "changed file")];
                let parts: Vec<_> =
                    parts.iter().filter(|(number, _)| *number > 0).map(|(number, what)| count(*number, what)).collect();
                if parts.is_empty() {
                    String::new()
                } else {
                    format!(" The {} that only it has are kept in {place}.", parts.join(" and "))
                }
            }
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(_) => format!(" Its workspace, which cannot be read now, is kept in {place}."),
        },
    };
    let disk = if keep == Keep::Workspace { "disk" } else { "disk and workspace" };
    if confirmed(&format!("Remove {name} with its {disk}?{loss} [y/N] "))? {
        return Ok(());
    }
    Err(Failure::new(format!("{name} was not removed"))
        .with_hint(format!("to remove it without a question: agent-vm destroy {name} --yes"))
        .into())
}

/// Asks a question on the terminal. Returns whether the answer is yes.
///
/// # Errors
/// The terminal cannot be read or written, or the command was interrupted.
pub fn confirmed(question: &str) -> Result<bool> {
    let mut err = anstream::stderr();
    write!(err, "{question}").and_then(|()| err.flush()).context("failed to ask")?;
    let answer = read_line().context("failed to read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Reads a line of standard input. (The standard library would continue after a signal.)
fn read_line() -> Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") {
        interrupt::check()?;
        match rustix::io::read(std::io::stdin(), &mut byte) {
            Ok(0) => break,
            Ok(_) => line.extend(byte),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}
