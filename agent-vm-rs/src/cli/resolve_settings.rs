//! Checks settings against this host, chooses ports and processors, and writes changed settings.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::Result;

use crate::egress;
use crate::guest::{Guest, installation, package_names, server_names};
use crate::host::user_dirs::cache_dir;
use crate::host::{ports, system};
use crate::machine::agents;
use crate::machine::defaults::Defaults;
use crate::machine::egress_settings::{Egress, Mode};
use crate::machine::forward::Forward;
use crate::machine::name::VmName;
use crate::machine::settings::{GuestKind, Settings, SettingsPatch};
use crate::machine::settings_key::Key;
use crate::machine::state_dir::StateDir;
use crate::machine::{Machine, host_address};
use crate::mcp::endpoint;
use crate::term::error::Failure;
use crate::term::progress::note;
use crate::term::text;

/// Checks values for a machine with this guest on this host. Changes nothing.
///
/// # Errors
/// The first wrong value.
pub fn check(patch: &SettingsPatch, guest: GuestKind) -> Result<()> {
    patch.validate()?;
    patch.host.as_deref().map_or(Ok(()), |host| host_address::forward_address(host).map(drop))?;
    if patch.port.is_some() && patch.port == patch.ssh_port {
        return Err(same_port());
    }
    patch.validate_packages(guest)?;
    if let (GuestKind::Debian, Some(packages)) = (guest, &patch.packages) {
        package_names::check(packages, &cache_dir()?)?;
    }
    if let (Some(servers), Some(known)) = (&patch.servers, installation::known_servers(guest)) {
        server_names::check(servers, guest, &known)?;
    }
    agents::check(patch.agents.iter().flatten())?;
    if let Some(groups) = installation::egress_groups() {
        let lists = || patch.allow.iter().chain(&patch.deny).flatten();
        egress::rules::check_groups(lists(), &groups)?;
        egress::rules::refuse_group_names(lists(), &groups, |name| format!("write @{name}"))?;
    }
    Ok(())
}

fn same_port() -> anyhow::Error {
    Failure::usage("MCP and ssh cannot use the same port").with_hint("choose two different ports").into()
}

/// First port that programs without privileges usually bind.
const UNPRIVILEGED: u16 = 1024;
/// What a privileged port of a machine is moved by on this host: 80 becomes 8080.
const MOVED: u16 = 8000;

/// Host ports of a new machine.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Port of MCP.
    pub mcp: u16,
    /// Port of ssh.
    pub ssh: u16,
}

impl Ports {
    /// Returns the requested ports, or else free ones. The caller holds the lock of the ports.
    ///
    /// # Errors
    /// A requested port belongs to another machine or is in use, or no port is free.
    pub fn choose(state: &StateDir, address: Ipv4Addr, patch: &SettingsPatch, defaults: &Defaults) -> Result<Self> {
        let reserved = reserved(state, None)?;
        // A port chosen for one service must not be the other's.
        let choose = |asked: Option<u16>, other: &str, first: u16, taken: Option<u16>| match asked {
            None => ports::next_free(address, first, &reserved.keys().copied().chain(taken).collect()),
            Some(port) => match reserved.get(&port) {
                Some(owner) => Err(promised(port, owner, other).into()),
                None => ports::require_free(address, port, other).map(|()| port),
            },
        };
        let mcp = choose(patch.port, "--port PORT", defaults.mcp_port, patch.ssh_port)?;
        let ssh = choose(patch.ssh_port, "--ssh-port PORT", defaults.ssh_port, Some(mcp))?;
        Ok(Self { mcp, ssh })
    }

    /// Chooses again the ports that a change resets, as for a new machine. Ports that the machine's current run uses count as
    /// free. The caller holds the lock of the ports.
    ///
    /// # Errors
    /// No port is free.
    pub fn reset(machine: &Machine, reset: &BTreeSet<Key>, after: &mut Settings, defaults: &Defaults) -> Result<()> {
        let (mcp, ssh) = (reset.contains(&Key::Port), reset.contains(&Key::SshPort));
        if !mcp && !ssh {
            return Ok(());
        }
        let address = host_address::forward_address(&after.host)?;
        let reserved = reserved(&machine.state, Some(&machine.name))?;
        let own = own(machine);
        let choose = |first: u16, other: Option<u16>| -> Result<u16> {
            let taken = reserved.keys().copied().chain(other).collect();
            let free = ports::next_free(address, first, &taken)?;
            let own = own.iter().copied().filter(|port| *port >= first && !taken.contains(port));
            Ok(own.chain([free]).min().unwrap_or(free))
        };
        if mcp {
            after.port = choose(defaults.mcp_port, (!ssh).then_some(after.ssh_port))?;
        }
        if ssh {
            after.ssh_port = choose(defaults.ssh_port, Some(after.port))?;
        }
        Ok(())
    }

    /// Checks that changed ports are free, and that a changed address is one of this host. The caller holds the lock of the ports.
    ///
    /// # Errors
    /// The address cannot be bound, a port belongs to another machine or is in use, or both are the same.
    pub fn check(machine: &Machine, before: &Settings, after: &Settings) -> Result<()> {
        if after.port == after.ssh_port {
            return Err(same_port());
        }
        let address = host_address::forward_address(&after.host)?;
        let reserved = reserved(&machine.state, Some(&machine.name))?;
        let own = own(machine);
        let is_moved = after.host != before.host;
        if is_moved {
            ports::usable(address)?;
        }
        for (port, former, asked, key) in [
            (after.port, before.port, after.port_asked, "port"),
            (after.ssh_port, before.ssh_port, after.ssh_port_asked, "ssh_port"),
        ] {
            // A start replaces a port in use that was not asked for.
            if port == former && !(is_moved && asked) {
                continue;
            }
            let other = &format!("agent-vm set {} {key}=PORT", machine.name);
            if after.forwards.iter().any(|forward| forward.host == port) {
                return Err(promised(port, &machine.name, other).into());
            }
            if let Some(owner) = reserved.get(&port) {
                return Err(promised(port, owner, other).into());
            }
            if !own.contains(&port) {
                ports::require_free(address, port, other)?;
            }
        }
        Ok(())
    }
}

impl Ports {
    /// Checks that a port of this host's loopback can be forwarded to a machine. The caller holds the lock of the ports.
    ///
    /// # Errors
    /// The port is privileged, in use, or belongs to a machine.
    pub fn check_forward(machine: &Machine, settings: &Settings, forward: Forward) -> Result<()> {
        let Forward { guest, host } = forward;
        let other = &format!("agent-vm port {} {guest}:PORT", machine.name);
        let own_ports = own(machine).into_iter().chain([settings.port, settings.ssh_port]);
        let forwarded = settings.forwards.iter().map(|forward| forward.host);
        if own_ports.chain(forwarded).any(|port| port == host) {
            return Err(promised(host, &machine.name, other).into());
        }
        if let Some(owner) = reserved(&machine.state, Some(&machine.name))?.get(&host) {
            return Err(promised(host, owner, other).into());
        }
        ports::require_free(Ipv4Addr::LOCALHOST, host, other)
    }

    /// Returns a free port of this host's loopback for a port of a machine: the same if possible, else a higher one. The caller
    /// holds the lock of the ports.
    ///
    /// # Errors
    /// No port is free.
    pub fn free_for(machine: &Machine, settings: &Settings, guest: u16) -> Result<u16> {
        let reserved = reserved(&machine.state, None)?;
        let own = own(machine).into_iter().chain([settings.port, settings.ssh_port]);
        // A port below those is often a well-known one, for which a user would look elsewhere.
        let first = if guest < UNPRIVILEGED { guest + MOVED } else { guest };
        ports::next_free(Ipv4Addr::LOCALHOST, first, &reserved.into_keys().chain(own).collect())
    }
}

/// Returns the ports of a running machine.
fn own(machine: &Machine) -> Vec<u16> {
    let facts = machine.run().qemu().and_then(|_| machine.run().facts());
    facts.map_or_else(Vec::new, |facts| vec![facts.port, facts.ssh_port])
}

/// Returns the ports in the settings of all machines except `but`, running or not, with their owners.
fn reserved(state: &StateDir, but: Option<&VmName>) -> Result<BTreeMap<u16, VmName>> {
    let names = state.names()?.into_iter().filter(|name| Some(name) != but);
    let machines = names.map(|name| Machine::new(state, name));
    let with_settings = machines.filter_map(|machine| Some((machine.settings().ok()?, machine.name)));
    let of_one = |(s, name): (Settings, VmName)| {
        let forwarded = s.forwards.into_iter().map(|forward| forward.host);
        forwarded.chain([s.port, s.ssh_port]).map(move |port| (port, name.clone()))
    };
    Ok(with_settings.flat_map(of_one).collect())
}

fn promised(port: u16, owner: &VmName, other: &str) -> Failure {
    Failure::new(format!("port {port} belongs to the machine {owner}"))
        .with_hint(format!("choose another port: {other}"))
}

/// Returns the number of virtual CPUs, at most those of this host.
#[must_use]
pub fn cores(asked: Option<u32>, defaults: &Defaults) -> u32 {
    let available = system::cores();
    if asked.is_some_and(|asked| asked > available) {
        note(&format!("cores capped at {available}: this host has {}", text::count(available as usize, "core")));
    }
    asked.unwrap_or(defaults.cores).min(available)
}

/// Warns about an address that other hosts can reach.
pub fn warn_of_address(host: &str, address: Ipv4Addr) {
    if !address.is_loopback() {
        note(&format!(
            "warning: {host} is not a loopback address: other hosts can connect to the machine's MCP reverse proxy and ssh"
        ));
    }
}

/// Writes changed settings, after the rules and certificates that depend on them, so that invalid settings are not stored.
/// The caller holds the machine's lock.
///
/// # Errors
/// A group of destinations is unknown, or a file cannot be written. The settings are then unchanged.
pub fn write(machine: &Machine, before: &Settings, after: &Settings) -> Result<()> {
    if before.egress != after.egress {
        // A running proxy keeps its mode. The settings may have another one already.
        let mode = if machine.run().qemu().is_some() {
            egress::rules::mode_in_force(&machine.dir).unwrap_or(Mode::None)
        } else {
            after.egress.mode
        };
        let egress = Egress { mode, ..after.egress.clone() };
        match Guest::of(machine) {
            Ok(guest) => {
                let groups = &guest.manifest.egress.groups;
                egress::rules::write(&machine.dir, machine.name.as_str(), &egress, groups)?;
            }
            Err(_) => {
                if let Some(groups) = installation::egress_groups() {
                    egress::rules::check_groups(egress.allow.iter().chain(&egress.deny), &groups)?;
                }
            }
        }
    }
    if before.host != after.host && machine.run().qemu().is_none() {
        let address = host_address::forward_address(&after.host)?;
        endpoint::ensure(&machine.dir, machine.name.as_str(), &after.host, address)?;
    }
    machine.write_settings(after)
}
