//! The settings of a new machine.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::cli::resolve_settings;
use crate::git::Source;
use crate::host::files::places::Mounts;
use crate::machine::branch::BranchName;
use crate::machine::defaults::Defaults;
use crate::machine::egress_settings::Egress;
use crate::machine::host_address;
use crate::machine::settings::{GuestKind, Settings, SettingsPatch, VERSION};
use crate::machine::state_dir::StateDir;

/// Values of a new machine that depend on this host.
pub(super) struct Chosen {
    pub(super) guest: GuestKind,
    pub(super) host: String,
    pub(super) address: Ipv4Addr,
    pub(super) ports: resolve_settings::Ports,
    pub(super) cores: u32,
    pub(super) defaults: Defaults,
}

impl Chosen {
    /// Chooses the values. The caller holds the lock of the ports.
    pub(super) fn new(state: &StateDir, patch: &SettingsPatch, guest: GuestKind) -> Result<Self> {
        let defaults = Defaults::load()?;
        let host = patch.host.clone().unwrap_or_else(|| defaults.host.clone());
        let address = host_address::forward_address(&host)?;
        resolve_settings::warn_of_address(&host, address);
        let ports = resolve_settings::Ports::choose(state, address, patch, &defaults)?;
        Ok(Self { guest, host, address, ports, cores: resolve_settings::cores(patch.cores, &defaults), defaults })
    }
}

/// Returns the settings of a new machine: the requested ones, and defaults for the others.
pub(super) fn settings(patch: SettingsPatch, chosen: Chosen, source: &Source, branch: BranchName) -> Settings {
    let Chosen { guest, host, ports, cores, defaults, .. } = chosen;
    Settings {
        version: VERSION,
        source: source.dir.clone(),
        source_mount: Mounts::read().point_of(&source.dir),
        branch,
        all_branches: patch.all_branches.unwrap_or(false),
        created: jiff::Timestamp::now(),
        guest,
        host,
        port: ports.mcp,
        port_asked: patch.port.is_some(),
        ssh_port: ports.ssh,
        ssh_port_asked: patch.ssh_port.is_some(),
        tls: patch.tls.unwrap_or(true),
        auth: patch.auth.unwrap_or(true),
        memory: patch.memory.unwrap_or(defaults.memory),
        cores,
        disk: patch.disk.unwrap_or(defaults.disk),
        limits: patch.limits,
        packages: patch.packages.unwrap_or_default(),
        servers: patch.servers.unwrap_or_default(),
        proxy: patch.proxy.unwrap_or_default(),
        agents: patch.agents.unwrap_or_default(),
        nix_args: patch.nix_args.unwrap_or_default(),
        egress: Egress {
            mode: patch.egress.unwrap_or(defaults.egress),
            allow: patch.allow.unwrap_or_default(),
            deny: patch.deny.unwrap_or_default(),
            secrets: patch.secrets.unwrap_or_default(),
            host_proxy: patch.host_proxy.unwrap_or_default(),
        },
        forwards: Vec::new(),
        idle_timeout: patch.idle_timeout.unwrap_or_default(),
        ttl: patch.ttl.unwrap_or_default(),
    }
}
