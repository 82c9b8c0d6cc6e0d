//! Starts one run of a machine: files, processes, facts.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use rustix::io::Errno;

use super::processes::{remember, remember_forwarders, remember_inner, start_virtiofsd};
use crate::confine::forward::Rate;
use crate::confine::listeners::Listener;
use crate::confine::mount::Mount;
use crate::confine::{self, Confinement};
use crate::egress;
use crate::guest::Guest;
use crate::host::files::{make_private_dir, write_unsynced};
use crate::host::interrupt::Deadline;
use crate::host::ports;
use crate::host::process::Detached;
use crate::host::time_zone;
use crate::limits::{self, Means, Wanted};
use crate::machine::accel::Accel;
use crate::machine::context::Context;
use crate::machine::events::{self, What};
use crate::machine::name::VmName;
use crate::machine::number::Number;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunFacts;
use crate::machine::settings::Settings;
use crate::machine::{Machine, host_address};
use crate::mcp::endpoint;
use crate::term::progress::note;
use crate::vm::phases::Phases;
use crate::vm::qemu_args::{self, Forwards, Inputs, Virtiofsd};
use crate::vm::{credentials, disk, network_rate};

/// Inputs of a run: the machine, its guest, and what this host provides.
pub struct Run<'a> {
    pub context: &'a Context,
    pub machine: &'a Machine,
    pub settings: &'a Settings,
    pub guest: &'a Guest,
    /// The `--guest-package` of the start.
    pub guest_package: Option<PathBuf>,
    pub accel: Accel,
    pub daemon: Option<Virtiofsd>,
    pub confinement: Confinement,
    /// QEMU.
    pub program: PathBuf,
    pub qemu: Vec<Mount>,
}

impl Run<'_> {
    /// Prepares the files, starts the processes and writes the facts. Returns QEMU's process and the facts.
    pub fn begin(&self, phases: &mut Phases) -> Result<(Detached, RunFacts)> {
        let limit = self.context.start_limit(self.accel.as_str());
        let deadline = Deadline::after(limit);
        phases.run("disk and keys", || self.prepare())?;
        let (forwards, listeners) = ports(self.settings, &self.machine.name, self.confinement.has_own_network())?;
        let qemu = self.context.timeline.run("QEMU", || self.start(forwards, listeners, deadline, phases))?;
        let facts = self.facts(forwards, limit.as_secs());
        self.machine.run().write_facts(&facts)?;
        write_unsynced(&self.machine.run().file(MachinePath::RunSettings), self.settings.to_json()?, 0o600)?;
        events::record(&self.machine.dir, What::Started { accel: facts.accel.clone() });
        Ok((qemu, facts))
    }

    /// Creates the disk, the rules and the credentials, owned by the account of the processes.
    fn prepare(&self) -> Result<()> {
        let Self { context, machine, settings, guest, .. } = self;
        disk::ensure(machine, &guest.manifest.disk.label, settings.disk)?;
        make_private_dir(machine.run().path())?;
        guest.keep_for(&machine.run())?;
        make_private_dir(&machine.run().file(MachinePath::Qemu))?;
        egress::upstream::choose(&machine.dir, &settings.egress.host_proxy)?;
        egress::rules::write(&machine.dir, machine.name.as_str(), &settings.egress, &guest.manifest.egress.groups)?;
        let run = credentials::Run {
            hostname: &machine.name.hostname(),
            time_zone: time_zone::name(),
            log_level: context.verbosity.log_level(),
            endpoint: endpoint::hand_over(machine, settings, host_address::forward_address(&settings.host)?)?,
        };
        credentials::hand_over(&machine.dir, run, &guest.manifest)?;
        self.confinement.account().map_or(Ok(()), |account| {
            let places =
                [machine.run().file(MachinePath::Qemu), MachinePath::Disk.of(&machine.dir), machine.workspace()];
            places.iter().try_for_each(|place| confine::chown_tree(place, account))
        })
    }

    /// Starts virtiofsd, QEMU and the forwarders, and writes their process ids.
    fn start(
        &self,
        forwards: Forwards,
        listeners: Vec<Listener>,
        deadline: Deadline,
        phases: &mut Phases,
    ) -> Result<Detached> {
        let confinement = &self.confinement;
        let dir = &self.machine.dir;
        let means = Means::choose(dir, &Wanted::new(dir, self.settings, self.accel))?;
        let rate = self.rate()?;
        let ports: Vec<_> = listeners.iter().map(|one| one.port).collect();
        let inputs = Inputs {
            machine: &self.machine.dir,
            package: &self.guest.package,
            manifest: &self.guest.manifest,
            settings: self.settings,
            program: &self.program,
            qemu: &self.qemu,
            start: self.guest.manifest.qemu.start()?,
            accel: self.accel,
            forwards,
            virtiofsd: self.daemon.as_ref(),
            verbosity: self.context.verbosity,
            confinement,
            pids: self.pids(&means),
            rate: rate.as_ref().map(|(ours, file)| Rate { ours, file }),
            ports: &ports,
        };
        let run = self.machine.run();
        if let Some(daemon) = qemu_args::virtiofsd(&inputs) {
            phases.run("workspace", || start_virtiofsd(&means.around(&daemon), &run, deadline))?;
        }
        let console = run.file(MachinePath::RunConsole);
        let sockets: Vec<_> = listeners.iter().map(Listener::socket).collect();
        let qemu = means.around(&qemu_args::runner(&inputs)).start_detached_with(&console, &sockets)?.called("QEMU");
        drop(listeners);
        if let Some(keeper) = qemu.keeper() {
            keeper.write(&run.file(MachinePath::RunConsoleKeeperPid))?;
        }
        if confinement.sandbox.is_some() {
            remember_inner(&qemu, &console, &run.file(MachinePath::QemuPid), deadline)?;
        } else {
            remember(&qemu, &run, MachinePath::QemuPid)?;
        }
        if let Some(inner) = run.qemu().filter(|_| confinement.has_own_network()) {
            let ports = [(forwards.ssh, MachinePath::ForwardSshPid), (forwards.mcp, MachinePath::ForwardMcpPid)];
            remember_forwarders(&inner, &run, &ports, deadline)?;
        }
        Ok(qemu)
    }

    /// Writes the file with the network's rate for the forwarders. Returns the paths of agent-vm and of that file; None if
    /// the rate is not limited, or QEMU shares this host's network.
    fn rate(&self) -> Result<Option<(PathBuf, PathBuf)>> {
        let limits = &self.settings.limits;
        if limits.of(Number::NetworkBandwidth).is_none() || !self.confinement.has_own_network() {
            return Ok(None);
        }
        network_rate::write(&self.machine.run(), limits)?;
        let ours = std::env::current_exe().context("failed to find the path of agent-vm")?;
        Ok(Some((ours, self.machine.run().file(MachinePath::NetworkRate))))
    }

    /// Returns the limit of the processes of each namespace, if nothing else limits them.
    fn pids(&self, means: &Means) -> Option<u32> {
        let is_alone = *means == Means::Single && self.confinement.has_own_users();
        limits::process_limit_of(&self.settings.limits).filter(|_| is_alone)
    }

    fn facts(&self, forwards: Forwards, start_limit: u64) -> RunFacts {
        RunFacts {
            started: jiff::Timestamp::now(),
            host: forwards.address,
            port: forwards.mcp,
            ssh_port: forwards.ssh,
            tls: self.settings.tls,
            auth: self.settings.auth,
            accel: self.accel.as_str().to_owned(),
            share: self.guest.manifest.workspace.share.as_str().to_owned(),
            confined: self.confinement.describe(),
            start_limit,
            memory: self.settings.memory,
            guest_package: self.guest_package.clone(),
        }
    }
}

/// Returns the ports of the settings, with their sockets if QEMU has a network of its own. A port that the user did not choose is
/// replaced if it is in use.
fn ports(settings: &Settings, name: &VmName, own_network: bool) -> Result<(Forwards, Vec<Listener>)> {
    let address = host_address::forward_address(&settings.host)?;
    let bind = |port: u16| own_network.then(|| Listener::bind(address, port)).transpose();
    let settle = |port: u16, asked: bool, key: &str, other: u16| -> Result<(u16, Option<Listener>)> {
        if asked {
            ports::require_free(address, port, &format!("agent-vm set {name} {key}=PORT"))?;
            return Ok((port, bind(port)?));
        }
        let mut taken: BTreeSet<u16> = settings.forwards.iter().map(|forward| forward.host).chain([other]).collect();
        loop {
            let free = ports::next_free(address, port, &taken)?;
            let listener = match bind(free) {
                // The start of another machine has taken it meanwhile.
                Err(error) if error.root_cause().downcast_ref() == Some(&Errno::ADDRINUSE) => {
                    taken.insert(free);
                    continue;
                }
                bound => bound?,
            };
            if free != port {
                note(&format!("notice: port {port} is in use; this run uses {free}"));
            }
            return Ok((free, listener));
        }
    };
    let (mcp, mcp_listener) = settle(settings.port, settings.port_asked, "port", settings.ssh_port)?;
    let (ssh, ssh_listener) = settle(settings.ssh_port, settings.ssh_port_asked, "ssh_port", mcp)?;
    Ok((Forwards { address, mcp, ssh }, mcp_listener.into_iter().chain(ssh_listener).collect()))
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::machine::settings::tests::sample;

    /// Machines of several accounts share no lock.
    #[test]
    fn starts_at_once_get_ports_of_their_own() {
        let (settings, name) = (sample(), "app-main".parse().unwrap());
        for _ in 0..50 {
            let barrier = Barrier::new(8);
            let start = || {
                barrier.wait();
                ports(&settings, &name, true).unwrap()
            };
            let runs: Vec<_> = std::thread::scope(|scope| {
                let starts: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
                starts.into_iter().map(|start| start.join().unwrap()).collect()
            });
            let all: BTreeSet<_> = runs.iter().flat_map(|(forwards, _)| [forwards.mcp, forwards.ssh]).collect();
            assert_eq!(all.len(), 16, "{all:?}");
            let bound = runs
                .iter()
                .all(|(forwards, listeners)| listeners.iter().map(|one| one.port).eq([forwards.mcp, forwards.ssh]));
            assert!(bound, "the sockets are those of the ports");
        }
    }
}
