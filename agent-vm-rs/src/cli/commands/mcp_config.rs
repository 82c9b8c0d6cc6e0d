//! `agent-vm mcp-config`

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum as _};

use super::Target;
use super::mcp::{require_server, server_name};
use crate::cli::target;
use crate::git::{Origin, Tracking};
use crate::guest::running::running;
use crate::host::files::quoted;
use crate::host::interrupt;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::settings::Settings;
use crate::machine::state_dir::StateDir;
use crate::mcp::client_config::{self, Client, Entry, TOKEN_VARIABLE, Way};
use crate::mcp::endpoint;
use crate::term::error::Failure;
use crate::term::output::{print, print_json};
use crate::term::progress::note;

/// Flags of `mcp-config`.
#[derive(Args, Clone, Debug)]
pub struct McpConfigArgs {
    #[command(flatten)]
    target: Target,
    /// The MCP client
    #[arg(long, value_name = "CLIENT")]
    client: Client,
    /// Add the server to the client's configuration file, and keep everything else in it
    #[arg(long)]
    write: bool,
    /// Let the client connect over HTTP by itself; you then give it the token and the certificate authority
    #[arg(long)]
    http: bool,
    /// Use this named server of the machine and not the default one
    #[arg(long, value_name = "NAME", value_parser = server_name)]
    server: Option<String>,
}

/// Prints or writes a client's configuration for a machine. It never contains the token.
///
/// # Errors
/// The client's file cannot be read or changed.
pub fn mcp_config(context: &Context, args: &McpConfigArgs) -> Result<()> {
    let machine = target::find(&context.state, args.target.as_deref())?;
    if let Some(server) = &args.server {
        check_server(context, &machine, server)?;
    }
    let way = if args.http { http(&machine, args)? } else { command(bridge(context, &machine)?, args)? };
    finish(context, args, &machine, way)
}

/// Prints or writes a client's configuration for a machine of another host, whose bridge starts with these words.
///
/// # Errors
/// As [`mcp_config`], or the client would need a port of the other host.
pub fn mcp_config_with(context: &Context, args: &McpConfigArgs, machine: &Machine, words: Vec<String>) -> Result<()> {
    if args.http {
        return Err(Failure::usage("a machine of another host has no port on this one for --http")
            .with_hint("leave out --http: the client then starts agent-vm, which connects over ssh")
            .into());
    }
    finish(context, args, machine, command(words, args)?)
}

fn finish(context: &Context, args: &McpConfigArgs, machine: &Machine, way: Way) -> Result<()> {
    let name = client_config::entry_name(machine.name.as_str(), args.server.as_deref());
    let entry = Entry { name, way };
    if !args.write && context.json {
        return print_json(&client_config::value(args.client, &entry)?);
    }
    if !args.write {
        return print(&client_config::fragment(args.client, &entry)?);
    }
    let settings = machine.settings()?;
    let place = client_config::place(args.client, &settings.source, |name| std::env::var_os(name).map(PathBuf::from))?;
    if place.project.is_some() && machine.has_lost_source(&settings) {
        return Err(machine.lost_source(&settings).into());
    }
    let changed = client_config::write(args.client, &entry, &place)?;
    if let Some(project) = &place.project {
        note_if_committed(machine, &settings, &entry.name, place.file.strip_prefix(project)?)?;
    }
    if context.json {
        return print_json(&serde_json::json!({ "name": entry.name, "file": place.file, "changed": changed }));
    }
    let done = if changed { "is now" } else { "is already" };
    print(&format!("{} {done} in {}\n", entry.name, place.file.display()))
}

/// Refuses a server that a running machine does not have. Prints a notice if the machine does not run: the guest determines its
/// servers at each start.
fn check_server(context: &Context, machine: &Machine, server: &str) -> Result<()> {
    let Ok((guest, facts)) = running(machine) else {
        if !machine.settings()?.servers.iter().any(|name| name == server) {
            let name = &machine.name;
            note(&format!(
                "notice: {name} is not running, so agent-vm cannot check that it has the MCP server {server}"
            ));
        }
        return Ok(());
    };
    require_server(context, machine, &guest, &facts, server)
}

/// Prints a notice if a commit would contain the client's file. `file` is relative to the repository.
///
/// # Errors
/// The command was interrupted.
fn note_if_committed(machine: &Machine, settings: &Settings, entry: &str, file: &Path) -> Result<()> {
    let Some(source) = Origin::of(machine, settings).usable() else { return Ok(()) };
    let whole = settings.source.join(file);
    let (shown, exclude) = (whole.display(), source.exclude_file());
    match source.tracking(file) {
        Ok(Tracking::Ignored) => {}
        Ok(Tracking::Tracked) => note(&format!(
            "notice: git tracks {shown}; do not commit its entry {entry}, which is valid on this computer only"
        )),
        Ok(Tracking::Untracked) => note(&format!(
            "notice: git does not ignore {shown}, whose entry {entry} is valid on this computer only; to ignore it: echo /{} >>{}",
            file.display(),
            quoted(&exclude)
        )),
        Err(error) => {
            interrupt::check()?;
            tracing::info!("cannot find out whether git ignores {shown}: {error:#}");
        }
    }
    Ok(())
}

/// Returns the bridge's command with absolute paths, since clients started from a desktop menu have another PATH.
fn command(mut words: Vec<String>, args: &McpConfigArgs) -> Result<Way> {
    if let Some(server) = &args.server {
        words.extend(["--server".to_owned(), server.clone()]);
    }
    // A package manager's update keeps the path on PATH, but not the real path of this program.
    let program = match which::which("agent-vm") {
        Ok(path) => path,
        Err(_) => crate::host::programs::own_path()?,
    };
    Ok(Way::Command { program: text(program)?, args: words })
}

/// Returns the arguments that start the bridge to a machine's default server.
fn bridge(context: &Context, machine: &Machine) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let default = StateDir::locate(None).map(|state| state.path().to_owned()).ok();
    if default.as_deref() != Some(context.state.path()) {
        words.extend(["--state-dir".to_owned(), text(context.state.path().to_owned())?]);
    }
    words.extend(["mcp".to_owned(), machine.name.to_string()]);
    Ok(words)
}

/// Returns a notice for each client's file that still has a server of a machine. Files that cannot be read have none.
#[must_use]
pub fn leftovers(context: &Context, machine: &Machine, source: &Path) -> Vec<String> {
    let Ok(args) = bridge(context, machine) else { return Vec::new() };
    let mut notices = Vec::new();
    for client in Client::value_variants().iter().copied() {
        let place = client_config::place(client, source, |name| std::env::var_os(name).map(PathBuf::from));
        let Ok(place) = place else { continue };
        let Ok(Some(text)) = client_config::read(&place) else { continue };
        let names = client_config::entries_of(client, machine.name.as_str(), &args, &text);
        notices.extend(names.iter().map(|name| {
            let how = client.removal(name, place.project.as_deref());
            let how = how.map_or_else(|| ", edit the file".to_owned(), |command| format!(": {command}"));
            format!(
                "notice: {} still has the server {name}, which a later machine of this name would use; to remove it{how}",
                place.file.display()
            )
        }));
    }
    notices
}

fn http(machine: &Machine, args: &McpConfigArgs) -> Result<Way> {
    args.client.check_http()?;
    let (guest, facts) = running(machine).context("cannot determine the port: it is chosen when the machine starts")?;
    let service = &guest.manifest.service;
    let path = match &args.server {
        Some(name) => format!("{}/{name}{}", service.servers_path, service.mcp_path),
        None => service.mcp_path.clone(),
    };
    let mut exports = String::new();
    if facts.auth {
        let token = quoted(&endpoint::token_file(&machine.dir));
        exports += &format!("\n  export {TOKEN_VARIABLE}=\"$(cat {token})\"");
    }
    if facts.tls {
        let ca = quoted(&endpoint::ca_file(&machine.dir));
        exports += &format!("\n  export {}={ca}", args.client.authority_variable());
        if args.client.trusts_nothing_else() {
            exports += "\n  it replaces the system's authorities: set it to a file with both, or leave out --http";
        }
    }
    if !exports.is_empty() {
        note(&format!("the client needs these variables; run in the shell that starts it:{exports}"));
    }
    Ok(Way::Http { url: facts.url(&path), auth: facts.auth })
}

fn text(path: PathBuf) -> Result<String> {
    path.into_os_string().into_string().map_err(|path| {
        Failure::new(format!("the path {} is not valid UTF-8", path.display()))
            .with_hint("move it to a path that is valid UTF-8")
            .into()
    })
}
