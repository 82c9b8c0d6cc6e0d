//! Takes samples of a running machine.

use std::time::SystemTime;

use jiff::Timestamp;

use super::ports::{self, Ports};
use super::samples::{Connections, Sample, Used};
use super::wakes::{self, Seen, Wakes};
use crate::egress::log;
use crate::host::process::ProcessId;
use crate::machine::Machine;
use crate::machine::in_use::{self, Uses};
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunFacts;
use crate::machine::settings::Settings;

/// A sample, and what it shows about the use of the machine.
pub struct Taken {
    /// The sample. Its idle time is zero.
    pub sample: Sample,
    /// Whether a person or a program has used the machine since the last sample.
    pub used: bool,
}

/// Takes samples of one run.
pub struct Sampler {
    facts: RunFacts,
    ports: Ports,
    /// Whether the kernel has failed to report connections, which is logged once.
    is_blind: bool,
    wakes: Wakes,
    last_use: Option<SystemTime>,
    allowed: u64,
}

impl Sampler {
    /// Returns the sampler of a run.
    #[must_use]
    pub fn new(facts: RunFacts) -> Self {
        Self { facts, ports: Ports::default(), is_blind: false, wakes: Wakes::default(), last_use: None, allowed: 0 }
    }

    /// Takes a sample; None if QEMU has ended.
    pub fn take(
        &mut self,
        machine: &Machine,
        qemu: &ProcessId,
        settings: Option<&Settings>,
        uses: &Uses,
    ) -> Option<Taken> {
        let run = machine.run();
        let used = qemu.usage_with_io().map(Used::from).filter(|_| qemu.alive())?;
        let egress = ProcessId::read(&run.file(MachinePath::EgressPid));
        let (connections, asked) = self.look_at_ports(settings);
        let forwarder = ProcessId::read(&run.file(MachinePath::ForwardMcpPid));
        let wakes = forwarder.as_ref().and_then(wakes::of);
        let woke = self.wakes.take(Seen { wakes, marks: in_use::marks(&machine.dir), open: connections.mcp });
        let allowed = log::allowed(&machine.dir);
        // An agent at work asks its model now and then.
        let used_now = asked || woke || uses.now || uses.last != self.last_use || allowed > self.allowed;
        (self.last_use, self.allowed) = (uses.last, allowed);
        let sample = Sample {
            time: Timestamp::now(),
            pid: qemu.pid,
            qemu: used,
            virtiofsd: run.virtiofsd().and_then(|process| process.usage_with_io()).map(Used::from),
            egress: egress.and_then(|supervisor| supervisor.usage_of_tree()).map(Used::from),
            network: (!self.is_blind).then(|| self.ports.traffic()),
            egress_allowed: allowed,
            egress_denied: log::denied(&machine.dir),
            connections,
            idle_seconds: 0,
        };
        Some(Taken { sample, used: used_now })
    }

    /// Returns the numbers of open connections, and whether they show a use of the machine. If the kernel reports none, the
    /// machine counts as used: it must not be stopped while someone uses it.
    fn look_at_ports(&mut self, settings: Option<&Settings>) -> (Connections, bool) {
        let forwards = settings.into_iter().flat_map(|settings| &settings.forwards).map(|forward| forward.host);
        match ports::look(self.facts.ssh_port, self.facts.port, forwards) {
            Ok(seen) => {
                self.is_blind = false;
                self.ports.take(&seen)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_blind, true) {
                    tracing::warn!("{error:#}: the machine counts as used");
                }
                (Connections::default(), true)
            }
        }
    }
}
