//! The metrics of machines: their names, and their values.

use std::time::Duration;

use jiff::Timestamp;

use super::exposition::{Family, Kind, Metric};
use super::facts::{Facts, Run, State};
use super::inside::Inside;
use crate::machine::helpers::HelperState;
use crate::remote::servers::State as ServerState;
use crate::watch::samples::{Sample, Used};

/// Makes the list of metrics and their constants.
macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal $unit:literal [$($label:literal),*] $help:literal;)*) => {
        $(const $constant: Family =
            Family { name: $name, kind: Kind::$kind, unit: $unit, labels: &[$($label),*], help: $help };)*

        /// All metrics.
        pub const ALL: &[&Family] = &[$(&$constant),*];
    };
}

families! {
    BUILD: Gauge "agent_vm_build_info" "" ["version", "directory"] "Always 1, with the version of agent-vm that wrote the metrics";
    INFO: Gauge "agent_vm_machine_info" "" ["machine", "branch", "guest", "accel"] "Always 1, with facts of the machine; accel is empty while it does not run";
    STATE: Gauge "agent_vm_machine_state" "" ["machine", "state"] "1 for the machine's state, 0 for the others";
    FAILED: Gauge "agent_vm_machine_failed" "" ["machine"] "1 if the last run ended by a crash or a panic, and not by a command";
    STARTED: Gauge "agent_vm_machine_start_time_seconds" "seconds" ["machine"] "When the run began, as a Unix time";
    IDLE: Gauge "agent_vm_machine_idle_seconds" "seconds" ["machine"] "Time since the machine was last used";
    SAMPLE_TIME: Gauge "agent_vm_machine_sample_timestamp_seconds" "seconds" ["machine"] "When the watcher took the sample that these metrics show, as a Unix time";
    CERTIFICATE: Gauge "agent_vm_machine_certificate_expiry_timestamp_seconds" "seconds" ["machine"] "When the certificate of the MCP endpoint expires, as a Unix time";
    HELPER: Gauge "agent_vm_machine_helper_up" "" ["machine", "helper"] "1 if the process of the machine runs, 0 if it is suspended or has ended";
    CPU: Counter "agent_vm_machine_cpu_seconds" "seconds" ["machine", "process"] "Processor time of qemu, virtiofsd, and the egress proxy with its tunnel";
    MEMORY: Gauge "agent_vm_machine_memory_bytes" "bytes" ["machine", "process"] "Resident memory of these processes on the host";
    MEMORY_LIMIT: Gauge "agent_vm_machine_memory_limit_bytes" "bytes" ["machine"] "Memory of the guest, as set";
    CORES: Gauge "agent_vm_machine_cores" "" ["machine"] "Number of the guest's processors, as set";
    READ: Counter "agent_vm_machine_read_bytes" "bytes" ["machine", "process"] "Bytes that these processes read from disks; qemu for the disk, virtiofsd for the workspace";
    WRITTEN: Counter "agent_vm_machine_written_bytes" "bytes" ["machine", "process"] "Bytes that these processes wrote to disks";
    DISK_USED: Gauge "agent_vm_machine_disk_used_bytes" "bytes" ["machine"] "Space that the disk image takes on the host";
    DISK_SIZE: Gauge "agent_vm_machine_disk_size_bytes" "bytes" ["machine"] "Size of the guest's disk, as set";
    RECEIVED: Counter "agent_vm_machine_network_received_bytes" "bytes" ["machine"] "Bytes that came in through the machine's ports";
    SENT: Counter "agent_vm_machine_network_sent_bytes" "bytes" ["machine"] "Bytes that went out through the machine's ports";
    CONNECTIONS: Gauge "agent_vm_machine_connections" "" ["machine", "kind"] "Open connections to ssh, mcp and forwarded ports, without agent-vm's own";
    EGRESS_UP: Gauge "agent_vm_machine_egress_up" "" ["machine"] "1 if the guest can reach the egress proxy";
    EGRESS: Counter "agent_vm_machine_egress_requests" "" ["machine", "verdict"] "Connection attempts that the egress proxy allowed and denied in this run";
    MCP_UP: Gauge "agent_vm_machine_mcp_up" "" ["machine"] "1 if MCP answered just now";
    MCP_TIME: Gauge "agent_vm_machine_mcp_response_seconds" "seconds" ["machine"] "Time until that answer";
    SERVER_UP: Gauge "agent_vm_machine_mcp_server_up" "" ["machine", "server"] "1 if the MCP server runs, as the guest reports it";
    SERVER_RESTARTS: Counter "agent_vm_machine_mcp_server_restarts" "" ["machine", "server"] "Restarts of the MCP server, as the guest reports them";
    CALLS: Counter "agent_vm_machine_mcp_calls" "" ["machine", "server"] "Requests that the MCP server answered, as the guest reports them";
    CALL_ERRORS: Counter "agent_vm_machine_mcp_call_errors" "" ["machine", "server"] "Those of them that were answered with an error";
    CALL_TIME: Counter "agent_vm_machine_mcp_call_seconds" "seconds" ["machine", "server"] "Time of all these requests";
    FREE: Gauge "agent_vm_state_free_bytes" "bytes" ["directory"] "Free space of the file system of the state directory";
    SIZE: Gauge "agent_vm_state_size_bytes" "bytes" ["directory"] "Size of that file system";
}

/// What the file system of the state directory has, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// Free bytes.
    pub free: u64,
    /// All bytes.
    pub size: u64,
}

/// Everything that the metrics show.
pub struct Seen<'a> {
    /// The machines, with their answers if they were asked.
    pub machines: &'a [(Facts, Option<Inside>)],
    /// Path of the state directory.
    pub directory: &'a str,
    /// None if it cannot be examined.
    pub space: Option<Space>,
}

/// Returns the metrics.
#[must_use]
pub fn metrics(seen: &Seen<'_>) -> Vec<Metric> {
    let mut all = All(ALL.iter().map(|family| Metric::new(family)).collect());
    all.add(&BUILD, &[env!("CARGO_PKG_VERSION"), seen.directory], 1.0);
    for (facts, inside) in seen.machines {
        of_machine(&mut all, facts);
        if let Some(inside) = inside {
            of_answers(&mut all, &facts.name, inside);
        }
    }
    all.add_if(&FREE, &[seen.directory], seen.space.map(|space| space.free as f64));
    all.add_if(&SIZE, &[seen.directory], seen.space.map(|space| space.size as f64));
    all.0
}

/// The metrics, each at its place in [`ALL`].
struct All(Vec<Metric>);

impl All {
    fn add(&mut self, family: &Family, labels: &[&str], value: f64) {
        if let Some(metric) = self.0.iter_mut().find(|metric| metric.family() == family) {
            metric.add(labels, value);
        }
    }

    fn add_if(&mut self, family: &Family, labels: &[&str], value: Option<f64>) {
        if let Some(value) = value {
            self.add(family, labels, value);
        }
    }
}

fn flag(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

fn unix(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1_000.0
}

fn of_machine(all: &mut All, facts: &Facts) {
    let name = facts.name.as_str();
    for state in State::ALL {
        all.add(&STATE, &[name, state.as_str()], flag(state == facts.state));
    }
    all.add(&FAILED, &[name], flag(facts.failed));
    if let Some(settings) = &facts.settings {
        let accel = facts.run.as_ref().map_or("", |run| run.facts.accel.as_str());
        all.add(&INFO, &[name, settings.branch.as_str(), &settings.guest.to_string(), accel], 1.0);
        all.add(&MEMORY_LIMIT, &[name], f64::from(settings.memory) * 1_048_576.0);
        all.add(&CORES, &[name], f64::from(settings.cores));
        all.add(&DISK_SIZE, &[name], f64::from(settings.disk) * 1_048_576.0);
    }
    all.add_if(&DISK_USED, &[name], facts.disk_used.map(|bytes| bytes as f64));
    if let Some(run) = &facts.run {
        of_run(all, name, run);
    }
    if let Some(sample) = facts.last() {
        of_sample(all, name, sample);
    }
}

fn of_run(all: &mut All, name: &str, run: &Run) {
    all.add(&STARTED, &[name], unix(run.facts.started));
    all.add(&EGRESS_UP, &[name], flag(run.egress_up));
    all.add_if(&CERTIFICATE, &[name], run.certificate_expires.map(unix));
    for helper in &run.helpers {
        all.add(&HELPER, &[name, helper.name], flag(helper.state == HelperState::Running));
    }
}

fn of_sample(all: &mut All, name: &str, sample: &Sample) {
    all.add(&SAMPLE_TIME, &[name], unix(sample.time));
    all.add(&IDLE, &[name], sample.idle_seconds as f64);
    let processes: [(&str, Option<Used>); 3] =
        [("qemu", Some(sample.qemu)), ("virtiofsd", sample.virtiofsd), ("egress", sample.egress)];
    for (process, used) in processes {
        let Some(used) = used else { continue };
        let labels = [name, process];
        all.add(&CPU, &labels, used.cpu_ms as f64 / 1_000.0);
        all.add(&MEMORY, &labels, used.memory_bytes as f64);
        all.add_if(&READ, &labels, used.read_bytes.map(|bytes| bytes as f64));
        all.add_if(&WRITTEN, &labels, used.written_bytes.map(|bytes| bytes as f64));
    }
    all.add_if(&RECEIVED, &[name], sample.network.map(|traffic| traffic.received_bytes as f64));
    all.add_if(&SENT, &[name], sample.network.map(|traffic| traffic.sent_bytes as f64));
    let connections = sample.connections;
    for (kind, count) in [("ssh", connections.ssh), ("mcp", connections.mcp), ("forwarded", connections.forwarded)] {
        all.add(&CONNECTIONS, &[name, kind], f64::from(count));
    }
    all.add(&EGRESS, &[name, "allowed"], sample.egress_allowed as f64);
    all.add(&EGRESS, &[name, "denied"], sample.egress_denied as f64);
}

fn of_answers(all: &mut All, name: &str, inside: &Inside) {
    all.add(&MCP_UP, &[name], flag(inside.mcp.is_some()));
    all.add_if(&MCP_TIME, &[name], inside.mcp.as_ref().map(Duration::as_secs_f64));
    for server in inside.servers.iter().flatten() {
        let labels = [name, server.name.as_str()];
        all.add(&SERVER_UP, &labels, flag(server.state == ServerState::Running));
        all.add(&SERVER_RESTARTS, &labels, f64::from(server.restarts));
        if let Some(calls) = server.calls {
            all.add(&CALLS, &labels, calls.count as f64);
            all.add(&CALL_ERRORS, &labels, calls.errors as f64);
            all.add(&CALL_TIME, &labels, calls.time_ms as f64 / 1_000.0);
        }
    }
}

#[cfg(test)]
mod tests;
