//! Ports of this host's loopback that lead to machines of another host: each is a connection of ssh that stays until it is
//! removed.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Drive;
use super::words::Words;
use crate::cli::commands::{exit_with, open as open_here, port as port_here};
use crate::host::connections::is_listened_on;
use crate::host::files::{make_private_dir, plain, remove_file, write_file};
use crate::host::interrupt::Deadline;
use crate::host::ports;
use crate::host::process::ProcessId;
use crate::machine::forward::PortSpec;
use crate::machine::name::VmName;
use crate::remote::other_host::Terminal;
use crate::term::error::Failure;
use crate::term::output::{print, print_json};
use crate::term::text::printable;

/// Directory of the forwards, in the state directory of the other host's machines.
const DIRECTORY: &str = ".forwards";
/// Time for ssh to connect and forward.
const LIMIT: Duration = Duration::from_secs(30);
/// Largest file of a forward, in bytes.
const LARGEST: u64 = 4096;

/// A port that is forwarded.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Tunnel {
    /// Name of the machine.
    name: String,
    /// Port in the machine.
    guest: u16,
    /// Port of this host.
    host: u16,
    /// Port of the other host.
    there: u16,
}

/// What the other host answers.
#[derive(Debug, Deserialize)]
struct Opened {
    name: VmName,
    host: u16,
}

/// Forwards ports, lists them, or ends them.
///
/// # Errors
/// The machine does not run, or a port cannot be used.
pub fn port(drive: &Drive<'_>, args: &port_here::PortArgs) -> Result<ExitCode> {
    let (named, words) = args.target();
    let specs = words.iter().map(|word| word.parse()).collect::<Result<Vec<PortSpec>, _>>()?;
    if specs.is_empty() && !args.remove {
        return show(drive, &all(drive)?);
    }
    let mut tunnels = Vec::new();
    for spec in specs {
        if args.remove {
            let Tunnel { name, guest, .. } = remove(drive, spec)?;
            // The port of the other host is free again, too.
            let words = ["port", &name, &guest.to_string(), "--remove"].map(str::to_owned).to_vec();
            drive.connection.asking(&drive.run(Words { words, files: Vec::new() }), Terminal::None)?.output()?;
            continue;
        }
        match forward(drive, named, spec)? {
            Ok(tunnel) => tunnels.push(tunnel),
            Err(code) => return Ok(code),
        }
    }
    if args.remove { show(drive, &all(drive)?) } else { show(drive, &tunnels) }
}

/// Forwards a port, prints its URL, and opens it in a browser.
///
/// # Errors
/// See [`port`].
pub fn open(drive: &Drive<'_>, args: &open_here::OpenArgs) -> Result<ExitCode> {
    let (named, spec) = args.target()?;
    let tunnel = match forward(drive, named, spec)? {
        Ok(tunnel) => tunnel,
        Err(code) => return Ok(code),
    };
    let url = format!("http://127.0.0.1:{}/", tunnel.host);
    if drive.context.json {
        let Tunnel { name, guest, host, .. } = tunnel;
        print_json(&json!({ "name": name, "guest": guest, "host": host, "url": url }))?;
    } else {
        open_here::show(&url)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(drive: &Drive<'_>, tunnels: &[Tunnel]) -> Result<ExitCode> {
    if drive.context.json {
        print_json(&tunnels)?;
    } else if tunnels.is_empty() {
        print(&format!("{}: no port is forwarded\n", drive.connection.host().shown()))?;
    } else {
        let line = |one: &Tunnel| format!("{}: 127.0.0.1:{} to port {}\n", one.name, one.host, one.guest);
        print(&tunnels.iter().map(line).collect::<String>())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn directory(drive: &Drive<'_>) -> PathBuf {
    drive.context.state.path().join(DIRECTORY)
}

/// Returns the forwards whose connections are alive. The files of others are removed.
fn all(drive: &Drive<'_>) -> Result<Vec<Tunnel>> {
    let mut found = Vec::new();
    for path in fs::read_dir(directory(drive)).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let text = plain::read(&path, LARGEST)?.unwrap_or_default();
        match serde_json::from_slice::<Tunnel>(&text) {
            Ok(tunnel) if ProcessId::read(&path.with_extension("pid")).is_some_and(|id| id.alive()) => {
                found.push(tunnel)
            }
            _ => ["json", "pid", "log"].iter().try_for_each(|end| remove_file(&path.with_extension(end)))?,
        }
    }
    found.sort_by_key(|tunnel: &Tunnel| tunnel.host);
    Ok(found)
}

/// Has the other host forward the machine's port to one of its own that is free, and forwards one of this host there.
fn forward(drive: &Drive<'_>, named: Option<&str>, spec: PortSpec) -> Result<Result<Tunnel, ExitCode>> {
    let here = spec.host.unwrap_or(spec.guest);
    let known = all(drive)?;
    let guest = spec.guest.to_string();
    let words = ["open", "--json"].into_iter().chain(named).chain([guest.as_str()]).map(str::to_owned).collect();
    let output = drive.connection.asking(&drive.run(Words { words, files: Vec::new() }), Terminal::None)?.output()?;
    if !output.status.success() {
        crate::term::progress::note(printable(&String::from_utf8_lossy(&output.stderr)).trim_end());
        return Ok(Err(exit_with(output.status.code().unwrap_or(1))));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let start = text.find("\n{").map_or(0, |at| at + 1);
    let opened: Opened =
        serde_json::from_str(&text[start..]).context("the answer of the other host was not understood")?;
    let tunnel = Tunnel { name: opened.name.to_string(), guest: spec.guest, host: here, there: opened.host };
    if let Some(same) = known.iter().find(|one| one.host == here) {
        if (&same.name, same.guest, same.there) == (&tunnel.name, tunnel.guest, tunnel.there) {
            return Ok(Ok(tunnel));
        }
        remove(drive, PortSpec { guest: same.guest, host: Some(same.host) })?;
    }
    connect(drive, &tunnel)?;
    Ok(Ok(tunnel))
}

fn connect(drive: &Drive<'_>, tunnel: &Tunnel) -> Result<()> {
    let here = tunnel.host;
    ports::require_free(Ipv4Addr::LOCALHOST, here, &format!("{}:PORT", tunnel.guest))?;
    let dir = directory(drive);
    make_private_dir(&dir)?;
    let file = |end: &str| dir.join(format!("{here}.{end}"));
    let ssh = drive.connection.forwarding(here, tunnel.there).start_detached(&file("log"))?.called("ssh");
    let id = ProcessId::of(ssh.pid()?).context("ssh ended at once")?;
    id.write(&file("pid"))?;
    let limit = drive.context.timeout.unwrap_or(LIMIT);
    let listens = Deadline::after(limit).poll("ssh", Duration::from_millis(50), || {
        ssh.check_alive(&file("log"))?;
        Ok(is_forwarded(here).then_some(()))
    });
    if let Err(error) = listens {
        id.end(Duration::from_secs(2));
        remove_file(&file("pid"))?;
        let host = drive.connection.host().shown();
        return Err(error.context(
            Failure::new(format!("port {here} is not forwarded to {host}"))
                .with_hint("ssh asks nothing for a forward: add the key to your agent with ssh-add"),
        ));
    }
    write_file(&file("json"), serde_json::to_string(tunnel)?, 0o600)
}

/// Returns whether ssh listens. A connection would reach the machine's program, which may serve only one, so there is none where
/// the kernel reports listeners.
fn is_forwarded(here: u16) -> bool {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, here);
    let connects = || TcpStream::connect_timeout(&address.into(), Duration::from_secs(1)).is_ok();
    is_listened_on(address).unwrap_or_else(|_| connects())
}

/// Ends the connection of a forward.
fn remove(drive: &Drive<'_>, spec: PortSpec) -> Result<Tunnel> {
    let found =
        all(drive)?.into_iter().find(|one| one.guest == spec.guest && spec.host.is_none_or(|host| host == one.host));
    let Some(tunnel) = found else {
        return Err(Failure::new(format!(
            "port {} is not forwarded from {}",
            spec.guest,
            drive.connection.host().shown()
        ))
        .with_hint("to list the forwarded ports: agent-vm port")
        .into());
    };
    let file = |end: &str| directory(drive).join(format!("{}.{end}", tunnel.host));
    if let Some(id) = ProcessId::read(&file("pid")) {
        id.end(Duration::from_secs(2));
    }
    ["json", "pid", "log"].iter().try_for_each(|end| remove_file(&file(end)))?;
    Ok(tunnel)
}
