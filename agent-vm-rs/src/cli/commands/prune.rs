//! `agent-vm prune`

use std::time::{Duration, SystemTime};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::confirm::{can_ask, confirmed};
use super::destroy;
use super::leftovers::{self, Leftover};
use crate::guest::images::used_bytes;
use crate::host::files::is_absent;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::declared::Declared;
use crate::machine::paths::MachinePath;
use crate::term::error::{Failure, Interrupted, hint_of, on_one_line};
use crate::term::output::{print, print_json};
use crate::term::progress::note;
use crate::term::text::{bytes, count};

/// Most files of a workspace that are examined, since a guest can create any number.
const MOST_LOOKED_AT: usize = 20_000;

/// The kind of a machine.
const MACHINE: &str = "machine";
/// Files that agent-vm itself writes while nobody uses a machine.
const UNCHANGED: [MachinePath; 4] =
    [MachinePath::Declared, MachinePath::Events, MachinePath::Samples, MachinePath::Failure];

/// Flags of `prune`.
#[derive(Args, Clone, Debug)]
pub struct PruneArgs {
    /// Print what would be removed and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Only machines unchanged for this long, such as 30d, 2w or 12h
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<Duration>,
    /// Do not ask for confirmation; without a terminal it never asks
    #[arg(short, long)]
    yes: bool,
    /// Remove every machine of the state directory, also those whose repository exists
    #[arg(long)]
    undeclared: bool,
}

pub(super) fn age(text: &str) -> Result<Duration, Failure> {
    let wrong = || {
        Failure::usage(format!("{:?} is not a duration", crate::term::text::one_line(text)))
            .with_hint("give a number with a unit: 30m, 12h, 30d or 2w")
    };
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let exact = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(exact).map_err(|_| wrong())
}

/// A machine or something else, and its outcome.
#[derive(Debug, Serialize)]
struct Pruned {
    /// `machine`, or the kind of a [`Leftover`].
    kind: &'static str,
    name: String,
    reason: String,
    /// `would-be-removed`, `removed` or `failed`.
    outcome: &'static str,
    /// Space that it used on the disk.
    bytes: u64,
}

/// Removes machines whose repository or declaring file no longer exists. Saves their commits as `destroy` does. A running
/// machine stays. Also removes files of ended runs, unused images and temporary files of killed commands.
///
/// # Errors
/// The user declines, or something cannot be removed. The rest is removed in the second case.
pub fn prune(context: &Context, args: &PruneArgs) -> Result<()> {
    let all = context.state.names()?.into_iter().map(|name| Machine::new(&context.state, name));
    let found: Vec<_> = all.filter_map(|machine| Some((reason(&machine, args)?, machine))).collect();
    if !args.dry_run && !args.yes && !found.is_empty() && can_ask() {
        let place = context.state.bundles().display().to_string();
        for (reason, machine) in &found {
            note(&format!("{}: {reason}.{}", machine.name, destroy::kept_of(machine, &place)?));
        }
        if !confirmed(&format!("Remove {}? [y/N] ", count(found.len(), "machine")))? {
            return Err(Failure::new("no machine was removed")
                .with_hint("to remove them without a question: agent-vm prune --yes")
                .into());
        }
    }
    let mut pruned = Vec::new();
    for (reason, machine) in found {
        let bytes = used_bytes(&machine.dir);
        let outcome = if args.dry_run { "would-be-removed" } else { remove(context, args, &machine)? };
        if !outcome.is_empty() {
            pruned.push(Pruned { kind: MACHINE, name: machine.name.to_string(), reason, outcome, bytes });
        }
    }
    let failed = pruned.iter().filter(|one| one.outcome == "failed").count();
    // After the machines, whose images may be unused by now.
    pruned.extend(clear_all(context, args.dry_run, |_| true)?);
    if context.json {
        print_json(&pruned)?;
    } else {
        print(&pruned.iter().map(line).collect::<String>())?;
        if pruned.iter().all(|one| one.kind != MACHINE) {
            note("no machine to remove");
        }
    }
    note_space(args.dry_run, &pruned);
    if failed == 0 {
        return all_removed(&pruned);
    }
    Err(Failure::new(format!("failed to remove {}", count(failed, "machine")))
        .with_hint("for each of them: agent-vm destroy MACHINE")
        .into())
}

/// Returns an error if something was not removed, whose reason was printed.
fn all_removed(pruned: &[Pruned]) -> Result<()> {
    let failed: Vec<_> = pruned.iter().filter(|one| one.outcome == "failed").map(|one| one.name.as_str()).collect();
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(format!("failed to remove {}", failed.join(", "))).into()) }
}

fn line(one: &Pruned) -> String {
    let what = if one.kind == MACHINE { String::new() } else { one.kind.replace('-', " ") + " " };
    format!("{what}{}: {} ({})\n", one.name, one.outcome.replace('-', " "), one.reason)
}

/// Prints how much space was freed.
fn note_space(dry_run: bool, pruned: &[Pruned]) {
    let freed: u64 = pruned.iter().filter(|one| one.outcome != "failed").map(|one| one.bytes).sum();
    if freed > 0 {
        note(&format!("{} {}", if dry_run { "would free" } else { "freed" }, bytes(freed)));
    }
}

/// Removes what is no machine and `wanted`, and prints it as [`prune`] does.
///
/// # Errors
/// The cache cannot be read, or something cannot be removed.
pub(super) fn leftovers_alone(context: &Context, dry_run: bool, wanted: impl Fn(&Leftover) -> bool) -> Result<()> {
    let pruned = clear_all(context, dry_run, wanted)?;
    if context.json {
        print_json(&pruned)?;
        return all_removed(&pruned);
    }
    print(&pruned.iter().map(line).collect::<String>())?;
    if pruned.is_empty() {
        note("nothing to remove");
    }
    note_space(dry_run, &pruned);
    all_removed(&pruned)
}

/// Removes what is no machine and `wanted`.
fn clear_all(context: &Context, dry_run: bool, wanted: impl Fn(&Leftover) -> bool) -> Result<Vec<Pruned>> {
    let mut pruned = Vec::new();
    for leftover in leftovers::all(context)?.into_iter().filter(wanted) {
        let outcome = if dry_run { "would-be-removed" } else { clear(context, &leftover)? };
        if !outcome.is_empty() {
            let Leftover { kind, name, reason, bytes, .. } = leftover;
            pruned.push(Pruned { kind, name, reason, outcome, bytes });
        }
    }
    Ok(pruned)
}

/// Removes something that is no machine, and returns the outcome; an empty one if it is in use meanwhile.
fn clear(context: &Context, leftover: &Leftover) -> Result<&'static str> {
    match leftovers::remove(context, leftover) {
        Ok(true) => Ok("removed"),
        Ok(false) => Ok(""),
        Err(error) if error.is::<Interrupted>() => Err(error),
        Err(error) => {
            note(&format!("notice: {} was not removed: {error:#}", leftover.name));
            Ok("failed")
        }
    }
}

/// Removes one machine and returns the outcome; an empty one if the machine is in use meanwhile.
fn remove(context: &Context, args: &PruneArgs, machine: &Machine) -> Result<&'static str> {
    let locked = machine.lock(context.deadline());
    // Another command removed it while this one waited for the lock.
    if locked.is_err() && !machine.exists() {
        return Ok("");
    }
    let removed = locked.and_then(|lock| {
        // Another command may have started, relinked or declared it while this one waited for the lock.
        if reason(machine, args).is_none() {
            return Ok("");
        }
        destroy::destroy_keeping_changes(context, machine).map(|()| {
            drop(lock);
            "removed"
        })
    });
    removed.or_else(|error| {
        if error.is::<Interrupted>() {
            return Err(error);
        }
        let hint = hint_of(&error).map_or_else(String::new, |hint| format!("; {}", on_one_line(&hint)));
        let (what, why) = (format!("{} was not removed: ", machine.name), format!("{error:#}"));
        note(&format!("{what}{}{hint}", why.strip_prefix(&what).unwrap_or(&why)));
        Ok("failed")
    })
}

/// Returns why a machine can be removed; None for one that stays.
fn reason(machine: &Machine, args: &PruneArgs) -> Option<String> {
    if machine.run().qemu().is_some() || args.older_than.is_some_and(|least| unchanged_for(machine) < least) {
        return None;
    }
    if args.undeclared {
        return Some("it is not declared".to_owned());
    }
    // Without readable settings, the repository is unknown.
    let settings = machine.settings().ok()?;
    let is_lost = machine.has_lost_source(&settings);
    if is_lost && Machine::may_be_unmounted(&settings) {
        note(&format!(
            "{name} stays: its repository {} may be on a disk that is not mounted\nto remove it all the same: agent-vm destroy {name}",
            settings.source.display(),
            name = machine.name
        ));
        return None;
    }
    if is_lost {
        return Some(format!("its repository {} does not exist", settings.source.display()));
    }
    let declared = Declared::read(machine).ok()??;
    // Its directory may be on a disk that is not mounted.
    let may_be_there = declared.file.parent().is_some_and(is_absent);
    (declared.is_gone() && !may_be_there).then(|| format!("its declaration {} does not exist", declared.file.display()))
}

/// Returns the time since the last change of a file in the machine's directory: settings, disk, run, or the upper part of
/// the workspace.
fn unchanged_for(machine: &Machine) -> Duration {
    let entries = std::fs::read_dir(&machine.dir).into_iter().flatten().flatten();
    let workspace = walkdir::WalkDir::new(machine.workspace()).follow_root_links(false).max_depth(2);
    let workspace = workspace.into_iter().take(MOST_LOOKED_AT).flatten();
    let paths = entries.map(|entry| entry.path()).chain(workspace.map(walkdir::DirEntry::into_path));
    let others = UNCHANGED.map(|path| path.of(&machine.dir));
    let times =
        paths.filter(|path| !others.contains(path)).filter_map(|path| path.symlink_metadata().ok()?.modified().ok());
    let newest = times.max().unwrap_or(SystemTime::UNIX_EPOCH);
    // A time in the future counts as now.
    SystemTime::now().duration_since(newest).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_numbers_with_units() {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        assert_eq!((age("30d").unwrap(), age("2w").unwrap(), age("0d").unwrap()), (days(30), days(14), days(0)));
        assert_eq!(age("12h").unwrap(), Duration::from_secs(12 * 3_600));
        for wrong in ["", "30", "d", "-1d", "1 month", "soon"] {
            assert!(age(wrong).is_err(), "{wrong} was accepted");
        }
    }
}
