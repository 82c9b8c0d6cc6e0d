//! Starts machines together with their watchers.

use std::path::Path;

use anyhow::Result;

use crate::machine::Machine;
use crate::machine::context::Context;
use crate::term::progress::note;
use crate::vm::launch;
use crate::watch::keep;

/// Starts a machine, as [`launch::launch`] does, and its watcher.
///
/// # Errors
/// Those of [`launch::launch`].
pub fn launch(context: &Context, machine: &Machine, package: Option<&Path>) -> Result<()> {
    let started = launch::launch(context, machine, package);
    watch(context, machine);
    started
}

/// Starts the watcher of a running machine unless it runs. Without it the machine works all the same.
pub fn watch(context: &Context, machine: &Machine) {
    if let Err(error) = keep::ensure(context, machine) {
        note(&format!("notice: {} is not watched: {error:#}", machine.name));
    }
}
