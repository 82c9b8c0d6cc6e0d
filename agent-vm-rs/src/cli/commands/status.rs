//! `agent-vm status`

use anyhow::Result;
use clap::Args;

use super::Target;
use crate::cli::target;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::status::Report;
use crate::term::output::{print, print_json};
use crate::term::terminal;

/// Flags of `status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    target: Target,
}

/// Prints a machine's status. Problems of the machine are part of the output and no error.
///
/// # Errors
/// There is no such machine.
pub fn status(context: &Context, args: &StatusArgs) -> Result<()> {
    show(context, &target::find(&context.state, args.target.as_deref())?)
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
