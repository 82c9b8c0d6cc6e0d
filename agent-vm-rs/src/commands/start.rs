//! `agent-vm start`

use anyhow::Result;
use clap::Args;

use super::{Target, print};
use crate::cli::Context;
use crate::machine::Machine;
use crate::progress::note;
use crate::report::Report;
use crate::{launch, target};

/// Flags of `start`.
#[derive(Args, Clone, Debug)]
pub struct StartArgs {
    #[command(flatten)]
    target: Target,
}

/// Starts a machine, waits until MCP answers, and says how to connect.
///
/// # Errors
/// The guest cannot be built, or does not come up.
pub fn start(context: &Context, args: &StartArgs) -> Result<()> {
    let machine = target::find(&context.state, args.target.as_deref())?;
    ensure_running(context, &machine)?;
    announce(context, &machine)
}

/// Starts a machine unless it runs; waits for whoever starts it now.
///
/// # Errors
/// As [`start`].
pub fn ensure_running(context: &Context, machine: &Machine) -> Result<()> {
    let _lock = machine.lock(context.deadline())?;
    let run = machine.run();
    match (run.qemu(), run.facts()) {
        (Some(qemu), Some(facts)) => {
            note(&format!("{} is running already", machine.name));
            launch::join(context, machine, &qemu, &facts)
        }
        _ => launch::launch(context, machine),
    }
}

/// Says how to connect to a running machine.
///
/// # Errors
/// It does not run any more.
pub fn announce(context: &Context, machine: &Machine) -> Result<()> {
    let (guest, facts) = super::running(machine)?;
    if context.json {
        return super::print_json(&Report::gather(context, machine)?);
    }
    let service = &guest.manifest.service;
    let target = machine.name.as_str();
    print(&format!(
        "{target} is running.\n\
         \x20 MCP    {mcp}   (SSE: {sse})\n\
         \x20 client agent-vm mcp-config {target} --client CLIENT   (or itself: agent-vm mcp {target})\n\
         \x20 shell  agent-vm shell {target}\n\
         \x20 logs   agent-vm logs {target}\n\
         \x20 stop   agent-vm stop {target}\n",
        mcp = facts.url(&service.mcp_path),
        sse = facts.url(&service.sse_path),
    ))
}
