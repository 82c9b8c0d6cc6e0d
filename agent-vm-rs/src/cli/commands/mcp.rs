//! `agent-vm mcp`

use std::io;

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use super::Target;
use crate::cli::target;
use crate::guest::Guest;
use crate::guest::running::running;
use crate::host::process::Invocation;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::policy::Grammar;
use crate::machine::run_state::RunFacts;
use crate::mcp::bridge::{self, Link, Output};
use crate::mcp::endpoint::{Endpoint, Timeouts, renewal};
use crate::remote::servers::Servers;
use crate::remote::ssh::Ssh;
use crate::term::error::Failure;
use crate::term::progress::note;
use crate::term::text::one_line;

/// Time limit for connecting to the machine, and for the last answers after the client has closed its end.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Time limit for the guest's report of its servers.
const REPORT: Duration = Duration::from_secs(5);

/// Flags of `mcp`.
#[derive(Args, Clone, Debug)]
pub struct McpArgs {
    #[command(flatten)]
    target: Target,
    /// Use this named server of the machine and not the default one
    #[arg(long, value_name = "NAME", value_parser = server_name)]
    server: Option<String>,
    /// Start the machine if it is not running
    #[arg(long)]
    start: bool,
}

/// Parses a server's name, which becomes a segment of a URL.
///
/// # Errors
/// It is empty, too long, or has other characters than the guest accepts.
pub fn server_name(text: &str) -> Result<String, String> {
    if Grammar::ServerName.matches(text) {
        Ok(text.to_owned())
    } else {
        Err("not a server name: use letters, digits, '.', '_' and '-', at most 64".to_owned())
    }
}

/// Bridges the machine's MCP server to standard input and output.
///
/// # Errors
/// The machine is not running, or its certificate or token is missing.
pub fn mcp(context: &Context, args: &McpArgs) -> Result<()> {
    let machine = target::find(&context.state, args.target.as_deref())?;
    if args.start && machine.run().qemu().is_none() {
        start(context, &machine)?;
    }
    let (guest, facts) = running(&machine)?;
    if let Err(error) = renewal::renew_if_due(&machine, &guest.manifest.certificate_receiver(), &facts) {
        note(&format!("warning: {error:#}"));
    }
    if let Some(name) = &args.server {
        require_server(context, &machine, &guest, &facts, name)?;
    }
    let service = &guest.manifest.service;
    let path = match &args.server {
        Some(name) => format!("{}/{name}{}", service.servers_path, service.mcp_path),
        None => service.mcp_path.clone(),
    };
    // A tool may run for any time, so only connecting has a limit.
    let limit = context.timeout.unwrap_or(TIMEOUT);
    let timeouts = Timeouts { connect: Some(limit), whole: None };
    let endpoint = Endpoint::of(&machine, &facts, timeouts)?;
    let (context, may_start, dir) = (context.clone(), args.start, machine.dir.clone());
    let find = move |wanted: bool| find_again(&context, &machine, may_start && wanted, timeouts);
    bridge::run(Link::new(dir, endpoint, path, limit, Box::new(find)), Output::new(io::stdout())?, io::stdin())
}

/// Returns the endpoint of a machine that was lost; None while another command, such as `restart`, works on the machine.
///
/// # Errors
/// The machine does not run.
fn find_again(context: &Context, machine: &Machine, may_start: bool, timeouts: Timeouts) -> Result<Option<Endpoint>> {
    match running(machine) {
        Ok((_, facts)) => Endpoint::of(machine, &facts, timeouts).map(Some),
        Err(_) if machine.exists() && machine.is_locked()? => Ok(None),
        Err(_) if may_start => {
            start(context, machine)?;
            let (_, facts) = running(machine)?;
            Endpoint::of(machine, &facts, timeouts).map(Some)
        }
        Err(error) => Err(error),
    }
}

/// Checks that the guest reports a server with this name. A guest that does not answer is left to the client's own requests.
///
/// # Errors
/// The guest reports other servers only.
pub fn require_server(context: &Context, machine: &Machine, guest: &Guest, facts: &RunFacts, name: &str) -> Result<()> {
    let ssh = Ssh::to(machine, &guest.manifest, facts, context.verbosity);
    let servers = match Servers::ask(&ssh, &guest.manifest, REPORT) {
        Ok(Some(report)) => report.servers,
        Ok(None) => return Ok(()),
        Err(error) => {
            tracing::info!("failed to query the machine's servers: {error:#}");
            return Ok(());
        }
    };
    if servers.iter().any(|server| server.name == name) {
        return Ok(());
    }
    let names: Vec<_> = servers.iter().map(|server| server.name.as_str()).collect();
    Err(Failure::new(format!("{} has no MCP server {name}", machine.name))
        .with_hint(format!("its servers: {}", names.join(", ")))
        .into())
}

/// Starts the machine in a separate process, which continues even if the client stops waiting.
fn start(context: &Context, machine: &Machine) -> Result<()> {
    let program = crate::host::programs::own_path()?;
    Invocation::new(program)
        .with_our_environment()
        .arg("--state-dir")
        .arg(context.state.path())
        .args(context.timeout.map(|limit| format!("--timeout={}", limit.as_secs())))
        .args(["start", machine.name.as_str()])
        .run_with_progress()
        .with_context(|| Failure::new(format!("failed to start {}", one_line(machine.name.as_str()))))
}
