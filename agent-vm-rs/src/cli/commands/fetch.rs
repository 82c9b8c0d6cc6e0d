//! `agent-vm fetch`

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::Target;
use super::fetching::{MAX_SIZE, fetch_from, source_of};
use super::reviewed;
use crate::cli::target;
use crate::git::fetch::{Fetched, Update};
use crate::git::fetched::FetchedRefs;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::term::error::Failure;
use crate::term::output::{print, print_json};
use crate::term::progress::note;
use crate::term::text::{count, short_id};

/// Largest number of changed references that are printed.
const MOST_PRINTED: usize = 50;

/// Flags of `fetch`.
#[derive(Args, Clone, Debug)]
pub struct FetchArgs {
    #[command(flatten)]
    target: Target,
    /// Do not fetch uncommitted changes
    #[arg(long)]
    pub committed: bool,
    /// Also write the uncommitted changes to a file, for `git apply`
    #[arg(long, conflicts_with = "committed")]
    worktree: bool,
    /// The file, which is replaced; implies --worktree [default: MACHINE-uncommitted.patch]
    #[arg(short, long, value_name = "FILE", conflicts_with = "committed")]
    output: Option<PathBuf>,
    /// Largest size of new commits' files, in MiB
    #[arg(long, value_name = "MIB", default_value_t = MAX_SIZE >> 20, value_parser = clap::value_parser!(u64).range(1..1 << 20))]
    pub max_size: u64,
}

/// Fetches what a machine has into its source repository and prints the changed references.
///
/// # Errors
/// There is no such machine, its source repository is missing, or its workspace cannot be read.
pub fn fetch(context: &Context, args: &FetchArgs) -> Result<()> {
    let machine = target::find_used(&context.state, args.target.as_deref())?;
    let fetched = fetch_from(context, &machine, !args.committed, args.max_size << 20)?;
    finish(context, args, &machine, &fetched)
}

/// Writes the file of uncommitted changes, if one is wanted, and prints the changed references.
///
/// # Errors
/// The file cannot be written.
pub fn finish(context: &Context, args: &FetchArgs, machine: &Machine, fetched: &Fetched) -> Result<()> {
    let patch = match args.worktree || args.output.is_some() {
        true => write_changes(machine, fetched, args.output.as_deref())?,
        false => None,
    };
    if context.json {
        let mut value = serde_json::to_value(fetched)?;
        if args.worktree || args.output.is_some() {
            value["patch"] = serde_json::json!(patch);
        }
        return print_json(&value);
    }
    report(machine, fetched)
}

/// Prints the changed references.
///
/// # Errors
/// Stdout is closed or full.
pub fn report(machine: &Machine, fetched: &Fetched) -> Result<()> {
    print(&describe(machine, fetched))
}

/// Writes the uncommitted changes to a file and returns its path; None if there are none.
fn write_changes(machine: &Machine, fetched: &Fetched, output: Option<&Path>) -> Result<Option<PathBuf>> {
    let name = &machine.name;
    if !fetched.has_looked_at_files {
        return Err(Failure::new(format!("the uncommitted changes of {name} were not fetched"))
            .with_hint(format!("in the machine, see what they are: agent-vm exec {name} -- git status"))
            .into());
    }
    let refs = FetchedRefs::of(&source_of(machine, &machine.settings()?)?, machine)?;
    let Some((base, changes)) = refs.uncommitted()? else {
        note(&format!("{name} has no uncommitted changes"));
        return Ok(None);
    };
    let file = output.map_or_else(|| PathBuf::from(format!("{name}-uncommitted.patch")), Path::to_owned);
    let base = base.as_deref().unwrap_or_else(|| reviewed::empty_tree(&changes));
    let git = refs.git().args(["diff", "--no-ext-diff", "--no-textconv", "--no-color", "--binary", "--full-index"]);
    reviewed::write_patch(&git.arg(base).arg(&changes).arg("--"), &file)?;
    Ok(Some(file))
}

fn describe(machine: &Machine, fetched: &Fetched) -> String {
    let name = &machine.name;
    if fetched.updates.is_empty() {
        return format!("{name} has nothing new\n");
    }
    let lines = fetched.updates.iter().take(MOST_PRINTED).map(line);
    let mut text: String =
        std::iter::once(format!("{name}: {}\n", count(fetched.commits, "new commit"))).chain(lines).collect();
    if fetched.updates.len() > MOST_PRINTED {
        let more = fetched.updates.len() - MOST_PRINTED;
        text += &format!("  and {more} more: git for-each-ref {}\n", fetched.prefix);
    }
    text
}

fn line(update: &Update) -> String {
    let [old, new] = [&update.old, &update.new].map(|id| id.as_deref().map_or("", short_id));
    let what = match (&update.old, &update.new, &update.former) {
        (None, ..) => format!("new        {new}"),
        (_, None, _) => format!("removed    {old}"),
        (.., Some(_)) => format!("rewritten  {old} -> {new}"),
        _ => format!("updated    {old} -> {new}"),
    };
    let former = update.former.as_ref().map_or_else(String::new, |former| format!("  (before: {former})"));
    format!("  {what}  {}{former}\n", update.reference)
}
