//! The verbs, one file each.

pub mod create;
pub mod destroy;
pub mod egress;
pub mod exec;
pub mod list;
pub mod logs;
pub mod mcp;
pub mod mcp_config;
pub mod relink;
pub mod restart;
pub mod shell;
pub mod start;
pub mod status;
pub mod stop;
pub mod up;
pub mod update;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::error::Failure;
use crate::guest::Guest;
use crate::machine::Machine;
use crate::run_state::RunFacts;
use crate::text::plain_json;

/// Which machine a verb is about.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// A branch of the current repository, or a machine's name [default: the current branch]
    #[arg(value_name = "BRANCH|MACHINE")]
    machine: Option<String>,
    /// The same, as a flag
    #[arg(long = "branch", value_name = "BRANCH", hide = true, conflicts_with = "machine")]
    branch: Option<String>,
}

impl Target {
    /// What was typed, if anything.
    #[must_use]
    pub fn as_deref(&self) -> Option<&str> {
        self.machine.as_deref().or(self.branch.as_deref())
    }
}

/// Prints data: the only thing that goes to stdout.
///
/// # Errors
/// Stdout is closed or full.
pub fn print(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("failed to write to stdout")
}

/// Prints a value as JSON.
///
/// # Errors
/// As [`print`].
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(value).context("failed to write JSON")?;
    print(&(plain_json(&json) + "\n"))
}

/// An exit code that another program gave.
#[must_use]
pub fn exit_with(code: i32) -> ExitCode {
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The guest and the facts of a machine that runs.
///
/// # Errors
/// It does not run.
pub fn running(machine: &Machine) -> Result<(Guest, RunFacts)> {
    let run = machine.run();
    match (run.qemu(), run.facts()) {
        (Some(_), Some(facts)) => Ok((Guest::of(machine)?, facts)),
        _ => {
            let name = &machine.name;
            Err(Failure::new(format!("{name} is not running")).hint(format!("agent-vm start {name}")).into())
        }
    }
}
