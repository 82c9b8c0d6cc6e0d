//! `agent-vm mcp`

use std::io;

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use super::Target;
use crate::cli::target;
use crate::guest::running::running;
use crate::host::process::Invocation;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::policy::Grammar;
use crate::mcp::bridge::{self, Output, Session};
use crate::mcp::endpoint::{Endpoint, Timeouts, renewal};
use crate::term::error::Failure;
use crate::term::progress::note;
use crate::term::text::one_line;

/// For a connection to the machine, and for the last answers once the client has closed its end.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Flags of `mcp`.
#[derive(Args, Clone, Debug)]
pub struct McpArgs {
    #[command(flatten)]
    target: Target,
    /// A named server of the machine's, instead of the default one
    #[arg(long, value_name = "NAME", value_parser = server_name)]
    server: Option<String>,
    /// Start the machine if it does not run
    #[arg(long)]
    start: bool,
}

/// A server's name: a segment of a URL, as the guest's launcher has it.
///
/// # Errors
/// It is none.
pub fn server_name(text: &str) -> Result<String, String> {
    if Grammar::ServerName.matches(text) {
        Ok(text.to_owned())
    } else {
        Err("a server's name is letters, digits, '.', '_' and '-', 64 at most".to_owned())
    }
}

/// Is an MCP server on standard input and output, which is the machine's.
///
/// # Errors
/// The machine does not run, or its endpoint's certificate or token is gone.
pub fn mcp(context: &Context, args: &McpArgs) -> Result<()> {
    let machine = target::find(&context.state, args.target.as_deref())?;
    if args.start && machine.run().qemu().is_none() {
        start(context, &machine)?;
    }
    let (guest, facts) = running(&machine)?;
    if let Err(error) = renewal::renew_if_due(&machine, &guest.manifest.certificate_receiver(), &facts) {
        note(&format!("warning: {error:#}"));
    }
    let service = &guest.manifest.service;
    let path = match &args.server {
        Some(name) => format!("{}/{name}{}", service.servers_path, service.mcp_path),
        None => service.mcp_path.clone(),
    };
    // A tool may take as long as it takes: only the way to it has a limit.
    let limit = context.timeout.unwrap_or(TIMEOUT);
    let patience = Timeouts { connect: Some(limit), whole: None };
    let endpoint = Endpoint::of(&machine, &facts, patience)?;
    let session = Session::new(endpoint, path, Output::new(io::stdout()));
    bridge::run(session, io::stdin().lock(), limit)
}

/// By a process of its own, which is not cut short when the client that wants the machine gives up waiting.
fn start(context: &Context, machine: &Machine) -> Result<()> {
    let program = std::env::current_exe().context("failed to find this program")?;
    Invocation::new(program)
        .with_our_environment()
        .arg("--state-dir")
        .arg(context.state.path())
        .args(context.timeout.map(|limit| format!("--timeout={}", limit.as_secs())))
        .args(["start", machine.name.as_str()])
        .run_with_progress()
        .with_context(|| Failure::new(format!("failed to start {}", one_line(machine.name.as_str()))))
}
