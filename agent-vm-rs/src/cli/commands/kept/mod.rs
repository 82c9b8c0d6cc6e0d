//! `agent-vm kept`: what `destroy` and `prune` kept of machines.

mod list;
mod prune;
mod restore;
mod show;

use std::path::Path;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::git::Source;
use crate::git::kept::{self, Kept, Kind, Presence};
use crate::git::workspace::{self, Held, fetch_from, is_unreadable};
use crate::host::files::{make_private_dir, quoted};
use crate::host::lock::Lock;
use crate::machine::context::Context;
use crate::machine::state_dir::StateDir;
use crate::machine::sweep::{self, Scratch};
use crate::term::error::Failure;
use crate::term::text::printable;

/// Flags of `kept`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, override_usage = "agent-vm kept [OPTIONS] [COMMAND]")]
pub struct KeptArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: list::ListArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// List what was kept
    List(list::ListArgs),
    /// Show the references, commits and files in one
    Show(show::ShowArgs),
    /// Restore one into a repository; it stays kept
    Restore(restore::RestoreArgs),
    /// Remove what its repository has
    Prune(prune::PruneArgs),
}

/// Lists, shows, restores or removes what was kept.
///
/// # Errors
/// See the functions of the subcommands.
pub fn kept(context: &Context, args: &KeptArgs) -> Result<()> {
    match &args.action {
        None => list::list(context, &args.list),
        Some(Action::List(args)) => list::list(context, args),
        Some(Action::Show(args)) => show::show(context, args),
        Some(Action::Restore(args)) => restore::restore(context, args),
        Some(Action::Prune(args)) => prune::prune(context, args),
    }
}

/// Takes the lock of what was kept, and completes or removes what killed commands left.
fn lock(context: &Context) -> Result<Lock> {
    let lock = Lock::take(&context.state.kept_lock(), context.deadline())?;
    make_private_dir(&context.state.kept())?;
    sweep::scratch(&context.state.kept())?;
    kept::finish_rests(&context.state, &kept::all(&context.state)?)?;
    Ok(lock)
}

/// Makes a directory for temporary files.
fn scratch(state: &StateDir) -> Result<Scratch> {
    make_private_dir(&state.kept())?;
    Scratch::new_in(&state.kept())
}

/// Opens what was kept, for a repository that may have some of it.
fn open(kept: &Kept, source: Option<&Source>, scratch: &Path) -> Result<Held> {
    let path = kept.path.display();
    let name = &kept.named.stem;
    let forget = format!("if it is gone for good: agent-vm kept prune --yes {name}");
    match kept.presence {
        Presence::Here => {}
        Presence::Missing if kept.is_half_done() => {
            let machine = &kept.named.machine;
            return Err(Failure::new(format!("a killed destroy left {path} half done"))
                .with_hint(format!(
                    "if {machine} still exists: agent-vm destroy {machine}\notherwise: agent-vm kept restore {name}"
                ))
                .into());
        }
        Presence::Missing => {
            return Err(Failure::new(format!("{path} was moved or removed")).with_hint(forget).into());
        }
        Presence::Away => {
            return Err(Failure::new(format!("the directory of {path} does not exist"))
                .with_hint(format!("mount its disk and repeat the command\n{forget}"))
                .into());
        }
    }
    let read = |source| match kept.named.kind {
        Kind::Bundle => workspace::of_bundle(&kept.path, source, scratch),
        Kind::Workspace => workspace::of_workspace(&kept.path, source, scratch),
    };
    read(source).map_err(|error| match source {
        // Git compares the objects with those of the repository.
        Some(source) if is_unreadable(&error) && read(None).is_ok() => damaged(source, kept, error),
        _ => unreadable(kept, error),
    })
}

/// Returns the error about a repository that cannot be compared with what was kept.
fn damaged(source: &Source, kept: &Kept, error: anyhow::Error) -> anyhow::Error {
    let (dir, name) = (quoted(&source.dir), &kept.named.stem);
    error.context(Failure::new(format!("{} has a damaged object", source.dir.display())).with_hint(format!(
        "to see which: git -C {dir} fsck\nto restore into another repository: agent-vm kept restore {name} --into DIR"
    )))
}

/// Returns an error with a way to take what git can read of a damaged repository.
fn unreadable(kept: &Kept, error: anyhow::Error) -> anyhow::Error {
    let path = kept.path.display();
    let command = fetch_from(&kept.path);
    match command.filter(|_| is_unreadable(&error)) {
        // The guest chose some of git's words.
        Some(command) => {
            let why = printable(&format!("{error:#}"));
            let hint = format!("to take what git can read, in your repository: {command}");
            Failure::new(format!("{path} cannot be read completely: {why}")).with_hint(hint).into()
        }
        None => error.context(format!("failed to read {path}")),
    }
}
