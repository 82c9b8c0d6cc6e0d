//! Fetches from a machine, for `fetch` and for commands that use what was fetched.

use anyhow::Result;

use crate::git::fetch::{self, Fetched, Request};
use crate::git::workspace::{is_no_space, is_unreadable};
use crate::git::{Origin, Source};
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::events::{self, What};
use crate::machine::settings::Settings;
use crate::term::error::{Failure, exit_code, hint_of};
use crate::term::progress::{self, note};

/// Default size limit of new commits' files, in bytes.
pub const MAX_SIZE: u64 = 1 << 30;

/// Returns the source repository of a machine.
///
/// # Errors
/// It is missing or cannot be used.
pub fn source_of(machine: &Machine, settings: &Settings) -> Result<Source> {
    match Origin::of(machine, settings) {
        Origin::Here(source) => Ok(source),
        Origin::Missing => Err(machine.lost_source(settings).into()),
        Origin::Unusable(error) => Err(error.context("its source cannot be used")),
    }
}

/// Fetches what a machine has into its source repository.
///
/// # Errors
/// The source repository is missing, or the workspace cannot be read.
pub fn fetch_from(context: &Context, machine: &Machine, uncommitted: bool, most: u64) -> Result<Fetched> {
    // `destroy` must not remove what is being read.
    let _lock = machine.lock(context.deadline())?;
    let settings = machine.settings()?;
    let source = source_of(machine, &settings)?;
    let request = Request {
        state: &machine.state,
        name: &machine.name,
        workspace: &machine.workspace(),
        source: &source,
        scratch: &machine.dir,
        uncommitted,
        most,
    };
    let fetched = progress::step(&format!("fetching from {}", machine.name), || fetch::fetch(&request));
    let fetched = fetched.map_err(|error| refused(machine, error))?;
    if !fetched.updates.is_empty() {
        let commits = u64::try_from(fetched.commits).unwrap_or(u64::MAX);
        events::record(&machine.dir, What::Fetched { commits });
    }
    for what in &fetched.left_out {
        note(&format!("not fetched from {}: {what}", machine.name));
    }
    Ok(fetched)
}

/// Returns an error with a way to save work that git cannot fetch.
fn refused(machine: &Machine, error: anyhow::Error) -> anyhow::Error {
    let name = &machine.name;
    let hint = match hint_of(&error) {
        _ if is_no_space(&error) => "make space on the disk of the source repository, and fetch again".to_owned(),
        Some(hint) => hint,
        None if is_unreadable(&error) => format!(
            "in the machine, see what is wrong: agent-vm exec {name} -- git fsck\nto save the whole workspace and remove the machine: agent-vm destroy {name} --keep workspace"
        ),
        None => return error.context(format!("failed to fetch from {name}")),
    };
    let exit = exit_code(&error);
    error.context(Failure::new(format!("failed to fetch from {name}")).with_hint(hint).exit(exit))
}
