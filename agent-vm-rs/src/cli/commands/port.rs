//! `agent-vm port`

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::cli::{resolve_settings, target};
use crate::host::lock::Lock;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::forward::{Forward, PortSpec};
use crate::machine::policy;
use crate::machine::settings::Settings;
use crate::remote::ssh::forwards::{self, ForwardState};
use crate::term::error::Failure;
use crate::term::output::{print, print_json};

/// Flags of `port`.
#[derive(Args, Clone, Debug)]
pub struct PortArgs {
    /// A branch of the current repository, or a machine's name; a number is a port [default: the current branch]
    #[arg(value_name = "BRANCH|MACHINE")]
    machine: Option<String>,
    /// The same, as a flag, also for a branch whose name is a number
    #[arg(long, value_name = "BRANCH", hide = true)]
    branch: Option<String>,
    /// Port in the machine, and port on this host if it is another one; without ports, list the forwarded ones
    #[arg(value_name = "GUEST[:HOST]")]
    ports: Vec<String>,
    /// Stop forwarding these ports
    #[arg(long)]
    pub remove: bool,
}

impl PortArgs {
    /// Returns what names the machine, if anything, and the words for ports.
    #[must_use]
    pub fn target(&self) -> (Option<&str>, Vec<&str>) {
        let first = self.machine.as_deref().filter(|word| self.branch.is_some() || PortSpec::is_meant(word));
        let machine = self.branch.as_deref().or(self.machine.as_deref().filter(|_| first.is_none()));
        (machine, first.into_iter().chain(self.ports.iter().map(String::as_str)).collect())
    }
}

/// Forwards ports of this host's loopback to a machine, or lists them.
///
/// # Errors
/// There is no such machine, or a port cannot be forwarded. The settings are then unchanged.
pub fn port(context: &Context, args: &PortArgs) -> Result<()> {
    let (named, words) = args.target();
    let specs = words.iter().map(|word| word.parse()).collect::<Result<Vec<PortSpec>, _>>()?;
    let machine = target::find_used(&context.state, named)?;
    if specs.is_empty() {
        if args.remove {
            return Err(Failure::usage("no port given to remove")
                .with_hint(format!("to list the forwarded ports: agent-vm port {}", machine.name))
                .into());
        }
        return show(context, &machine, &forwards::states(&machine, &machine.settings()?));
    }
    let lock = machine.lock(context.deadline())?;
    let before = machine.settings()?;
    let after =
        if args.remove { without(&machine, &before, &specs)? } else { with(context, &machine, &before, &specs)? };
    let states = adopt(context, &machine, &before, &after)?;
    drop(lock);
    show(context, &machine, &states)
}

/// Adds forwards to a machine's settings, and writes them.
fn with(context: &Context, machine: &Machine, before: &Settings, specs: &[PortSpec]) -> Result<Settings> {
    // Held until the settings are written, so that no other command chooses the same ports.
    let _ports = Lock::take(&machine.state.ports_lock(), context.deadline())?;
    let mut after = before.clone();
    for spec in specs {
        add(machine, &mut after, spec.forward())?;
    }
    if after != *before {
        machine.write_settings(&after)?;
    }
    Ok(after)
}

/// Adds one forward to settings, unless they have it.
///
/// # Errors
/// The port in the machine must not be forwarded, or the port of this host cannot be used.
pub fn add(machine: &Machine, settings: &mut Settings, forward: Forward) -> Result<()> {
    if settings.forwards.contains(&forward) {
        return Ok(());
    }
    let closed = policy::ports();
    if [closed.egress, closed.mcp_inner].contains(&forward.guest) {
        return Err(Failure::usage(format!("port {} of a machine cannot be forwarded", forward.guest))
            .with_hint(
                "every user of this host could then use the machine's network access or its tools; choose another port",
            )
            .into());
    }
    resolve_settings::Ports::check_forward(machine, settings, forward)?;
    settings.forwards.push(forward);
    Ok(())
}

fn without(machine: &Machine, before: &Settings, specs: &[PortSpec]) -> Result<Settings> {
    let mut after = before.clone();
    for spec in specs {
        let count = after.forwards.len();
        after.forwards.retain(|forward| !spec.names(*forward));
        if after.forwards.len() == count {
            return Err(Failure::new(format!("port {} of {} is not forwarded", spec.guest, machine.name))
                .with_hint(format!("to list the forwarded ports: agent-vm port {}", machine.name))
                .into());
        }
    }
    machine.write_settings(&after)?;
    Ok(after)
}

/// Has a running machine's forwards follow its new settings, which are written, and returns their states. If a new one fails, the
/// former settings are written again. The caller holds the machine's lock.
///
/// # Errors
/// A new forward fails.
pub fn adopt(context: &Context, machine: &Machine, before: &Settings, after: &Settings) -> Result<Vec<ForwardState>> {
    if machine.run().qemu().is_none() || machine.run().facts().is_none() {
        return Ok(forwards::states(machine, after));
    }
    let made = forwards::ensure(context, machine, after).and_then(|states| {
        let is_new = |state: &&ForwardState| {
            !before.forwards.contains(&Forward { guest: state.guest, host: state.host }) && state.error.is_some()
        };
        match states.iter().find(is_new) {
            Some(ForwardState { guest, host, error, .. }) => {
                let why = error.clone().unwrap_or_default();
                Err(Failure::new(format!("cannot forward port {host} to port {guest} of {}: {why}", machine.name))
                    .with_hint(format!("to see why: agent-vm status {}", machine.name))
                    .into())
            }
            None => Ok(states),
        }
    });
    if made.is_err() && before != after {
        machine.write_settings(before)?;
    }
    made
}

fn show(context: &Context, machine: &Machine, states: &[ForwardState]) -> Result<()> {
    if context.json {
        return print_json(&json!({ "name": machine.name, "forwards": states }));
    }
    if states.is_empty() {
        return print(&format!("{}: no port is forwarded\n", machine.name));
    }
    let line = |state: &ForwardState| format!("{}: {}\n", machine.name, state.line());
    print(&states.iter().map(line).collect::<String>())
}
