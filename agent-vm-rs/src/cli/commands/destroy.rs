//! `agent-vm destroy`

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::confirm::{can_ask, confirmed};
use super::keeping::{self, Keep, keep, refused, way_back};
use super::{Target, mcp_config};
use crate::cli::target;
use crate::git::kept;
use crate::git::saved_work::SavedWork;
use crate::git::url_source_use::remove_unused;
use crate::git::workspace::{self, Contents, Findings, WholeReason};
use crate::host::files::{remove_any, rename_durably};
use crate::machine::context::Context;
use crate::machine::{Machine, sweep};
use crate::term::error::{Failure, Interrupted};
use crate::term::output::print_json;
use crate::term::progress::note;
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

impl DestroyArgs {
    /// Returns whether the user wants to keep something.
    #[must_use]
    pub const fn keeps(&self) -> bool {
        !matches!(self.keep, Keep::Nothing)
    }
}

/// Removes a machine. Commits that only its workspace has are kept in a bundle. On a terminal, the command asks first,
/// unless `--yes` is given.
///
/// # Errors
/// The user declines, something cannot be kept, or something cannot be removed. In the first two cases the machine is
/// unchanged.
pub fn destroy(context: &Context, args: &DestroyArgs) -> Result<()> {
    let machine =
        target::find_exact(&context.state, args.target.as_deref()).inspect_err(|_| note_earlier(context, args))?;
    let _lock = machine.lock(context.deadline())?;
    let saved_work = SavedWork::of(&machine, args.keep_in.as_deref())?;
    if !args.yes && can_ask() {
        ask(&machine, args.keep, &saved_work)?;
    }
    shutdown::stop(&machine, context.timeout)?;
    let kept = keep(&machine, args.keep, &saved_work).map_err(|error| refused(&machine, error))?;
    let source = machine.settings().ok().map(|settings| settings.source);
    remove(context, &machine)?;
    saved_work.record_rest();
    remove_source(context, source.filter(|_| kept.is_empty()));
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
        let newest = kept::all(&context.state).unwrap_or_default().into_iter().rev();
        let mut newest =
            newest.filter(|kept| kept.named.machine == machine.name && kept.presence == kept::Presence::Here);
        if let Some(kept) = newest.next().filter(|_| !machine.exists()) {
            let (name, path) = (&machine.name, kept.path.display());
            note(&format!("what only an earlier {name} had is in {path}\n{}", way_back(&kept.path)));
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
    let kept = keep(machine, Keep::Changes, &saved_work).map_err(|error| refused(machine, error))?;
    let source = machine.settings().ok().map(|settings| settings.source);
    remove(context, machine)?;
    saved_work.record_rest();
    remove_source(context, source.filter(|_| kept.is_empty()));
    Ok(())
}

/// Removes the repository of a URL after its last machine.
fn remove_source(context: &Context, source: Option<PathBuf>) {
    let Some(source) = source else { return };
    match remove_unused(&source, &context.state) {
        Ok(true) => note(&format!("removed {}, which had only what the remote has", source.display())),
        Ok(false) => {}
        Err(error) => note(&format!("notice: {} was not removed: {error:#}", source.display())),
    }
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

/// Asks whether to go on, with what is kept and where.
fn ask(machine: &Machine, keep: Keep, saved_work: &SavedWork) -> Result<()> {
    let name = &machine.name;
    let place = saved_work.dir().display().to_string();
    let loss = match keep {
        Keep::Nothing => match found(machine)? {
            Findings::Nothing => String::new(),
            Findings::Bundle(own) => format!(" The {} that only it has are lost.", own.contents().describe()),
            Findings::Whole(WholeReason::Unreadable(_), _) => " Its commits and changed files are lost.".to_owned(),
            Findings::Whole(WholeReason::Holds(why), contents) => {
                let what = [contents.describe(), why].join("; ");
                format!(" What only it has is lost: {}.", what.trim_start_matches("; "))
            }
        },
        Keep::Workspace => format!(" Its whole workspace is kept in {place}."),
        Keep::Changes => kept_of(machine, &place)?,
    };
    let disk = if keep == Keep::Workspace { "disk" } else { "disk and workspace" };
    if confirmed(&format!("Remove {name} with its {disk}?{loss} [y/N] "))? {
        return Ok(());
    }
    Err(Failure::new(format!("{name} was not removed"))
        .with_hint(format!("to remove it without a question: agent-vm destroy {name} --yes"))
        .into())
}

/// Returns sentences with what only a machine has, where it is kept, and what is not kept.
pub fn kept_of(machine: &Machine, place: &str) -> Result<String> {
    let findings = found(machine)?;
    let contents = findings.contents().filter(|contents| !contents.is_empty()).map(|contents| contents.describe());
    let kept = match (&findings, contents) {
        (Findings::Nothing, _) => String::new(),
        (Findings::Bundle(_), what) => {
            format!(" The {} that only it has are kept in {place}.", what.unwrap_or_default())
        }
        (Findings::Whole(WholeReason::Unreadable(_), _), _) => {
            format!(" Its workspace, which cannot be read now, is kept in {place}.")
        }
        (Findings::Whole(WholeReason::Holds(why), _), None) => {
            format!(" Its whole workspace is kept in {place} ({why}).")
        }
        (Findings::Whole(WholeReason::Holds(why), _), Some(what)) if why.starts_with(&what) => {
            format!(" Its whole workspace is kept in {place} ({why}).")
        }
        (Findings::Whole(WholeReason::Holds(why), _), Some(what)) => {
            format!(" Its whole workspace, with the {what} that only it has, is kept in {place} ({why}).")
        }
    };
    let ignored = match &findings {
        Findings::Whole(..) => 0,
        _ => workspace::ignored_files(&machine.workspace(), &machine.dir).unwrap_or(0),
    };
    let lost = if ignored > 0 { format!(" Ignored files are not kept: {ignored}.") } else { String::new() };
    Ok(kept + &lost)
}

/// Looks at what only a machine has.
fn found(machine: &Machine) -> Result<Findings> {
    let unknown = |error: anyhow::Error| match error.is::<Interrupted>() {
        true => Err(error),
        false => Ok(Findings::Whole(WholeReason::Unreadable(format!("{error:#}")), Contents::default())),
    };
    let source = match keeping::source(machine) {
        Ok(source) => source,
        Err(error) => return unknown(error),
    };
    workspace::look(&machine.workspace(), source.as_ref(), &machine.dir).or_else(unknown)
}
