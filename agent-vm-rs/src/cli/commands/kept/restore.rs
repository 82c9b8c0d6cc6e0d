//! `agent-vm kept restore`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{lock, open, scratch, unreadable};
use crate::cli::commands::fetching::MAX_SIZE;
use crate::cli::target;
use crate::git::Source;
use crate::git::fetch::{self, Restoring};
use crate::git::kept::{self, Facts, Kept, Record};
use crate::git::workspace::Limit;
use crate::host::files::quoted;
use crate::machine::context::Context;
use crate::term::error::Failure;
use crate::term::output::{print, print_json};
use crate::term::progress::{self, note};
use crate::term::text::{count, one_line};

/// Flags of `kept restore`.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// Its name, its path, or the machine's name
    #[arg(value_name = "KEPT")]
    name: String,
    /// Repository to restore it into [default: the one that it came from]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Largest size of new commits' files, in MiB
    #[arg(long, value_name = "MIB", default_value_t = MAX_SIZE >> 20, value_parser = clap::value_parser!(u64).range(1..1 << 20))]
    max_size: u64,
}

/// Brings what was kept of a machine into a repository, as `refs/agent-vm/MACHINE/kept/TIME/…`. It stays kept.
///
/// # Errors
/// There is none of this name, its repository is missing, or git cannot read it or refuses an object of it.
pub fn restore(context: &Context, args: &RestoreArgs) -> Result<()> {
    let _lock = lock(context)?;
    let kept = kept::find(&context.state, &args.name)?;
    let source = source(context, &kept, args.into.as_ref())?;
    source.require_own_objects(context.state.path())?;
    let scratch = scratch(&context.state)?;
    let raise = format!("agent-vm kept restore {}", kept.named.stem);
    let limit = Limit { bytes: args.max_size << 20, raise: &raise };
    let (prefix, updates, left_out, has_files, is_shallower) =
        progress::step(&format!("restoring {}", kept.named.stem), || {
            let held = open(&kept, Some(&source), scratch.path())?;
            let (machine, time) = (&kept.named.machine, kept.named.time.as_str());
            let state = &context.state;
            let restoring =
                Restoring { state, machine, time, held: &held, source: &source, scratch: scratch.path(), limit };
            let (prefix, updates) = fetch::restore(&restoring).map_err(|error| unreadable(&kept, error))?;
            let names = held.repositories.iter().flat_map(|repository| &repository.offers).map(|offer| &offer.name);
            let names: Vec<_> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
            let is_shallower = fetch::is_shallower(&source, &held)?;
            Ok((prefix, updates, held.left_out(Some(&source)), names, is_shallower))
        })?;
    for what in &left_out {
        note(&format!("not restored, only in {}: {}", kept.path.display(), one_line(what)));
    }
    if is_shallower {
        let (dir, quoted) = (source.dir.display(), quoted(&source.dir));
        note(&format!(
            "notice: {dir} is shallow and shows only a part of the history; if its remote has the rest: git -C {quoted} fetch --unshallow"
        ));
    }
    remember(context, &kept, &source);
    if context.json {
        return print_json(&json!({
            "name": kept.named.stem, "source": source.dir, "prefix": prefix, "updates": updates, "left_out": left_out,
        }));
    }
    let dir = quoted(&source.dir);
    let changed = if updates.is_empty() { "nothing new".to_owned() } else { count(updates.len(), "new reference") };
    let mut text = format!("restored {} into {}: {changed} below {prefix}\n", kept.named.stem, source.dir.display());
    text += &format!("  to see the commits: git -C {dir} log --oneline --glob='{prefix}*' --not --branches\n");
    let find = |end: &str| has_files.iter().find(|name| name.starts_with("heads/") && name.ends_with(end));
    let own = kept.branch().and_then(|branch| find(&format!("/{branch}")));
    if let Some(name) = own {
        text += &format!("  to merge them: git -C {dir} merge {}\n", quoted(format!("{prefix}{name}").as_ref()));
    }
    if let Some(name) = find("/uncommitted") {
        let name = quoted(format!("{prefix}{name}").as_ref());
        text += &format!("  to take the changed files: git -C {dir} cherry-pick --no-commit --mainline 1 {name}\n");
    }
    print(&text)
}

/// Returns the repository to restore into.
fn source(context: &Context, kept: &Kept, into: Option<&PathBuf>) -> Result<Source> {
    if let Some(into) = into {
        return target::repository(&context.state, Some(into));
    }
    let name = &kept.named.stem;
    let hint = format!("name a repository, which may be new (git init DIR): agent-vm kept restore {name} --into DIR");
    let Some(dir) = kept.source() else {
        return Err(Failure::new(format!("the repository that {name} came from is unknown")).with_hint(hint).into());
    };
    match Source::discover(dir) {
        Ok(Some(source)) if source.dir == dir => Ok(source),
        Err(error) if dir.exists() => Err(error),
        _ => Err(Failure::new(format!("the repository that {name} came from does not exist: {}", dir.display()))
            .with_hint(hint)
            .into()),
    }
}

/// Records where it was restored, so that `prune` finds it there.
fn remember(context: &Context, kept: &Kept, source: &Source) {
    let unknown = || Record { path: kept.path.clone(), facts: Facts::default(), mount: None, restored: None };
    let record = kept.record.clone().unwrap_or_else(unknown);
    let record = Record { restored: Some(source.dir.clone()), ..record };
    if let Err(error) = kept::write(&context.state, &record) {
        note(&format!("notice: what was restored is not recorded: {error:#}"));
    }
}
