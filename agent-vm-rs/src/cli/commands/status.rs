//! `agent-vm status`

use anyhow::Result;
use clap::Args;

use super::Target;
use crate::cli::target;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::status::Report;
use crate::term::output::{print, print_json};
use crate::term::progress::note;
use crate::term::terminal;

/// Flags of `status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    target: Target,
    /// All machines, without a look into their workspaces
    #[arg(long, conflicts_with_all = ["machine", "branch"])]
    all: bool,
}

/// Prints a machine's status. Problems of the machine are part of the output and no error.
///
/// # Errors
/// There is no such machine.
pub fn status(context: &Context, args: &StatusArgs) -> Result<()> {
    if args.all {
        return show_all(context);
    }
    show(context, &target::find(&context.state, args.target.as_deref())?)
}

fn show_all(context: &Context) -> Result<()> {
    let reports = Report::gather_all(context)?;
    if context.json {
        return print_json(&reports);
    }
    if reports.is_empty() {
        note("there are no machines yet; to create one for the current branch: agent-vm create");
    }
    let width = terminal::width(std::io::stdout());
    let texts: Vec<_> = reports.iter().map(|report| terminal::wrap(&report.to_text(), width)).collect();
    print(&texts.join("\n"))
}

/// Prints a machine's status.
///
/// # Errors
/// Stdout is closed.
pub fn show(context: &Context, machine: &Machine) -> Result<()> {
    let report = Report::gather(context, machine)?;
    if context.json {
        return print_json(&report);
    }
    print(&terminal::wrap(&report.to_text(), terminal::width(std::io::stdout())))
}
