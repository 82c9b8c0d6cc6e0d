//! `agent-vm open`

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::port;
use crate::cli::{resolve_settings, target};
use crate::guest::running::running;
use crate::host::lock::Lock;
use crate::host::process::{Invocation, find};
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::forward::{Forward, PortSpec};
use crate::machine::settings::Settings;
use crate::term::error::Failure;
use crate::term::output::{print, print_json};
use crate::term::progress::note;

/// Flags of `open`.
#[derive(Args, Clone, Debug)]
pub struct OpenArgs {
    /// A branch of the current repository, or a machine's name [default: the current branch]
    #[arg(value_name = "BRANCH|MACHINE")]
    machine: Option<String>,
    /// Port in the machine; required, also without a machine
    #[arg(value_name = "PORT")]
    port: Option<String>,
    /// The branch, as a flag
    #[arg(long, value_name = "BRANCH", hide = true)]
    branch: Option<String>,
}

impl OpenArgs {
    /// Returns what names the machine, if anything, and the port.
    ///
    /// # Errors
    /// There is no port.
    pub fn target(&self) -> Result<(Option<&str>, PortSpec)> {
        let (named, port) = match (&self.machine, &self.port) {
            (Some(named), Some(port)) => (Some(named.as_str()), port),
            // The only word.
            (Some(port), None) => (self.branch.as_deref(), port),
            (None, _) => {
                return Err(Failure::usage("no port given").with_hint("for example: agent-vm open 3000").into());
            }
        };
        Ok((named, port.parse()?))
    }
}

/// Forwards a port of a running machine if it is not forwarded yet, prints its URL, and opens it in a browser.
///
/// # Errors
/// The machine is not running, or the port cannot be forwarded.
pub fn open(context: &Context, args: &OpenArgs) -> Result<()> {
    let (named, spec) = args.target()?;
    let machine = target::find(&context.state, named)?;
    running(&machine)?;
    let forward = forwarded(context, &machine, spec)?;
    let url = format!("http://127.0.0.1:{}/", forward.host);
    if context.json {
        return print_json(&json!({ "name": machine.name, "guest": forward.guest, "host": forward.host, "url": url }));
    }
    show(&url)
}

/// Prints a URL, and opens it in a browser if there is one.
///
/// # Errors
/// Stdout is closed or full.
pub fn show(url: &str) -> Result<()> {
    print(&format!("{url}\n"))?;
    if let Some(browser) = browser() {
        let all =
            std::env::vars_os().fold(Invocation::new(&browser), |browser, (name, value)| browser.env(name, value));
        if let Err(error) = all.arg(url).start_beside_us() {
            note(&format!("notice: no browser was started: {error:#}"));
        }
    }
    Ok(())
}

/// Returns the forward of a port, which is added to the settings if they have none.
fn forwarded(context: &Context, machine: &Machine, spec: PortSpec) -> Result<Forward> {
    let _lock = machine.lock(context.deadline())?;
    let before = machine.settings()?;
    let known = before.forwards.iter().copied().find(|forward| spec.names(*forward));
    let (forward, after) = match known {
        Some(forward) => (forward, before.clone()),
        None => added(context, machine, &before, spec)?,
    };
    port::adopt(context, machine, &before, &after)?;
    Ok(forward)
}

fn added(context: &Context, machine: &Machine, before: &Settings, spec: PortSpec) -> Result<(Forward, Settings)> {
    // Held until the settings are written, so that no other command chooses the same port.
    let _ports = Lock::take(&machine.state.ports_lock(), context.deadline())?;
    let host = spec.host.map_or_else(|| resolve_settings::Ports::free_for(machine, before, spec.guest), Ok)?;
    let (forward, mut after) = (Forward { guest: spec.guest, host }, before.clone());
    port::add(machine, &mut after, forward)?;
    machine.write_settings(&after)?;
    Ok((forward, after))
}

/// Returns the browser to start; None without a display or a browser.
fn browser() -> Option<std::path::PathBuf> {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if !is_set("DISPLAY") && !is_set("WAYLAND_DISPLAY") {
        return None;
    }
    let named = std::env::var_os("BROWSER").filter(|name| !name.is_empty());
    named.and_then(|name| find(&name).ok()).or_else(|| find("xdg-open".as_ref()).ok())
}
