//! `agent-vm update`

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::Target;
use crate::cli::target;
use crate::guest::flake_lock::FlakeLock;
use crate::guest::installation::Toolkit;
use crate::guest::manifest::Share;
use crate::guest::{Guest, Recipe, images, update as guest_update};
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::paths::MachinePath;
use crate::machine::settings::GuestKind;
use crate::machine::sweep;
use crate::term::output::print_json;
use crate::term::progress::note;
use crate::term::text::age;

/// Flags of `update`.
#[derive(Args, Clone, Debug)]
pub struct UpdateArgs {
    #[command(flatten)]
    target: Target,
}

/// Updates the inputs of a machine's guest and prints what changed. The next start builds the guest.
///
/// # Errors
/// Nix fails. The machine keeps its previous inputs.
pub fn update(context: &Context, args: &UpdateArgs) -> Result<()> {
    let machine = target::find_used(&context.state, args.target.as_deref())?;
    let _lock = machine.lock(context.deadline())?;
    let mut settings = machine.settings()?;
    if let Some(nix_args) = &context.nix_args {
        settings.nix_args.clone_from(nix_args);
    }
    if settings.guest == GuestKind::Debian {
        note(&no_lock(&machine));
        return if context.json { print_json(&json!({ "name": machine.name, "moved": [] })) } else { Ok(()) };
    }
    let recipe = Recipe::new(&settings, &Toolkit::locate()?, Share::Virtiofs)?;
    let scratch = machine.dir.join(sweep::scratch_name("update"));
    let moves = guest_update::update(&machine, &recipe, &scratch, context.verbosity)?;
    let name = &machine.name;
    if context.json {
        let moves: Vec<_> = moves
            .iter()
            .map(|one| json!({ "input": one.input, "from": one.from.as_ref().map(|pin| &pin.revision), "to": one.to.revision }))
            .collect();
        return print_json(&json!({ "name": name.as_str(), "moved": moves }));
    }
    if moves.is_empty() {
        let pins = FlakeLock::read(&MachinePath::FlakeLock.of(&machine.dir))?.pins();
        let pins: Vec<_> = pins.iter().map(|(input, pin)| format!("\n  {input}: {}", pin.describe())).collect();
        note(&format!("{name}: everything is up to date{}", pins.concat()));
        return Ok(());
    }
    for one in &moves {
        let from = one.from.as_ref().map_or_else(|| "nothing".to_owned(), crate::guest::flake_lock::Pin::describe);
        note(&format!("{}: {from} → {}", one.input, one.to.describe()));
    }
    let command = if machine.run().qemu().is_some() {
        format!("agent-vm restart {name}")
    } else {
        format!("agent-vm start {name}")
    };
    note(&format!("the next start of {name} builds the updated guest: {command}"));
    Ok(())
}

/// Explains how to update the Debian guest. Its lock is the snapshot of Debian, which all machines share.
fn no_lock(machine: &Machine) -> String {
    let name = &machine.name;
    let Ok(guest) = Guest::of(machine) else {
        return format!("{name} has no guest yet; its first start builds one: agent-vm start {name}");
    };
    let age = images::age(&guest.package).map_or_else(String::new, |old| format!(", {} old", age(old)));
    format!(
        "{name} has the debian guest, which has no lock of its own: its packages are those of a snapshot of Debian{age}.\n\
         To move all Debian guests to today's packages: agent-vm image update"
    )
}
