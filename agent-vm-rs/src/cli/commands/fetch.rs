//! `agent-vm fetch`

use anyhow::Result;
use clap::Args;

use super::Target;
use super::fetching::{MAX_SIZE, fetch_from};
use crate::cli::target;
use crate::git::fetch::{Fetched, Update, namespace};
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::term::output::{print, print_json};
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
    committed: bool,
    /// Largest size of new commits' files, in MiB
    #[arg(long, value_name = "MIB", default_value_t = MAX_SIZE >> 20, value_parser = clap::value_parser!(u64).range(1..1 << 20))]
    max_size: u64,
}

/// Fetches what a machine has into its source repository and prints the changed references.
///
/// # Errors
/// There is no such machine, its source repository is missing, or its workspace cannot be read.
pub fn fetch(context: &Context, args: &FetchArgs) -> Result<()> {
    let machine = target::find_used(&context.state, args.target.as_deref())?;
    let fetched = fetch_from(context, &machine, !args.committed, args.max_size << 20)?;
    if context.json {
        return print_json(&fetched);
    }
    print(&describe(&machine, &fetched))
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
        text += &format!("  and {more} more: git for-each-ref {}\n", namespace(name));
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
