//! Fetches what a machine of another host has into the repository of this one.

use std::process::ExitCode;

use anyhow::Result;

use super::Drive;
use crate::cli::commands::{diff, fetch as here, fetching};
use crate::cli::target;
use crate::git::fetch::Fetched;
use crate::git::fetch::mirrored::{self, Mirrored};
use crate::git::workspace::Limit;
use crate::machine::Machine;
use crate::remote::other_host::request::{Ask, FetchedThere};
use crate::term::error::Failure;
use crate::term::progress;
use crate::term::text::one_line;

/// Fetches, and prints the changed references.
///
/// # Errors
/// Git refuses an object, or the host cannot be reached.
pub fn fetch(drive: &Drive<'_>, args: &here::FetchArgs) -> Result<ExitCode> {
    match bring(drive, !args.committed, args.max_size << 20)? {
        Ok((machine, fetched)) => here::finish(&drive.context, args, &machine, &fetched).map(|()| ExitCode::SUCCESS),
        Err(code) => Ok(code),
    }
}

/// Fetches if this host knows nothing of the machine yet.
///
/// # Errors
/// As [`fetch`], or the other host has no such machine.
pub fn require_fetched(drive: &Drive<'_>) -> Result<()> {
    if target::find_used(&drive.context.state, drive.named().as_deref()).is_ok() {
        return Ok(());
    }
    bring(drive, true, fetching::MAX_SIZE)?
        .map(drop)
        .map_err(|_| Failure::new(format!("nothing was fetched from {}", drive.connection.host().shown())).into())
}

/// Fetches what a task has made, prints the changed files, and returns the machine's name.
///
/// # Errors
/// See [`fetch`].
pub fn after_run(drive: &Drive<'_>) -> Result<Result<String, ExitCode>> {
    match bring(drive, true, fetching::MAX_SIZE)? {
        Ok((machine, fetched)) => {
            here::report(&machine, &fetched)?;
            diff::stat(&drive.context, &machine)?;
            Ok(Ok(machine.name.to_string()))
        }
        Err(code) => Ok(Err(code)),
    }
}

/// Fetches everything from a machine that is about to be removed, and prints what is new.
///
/// # Errors
/// As [`fetch`], or the other host cannot fetch from the machine. It must not be removed: only the other host would have its
/// commits, and nothing there would name them.
pub fn before_removal(drive: &Drive<'_>) -> Result<()> {
    match bring(drive, true, fetching::MAX_SIZE)? {
        // Its JSON is that of the removal.
        Ok(_) if drive.context.json => Ok(()),
        Ok((machine, fetched)) => here::report(&machine, &fetched),
        Err(_) => Err(Failure::new(format!("nothing was fetched from {}", drive.connection.host().shown()))
            .with_hint("to remove it, and keep its work on the other host: run agent-vm destroy there")
            .into()),
    }
}

/// Has the other host fetch from the machine, and fetches from there.
fn bring(drive: &Drive<'_>, uncommitted: bool, most: u64) -> Result<Result<(Machine, Fetched), ExitCode>> {
    let ask = Ask::Fetch { named: drive.named(), repository: drive.repository.clone(), uncommitted, most };
    let host = drive.connection.host().shown();
    let there = progress::step(&format!("fetching from the machine of {host}"), || drive.ask::<FetchedThere>(&ask))?;
    let there = match there {
        Ok(there) => there,
        Err(code) => return Ok(Err(code)),
    };
    let below = there.prefix.strip_prefix("refs/agent-vm/").and_then(|below| below.strip_suffix('/'));
    let valid = |name: &str| gix_validate::reference::name_partial(name.into()).is_ok() && !name.contains('/');
    if !below.is_some_and(valid) || !there.path.starts_with('/') {
        return Err(Failure::new("the other host sent a place that is no machine's").into());
    }
    let machine = drive.view(&there.name, there.settings)?;
    let source = fetching::source_of(&machine, &machine.settings()?)?;
    let wanted = Mirrored {
        state: &machine.state,
        name: &machine.name,
        source: &source,
        link: &drive.link(&there.path, "upload-pack")?,
        prefix: &there.prefix,
        has_looked_at_files: there.has_looked_at_files && uncommitted,
        scratch: &machine.dir,
        limit: Limit { bytes: most, raise: "agent-vm fetch" },
    };
    let _lock = machine.lock(drive.context.deadline())?;
    let fetched = progress::step(&format!("fetching from {host}"), || mirrored::fetch(&wanted))?;
    let left_out = there.left_out.iter().map(|text| one_line(text)).collect();
    Ok(Ok((machine, Fetched { left_out, ..fetched })))
}
