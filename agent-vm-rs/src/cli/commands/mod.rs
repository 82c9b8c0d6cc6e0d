//! The verbs, one file each.

pub mod apply;
pub mod attach;
pub mod checkout;
pub mod compare;
mod confirm;
mod connected;
pub mod cp;
pub mod create;
mod create_args;
pub mod destroy;
pub mod diff;
pub mod doctor;
pub mod edit;
pub mod egress;
mod egress_lists;
mod egress_suggest;
pub mod events;
pub mod exec;
pub mod export;
pub mod fetch;
pub mod fetching;
pub mod foreground;
pub mod image;
mod keeping;
pub mod kept;
mod leftovers;
pub mod limit_args;
pub mod list;
pub mod log;
pub mod logs;
pub mod mcp;
pub mod mcp_config;
pub mod merge;
pub mod metrics;
mod new_agents;
mod new_settings;
mod new_workspace;
pub mod open;
mod pick;
pub mod port;
pub mod profile;
pub mod prune;
pub mod ps;
pub mod push;
pub mod relink;
pub mod restart;
mod reviewed;
pub mod run;
pub mod set;
pub mod shell;
pub mod ssh_config;
pub mod start;
pub mod stats;
pub mod status;
pub mod stop;
pub mod up;
pub mod update;
mod watched;

use std::process::ExitCode;

use clap::Args;

/// The machine that a verb is about.
#[derive(Args, Clone, Debug, Default)]
pub struct Target {
    /// A branch of the current repository, or a machine's name [default: the current branch]
    #[arg(value_name = "BRANCH|MACHINE")]
    machine: Option<String>,
    /// The same, as a flag
    #[arg(long = "branch", value_name = "BRANCH", hide = true, conflicts_with = "machine")]
    branch: Option<String>,
}

impl Target {
    /// Returns what the user gave, if anything.
    #[must_use]
    pub fn as_deref(&self) -> Option<&str> {
        self.machine.as_deref().or(self.branch.as_deref())
    }
}

/// Converts another program's exit code.
#[must_use]
pub fn exit_with(code: i32) -> ExitCode {
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}
