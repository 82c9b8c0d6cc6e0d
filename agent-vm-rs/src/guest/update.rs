//! Updates the inputs of a NixOS guest: its toolkit's nixpkgs, and the toolkit itself if it is a flake reference.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::Recipe;
use crate::guest::flake_lock::{FlakeLock, Pin};
use crate::guest::nix;
use crate::host::files::{make_dir_durably, make_private_dir, read_text, remove_file, remove_tree, write_file};
use crate::machine::Machine;
use crate::machine::paths::MachinePath;
use crate::term::error::Failure;
use crate::term::progress::note;
use crate::term::verbosity::Verbosity;

/// The toolkit's input that an update also moves.
const NIXPKGS: &str = "toolkit/nixpkgs";

/// An input whose pin changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Path of the input.
    pub input: String,
    /// The previous pin; None if there was no lock.
    pub from: Option<Pin>,
    /// The new pin.
    pub to: Pin,
}

/// The nixpkgs of a machine whose toolkit is a local directory. Such a toolkit is locked again for every build, which
/// would reset nixpkgs to the toolkit's own pin.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// The toolkit that this nixpkgs was chosen for.
    toolkit: String,
    /// Flake reference of the nixpkgs.
    nixpkgs: String,
}

/// Locks a machine's flake to the newest inputs, for the next start. Returns the changed pins. `scratch` is a
/// directory that does not exist yet.
///
/// # Errors
/// Nix fails or writes no lock. The machine keeps its previous lock.
pub fn update(machine: &Machine, recipe: &Recipe, scratch: &Path, verbosity: Verbosity) -> Result<Vec<Move>> {
    remove_tree(scratch)?;
    make_private_dir(scratch)?;
    let locked = lock_in(scratch, machine, recipe, verbosity);
    remove_tree(scratch)?;
    let (text, new) = locked?;
    let lock = MachinePath::FlakeLock.of(&machine.dir);
    let old = FlakeLock::read(&lock)?;
    make_dir_durably(&machine.flake(), 0o700)?;
    if let Some(nixpkgs) = new.pinned(NIXPKGS) {
        let kept = Kept { toolkit: recipe.toolkit.clone(), nixpkgs };
        write_file(&MachinePath::FlakeNixpkgs.of(&machine.dir), serde_json::to_string(&kept)?, 0o644)?;
    }
    write_file(&lock, text, 0o644)?;
    Ok(moved(&old.pins(), new.pins()))
}

fn lock_in(scratch: &Path, machine: &Machine, recipe: &Recipe, verbosity: Verbosity) -> Result<(String, FlakeLock)> {
    write_file(&scratch.join(MachinePath::FlakeText.file_name()), &recipe.flake, 0o644)?;
    let call = nix::Call { verbosity, args: &recipe.nix_args };
    let file = scratch.join(MachinePath::FlakeLock.file_name());
    let lock = |overriding: Option<(&str, &str)>| {
        let lock = nix::lock_flake(scratch, overriding, true, call)?.of_machine(&machine.dir);
        // Nix reports intermediate steps, which are not the changes of this update.
        let done = if verbosity == Verbosity::Normal { lock.checked().map(drop) } else { lock.run_with_progress() };
        done.context("failed to lock the guest's flake")
    };
    lock(None)?;
    if let Some(nixpkgs) = FlakeLock::read(&file)?.asked(NIXPKGS) {
        lock(Some((NIXPKGS, &nixpkgs)))?;
    }
    if !file.exists() {
        return Err(Failure::new("failed to lock the guest's flake: the toolkit has uncommitted changes")
            .with_hint("commit them in the toolkit's repository, then run the update again")
            .into());
    }
    Ok((read_text(&file)?, FlakeLock::read(&file)?))
}

fn moved(old: &BTreeMap<String, Pin>, new: BTreeMap<String, Pin>) -> Vec<Move> {
    let is_other = |input: &str, pin: &Pin| old.get(input).is_none_or(|was| was.revision != pin.revision);
    new.into_iter()
        .filter(|(input, pin)| is_other(input, pin))
        .map(|(input, to)| Move { from: old.get(&input).cloned(), input, to })
        .collect()
}

/// Locks a flake whose toolkit is a local directory: to the directory's present contents, and to the nixpkgs of the
/// last update if the toolkit is still the same.
///
/// # Errors
/// Nix fails.
pub(super) fn relock(machine: &Machine, recipe: &Recipe, verbosity: Verbosity) -> Result<()> {
    let flake = machine.flake();
    // The old lock pins the toolkit's former contents: Nix would refuse it or build from those.
    remove_file(&MachinePath::FlakeLock.of(&machine.dir))?;
    let file = MachinePath::FlakeNixpkgs.of(&machine.dir);
    if file.symlink_metadata().is_err() {
        return Ok(());
    }
    let kept = read_text(&file).ok().and_then(|text| serde_json::from_str::<Kept>(&text).ok());
    match kept {
        Some(kept) if kept.toolkit == recipe.toolkit => {
            let call = nix::Call { verbosity, args: &recipe.nix_args };
            let lock = nix::lock_flake(&flake, Some((NIXPKGS, &kept.nixpkgs)), false, call)?.of_machine(&machine.dir);
            lock.run_with_progress().context("failed to lock the guest's flake")
        }
        _ => {
            note(&format!(
                "notice: the toolkit changed, so the guest is built with the toolkit's own nixpkgs; to update that: agent-vm update {}",
                machine.name
            ));
            remove_file(&file)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_with_another_revision_have_moved() {
        let pins = |pins: &[(&str, &str)]| -> BTreeMap<String, Pin> {
            let pin = |(input, revision): &(&str, &str)| {
                ((*input).to_owned(), Pin { revision: (*revision).to_owned(), date: None })
            };
            pins.iter().map(pin).collect()
        };
        let old = pins(&[("a", "1"), ("b", "1"), ("gone", "1")]);
        let moves = moved(&old, pins(&[("a", "1"), ("b", "2"), ("new", "1")]));
        let short: Vec<_> = moves.iter().map(|one| (one.input.as_str(), one.from.is_some())).collect();
        assert_eq!(short, [("b", true), ("new", false)]);
    }
}
