//! `agent-vm kept prune`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::{lock, open, scratch};
use crate::cli::commands::confirm::{can_ask, confirmed};
use crate::cli::commands::prune::age;
use crate::git::kept::{self, Kept, Presence};
use crate::git::{Source, fetch};
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::state_dir::StateDir;
use crate::term::error::{Failure, Interrupted};
use crate::term::output::{print, print_json};
use crate::term::progress::note;
use crate::term::text::{count, one_line};

/// Flags of `kept prune`.
#[derive(Args, Clone, Debug)]
pub struct PruneArgs {
    /// Only these, also if their repository lacks some of it: names, paths, or machines' names
    #[arg(value_name = "KEPT")]
    names: Vec<String>,
    /// Print what would be removed and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Only what was kept this long ago, such as 30d, 2w or 12h
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<Duration>,
    /// Remove also what its repository lacks
    #[arg(long)]
    all: bool,
    /// Do not ask for confirmation. Without a terminal, it is needed for what its repository lacks
    #[arg(short, long)]
    yes: bool,
}

/// Whether a repository has everything of a kept bundle or workspace.
enum Standing {
    /// It has.
    Restored(PathBuf),
    /// It lacks something, or its repository is missing or unknown.
    Lacks(String),
    /// The kept one is gone, and only its record is left.
    Gone,
    /// It cannot be read.
    Unreadable(String),
    /// It is not there, but may come back.
    Away(&'static str),
}

/// One of them and the outcome.
#[derive(Serialize)]
struct Pruned {
    name: String,
    reason: String,
    /// `removed`, `would-be-removed`, `stays` or `failed`.
    outcome: &'static str,
}

/// Removes what was kept of machines and restored: their repository has every commit of it. With names or `--all`, also
/// what it lacks.
///
/// # Errors
/// The user declines, or something cannot be removed.
pub fn prune(context: &Context, args: &PruneArgs) -> Result<()> {
    let state = &context.state;
    // Nobody has seen yet what is in them.
    let half_done: Vec<_> = kept::all(state)?.into_iter().filter(Kept::is_half_done).map(|kept| kept.path).collect();
    let mut locked = lock(context)?;
    let Chosen { mut going, mut done, are_lost } = choose(context, args, &half_done)?;
    if !args.dry_run && !args.yes && !going.is_empty() && require_can_ask(going.len(), are_lost)? {
        // Other commands need not wait for the answer.
        drop(locked);
        ask(&going, are_lost)?;
        locked = lock(context)?;
        let again = choose(context, args, &half_done)?;
        let was_asked = |(kept, reason): &(Kept, String)| {
            going.iter().any(|(asked, because)| asked.path == kept.path && because == reason)
        };
        let (still, changed): (Vec<_>, Vec<_>) = again.going.into_iter().partition(was_asked);
        let stays = |(kept, reason): (Kept, String)| Pruned {
            name: kept.named.stem,
            reason: format!("it changed since the question: {reason}"),
            outcome: "stays",
        };
        done = again.done.into_iter().chain(changed.into_iter().map(stays)).collect();
        going = still;
    }
    for (kept, reason) in going {
        let removed = || match kept.presence {
            Presence::Here => kept::remove(state, &kept),
            Presence::Missing | Presence::Away => kept::forget(state, &kept.named.stem),
        };
        let outcome = match args.dry_run {
            true => "would-be-removed",
            false => removed().map_or_else(
                |error| {
                    note(&format!("{} was not removed: {error:#}", kept.named.stem));
                    "failed"
                },
                |()| "removed",
            ),
        };
        done.push(Pruned { name: kept.named.stem, reason, outcome });
    }
    drop(locked);
    report(context, &done)
}

/// What to remove, and what stays.
struct Chosen {
    /// With the reasons.
    going: Vec<(Kept, String)>,
    done: Vec<Pruned>,
    /// How many have work that nothing else has.
    are_lost: usize,
}

/// Looks what can be removed. The caller holds the lock.
fn choose(context: &Context, args: &PruneArgs, half_done: &[PathBuf]) -> Result<Chosen> {
    let state = &context.state;
    let all = kept::all(state)?;
    if !args.dry_run {
        kept::remove_rests(state, &all)?;
    }
    let is_named = !args.names.is_empty();
    let mut chosen = match is_named {
        true => args.names.iter().map(|name| kept::find(state, name)).collect::<Result<Vec<_>>>()?,
        false => all.clone(),
    };
    let least = args.older_than.map(|age| Timestamp::now().as_second().saturating_sub_unsigned(age.as_secs()));
    chosen.retain(|kept| least.is_none_or(|least| kept.named.kept.as_second() <= least));
    let mut seen = BTreeSet::new();
    chosen.retain(|kept| seen.insert(kept.path.clone()));
    let removed = all.iter().map(|kept| kept.path.clone()).chain([state.path().to_owned()]).collect::<Vec<_>>();
    let scratch = scratch(state)?;
    let mut done = Vec::new();
    let (mut going, mut are_lost) = (Vec::new(), 0);
    for kept in chosen {
        if half_done.contains(&kept.path) {
            let reason = "a killed destroy left it half done".to_owned();
            done.push(Pruned { name: kept.named.stem, reason, outcome: "stays" });
            continue;
        }
        let standing = standing(state, &kept, &removed, scratch.path())?;
        let is_going = match &standing {
            Standing::Restored(_) | Standing::Gone => true,
            Standing::Lacks(_) => is_named || args.all,
            Standing::Unreadable(_) | Standing::Away(_) => is_named && args.yes,
        };
        are_lost += usize::from(is_going && !matches!(standing, Standing::Restored(_) | Standing::Gone));
        let reason = reason(&standing);
        match is_going {
            true => going.push((kept, reason)),
            false => done.push(Pruned { name: kept.named.stem, reason, outcome: "stays" }),
        }
    }
    Ok(Chosen { going, done, are_lost })
}

fn report(context: &Context, done: &[Pruned]) -> Result<()> {
    if context.json {
        print_json(&done)?;
    } else {
        let lines =
            done.iter().map(|one| format!("{}: {} ({})\n", one.name, one.outcome.replace('-', " "), one.reason));
        print(&lines.collect::<String>())?;
        if done.is_empty() {
            note("nothing is kept");
        }
    }
    match done.iter().filter(|one| one.outcome == "failed").count() {
        0 => Ok(()),
        failed => Err(Failure::new(format!("failed to remove {failed} of what was kept"))
            .with_hint("to see where they are: agent-vm kept list --json")
            .into()),
    }
}

/// Returns whether to ask. Without a terminal, only what a repository has is removed.
fn require_can_ask(going: usize, are_lost: usize) -> Result<bool> {
    if are_lost == 0 || can_ask() {
        return Ok(can_ask());
    }
    Err(Failure::new(format!("the work in {are_lost} of {going} would be lost"))
        .with_hint(
            "to restore one: agent-vm kept restore KEPT\nto remove them all the same: repeat the command with --yes",
        )
        .into())
}

fn ask(going: &[(Kept, String)], are_lost: usize) -> Result<()> {
    for (kept, reason) in going {
        note(&format!("{}: {reason}", kept.named.stem));
    }
    let lost = if are_lost > 0 { format!(" The work in {are_lost} of them is lost.") } else { String::new() };
    let what = count(going.len(), "kept bundle or workspace").replace("bundle or workspaces", "bundles or workspaces");
    if confirmed(&format!("Remove {what}?{lost} [y/N] "))? {
        return Ok(());
    }
    Err(Failure::new("nothing was removed")
        .with_hint("to remove them without a question: agent-vm kept prune --yes")
        .into())
}

/// Looks whether the repository that it came from, or the one that it was restored into, has everything of its own, and not in
/// one of the paths `removed`.
fn standing(state: &StateDir, kept: &Kept, removed: &[PathBuf], scratch: &Path) -> Result<Standing> {
    match kept.presence {
        Presence::Here => {}
        // `destroy` writes the record first, and removes the machine last.
        Presence::Missing if Machine::new(state, kept.named.machine.clone()).exists() => {
            return Ok(Standing::Away("it is not there, but its machine is"));
        }
        Presence::Missing => return Ok(Standing::Gone),
        Presence::Away => {
            return Ok(Standing::Away("its directory does not exist, or its disk is not mounted"));
        }
    }
    let restored = kept.record.as_ref().and_then(|record| record.restored.as_deref());
    let dirs: Vec<_> = restored.into_iter().chain(kept.source().filter(|source| Some(*source) != restored)).collect();
    let mut lacking = None;
    for dir in dirs {
        let Some(source) = Source::discover(dir).ok().flatten().filter(|source| source.dir == dir) else { continue };
        match lacks(kept, &source, removed, scratch) {
            Ok(None) => return Ok(Standing::Restored(source.dir)),
            Ok(Some(what)) => drop(lacking.get_or_insert(format!("{} lacks {what}", source.dir.display()))),
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => return Ok(Standing::Unreadable(format!("{error:#}"))),
        }
    }
    if let Some(lacking) = lacking {
        return Ok(Standing::Lacks(lacking));
    }
    match open(kept, None, scratch) {
        Ok(held) => {
            let what = held.contents.describe();
            let what = if what.is_empty() { "its work".to_owned() } else { what };
            Ok(Standing::Lacks(format!("no repository is known that has {what}")))
        }
        Err(error) if error.is::<Interrupted>() => Err(error),
        Err(error) => Ok(Standing::Unreadable(format!("{error:#}"))),
    }
}

/// Returns what a repository lacks; None if it has everything.
fn lacks(kept: &Kept, source: &Source, removed: &[PathBuf], scratch: &Path) -> Result<Option<String>> {
    for dir in removed {
        if let Some(store) = source.store_in(dir)? {
            return Ok(Some(format!("objects of its own: it uses those in {}", store.display())));
        }
    }
    let held = open(kept, Some(source), scratch)?;
    if fetch::is_shallower(source, &held)? {
        return Ok(Some("a part of the history, because it is shallow".to_owned()));
    }
    let left_out = held.left_out(Some(source));
    if !left_out.is_empty() {
        return Ok(Some(left_out.join(", ")));
    }
    if fetch::has_everything(source, &held, scratch)? {
        let damaged = held.is_damaged_in_source()?.then(|| "an object that is not damaged".to_owned());
        return Ok(damaged);
    }
    let what = held.contents.describe();
    Ok(Some(if what.is_empty() { "some of its objects".to_owned() } else { what }))
}

fn reason(standing: &Standing) -> String {
    one_line(&match standing {
        Standing::Restored(dir) => format!("{} has everything of it", dir.display()),
        Standing::Lacks(what) => what.clone(),
        Standing::Gone => "it was moved or removed".to_owned(),
        Standing::Unreadable(why) => format!("it cannot be read completely: {why}"),
        Standing::Away(why) => (*why).to_owned(),
    })
}
