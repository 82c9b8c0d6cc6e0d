//! `agent-vm doctor`

use anyhow::Result;
use clap::Args;

use crate::cli::target;
use crate::doctor::Report;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::term::error::EXIT_FAILURE;
use crate::term::output::{print, print_json};
use crate::term::terminal;

/// Flags of `doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Branches of the current repository, or names of machines [default: all machines]
    #[arg(value_name = "BRANCH|MACHINE")]
    machines: Vec<String>,
}

/// Checks this host and machines, and prints what is wrong with the commands that mend it. Returns the exit code: 1 if something
/// is an error.
///
/// # Errors
/// There is no such machine.
pub fn doctor(context: &Context, args: &DoctorArgs) -> Result<i32> {
    let names = context.state.names()?;
    let all: Vec<_> = names.into_iter().map(|name| Machine::new(&context.state, name)).collect();
    let named = match args.machines.as_slice() {
        [] => all.clone(),
        words => words.iter().map(|word| target::find_used(&context.state, Some(word))).collect::<Result<Vec<_>>>()?,
    };
    let report = Report::gather(&context.state, &all, &named)?;
    if context.json {
        print_json(&report)?;
    } else {
        let text = report.to_text(!args.machines.is_empty());
        print(&terminal::wrap(&text, terminal::width(std::io::stdout())))?;
    }
    Ok(if report.is_ok() { 0 } else { EXIT_FAILURE.into() })
}
