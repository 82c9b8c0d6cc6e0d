//! `agent-vm log`

use anyhow::Result;
use clap::Args;

use super::{Target, reviewed};
use crate::cli::target;
use crate::machine::context::Context;
use crate::term::output::print_json;

/// Reads the range from standard input. The user may remove what it names meanwhile.
const RANGE: [&str; 2] = ["--ignore-missing", "--stdin"];

/// Flags of `log`.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    #[command(flatten)]
    target: Target,
    /// Print each commit on one line
    #[arg(long)]
    oneline: bool,
    /// Also list the changed files
    #[arg(long)]
    stat: bool,
    /// Also print the changes
    #[arg(short, long)]
    patch: bool,
    /// Number of commits to print
    #[arg(short = 'n', long, value_name = "N")]
    max_count: Option<u32>,
}

/// Prints the fetched commits of a machine that no reference of the source's own reaches.
///
/// # Errors
/// There is no such machine, its source repository is missing, or it cannot be read.
pub fn log(context: &Context, args: &LogArgs) -> Result<()> {
    let machine = target::find_used(&context.state, args.target.as_deref())?;
    let fetched = reviewed::fetched(context, &machine)?.refs;
    let tips = fetched.tips().into_iter().map(|tip| format!("{}\n", tip.commit));
    let range: String = tips.chain(fetched.own_objects().map(|id| format!("^{id}\n"))).collect();
    let mut git = fetched.git().args(["log", "--no-ext-diff", "--no-textconv", "--no-show-signature", "--decorate=no"]);
    git = git.args(args.max_count.map(|count| format!("--max-count={count}")));
    if fetched.tips().is_empty() {
        git = git.arg("--max-count=0");
    }
    if context.json {
        let printed = git.arg("-z").arg("--format=%H%n%an%n%ae%n%aI%n%s").args(RANGE).stdin(range).checked()?.stdout;
        return print_json(&reviewed::commits(&printed));
    }
    let flags = [(args.oneline, "--oneline"), (args.stat, "--stat"), (args.patch, "--patch")];
    reviewed::show(
        &git.args(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| *flag)).args(RANGE).stdin(range),
    )
}
