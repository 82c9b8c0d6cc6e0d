//! `agent-vm diff`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{Target, reviewed};
use crate::cli::target;
use crate::git::fetched::Compared;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::term::output::print_json;

/// Flags of `diff`.
#[derive(Args, Clone, Debug, Default)]
pub struct DiffArgs {
    #[command(flatten)]
    target: Target,
    /// List the changed files and the number of changed lines
    #[arg(long)]
    stat: bool,
    /// Without uncommitted changes
    #[arg(long)]
    committed: bool,
    /// Branch of the machine [default: its own]
    #[arg(long = "ref", value_name = "NAME")]
    reference: Option<String>,
    /// Write the exact changes to a file, for `git apply`
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show only changes of these files or directories
    #[arg(last = true, value_name = "PATH")]
    paths: Vec<String>,
}

/// Prints the fetched changes of a machine, committed or not, since its branch left the source's.
///
/// # Errors
/// There is no such machine, its source repository is missing, or it cannot be read.
pub fn diff(context: &Context, args: &DiffArgs) -> Result<()> {
    let machine = target::find_used(&context.state, args.target.as_deref())?;
    show(context, args, &machine)
}

/// Prints the changed files of a machine, and the number of changed lines.
///
/// # Errors
/// As [`diff`].
pub fn stat(context: &Context, machine: &Machine) -> Result<()> {
    show(context, &DiffArgs { stat: true, ..DiffArgs::default() }, machine)
}

fn show(context: &Context, args: &DiffArgs, machine: &Machine) -> Result<()> {
    let reviewed::Reviewed { refs, settings, .. } = reviewed::fetched(context, machine)?;
    let branch = args.reference.as_deref().unwrap_or(settings.branch.as_str());
    let Compared { tip, base, uncommitted } = refs.compared(branch, &settings.branch)?;
    let empty = reviewed::empty_tree(&tip.commit).to_owned();
    let tip = uncommitted.filter(|_| !args.committed).unwrap_or(tip);
    let git = refs.git().args(["diff", "--no-ext-diff", "--no-textconv", "--no-color"]);
    let range = [base.clone().unwrap_or(empty), tip.commit.clone()];
    let range = range.into_iter().chain(["--".to_owned()]).chain(args.paths.iter().cloned());
    if context.json {
        let printed = git.args(["--numstat", "-z", "--no-renames"]).args(range).checked()?.stdout;
        return print_json(&serde_json::json!({
            "base": base, "reference": tip.reference, "commit": tip.commit, "files": reviewed::files(&printed),
        }));
    }
    if let Some(file) = &args.output {
        return reviewed::write_patch(&git.args(["--binary", "--full-index"]).args(range), file);
    }
    reviewed::show(&git.args(args.stat.then_some("--stat")).args(range))
}
