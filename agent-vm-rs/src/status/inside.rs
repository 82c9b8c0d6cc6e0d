//! Queries a running machine: QEMU, ssh, the service and MCP, all at the same time and with short time limits.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::{ANSWER, Mcp, Service, SshFacts};
use crate::guest::Guest;
use crate::guest::manifest::Manifest;
use crate::host::interrupt::Deadline;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::run_state::RunFacts;
use crate::mcp::endpoint::{self, Endpoint, Timeouts};
use crate::mcp::health::probe_mcp;
use crate::remote::servers::{self, Servers};
use crate::remote::service;
use crate::remote::ssh::Ssh;
use crate::term::error::{EXIT_TIMEOUT, exit_code};
use crate::vm::qmp::FULL_DISK;

/// The answers of a running machine.
#[derive(Default)]
pub struct Inside {
    /// QEMU's run state.
    pub qemu: String,
    /// ssh's address, and whether a login works.
    pub ssh: Option<SshFacts>,
    /// The service's state in systemd.
    pub service: Option<Service>,
    /// The MCP servers' states, as the guest reports them.
    pub servers: Option<Servers>,
    /// The MCP endpoint, and whether it answers.
    pub mcp: Option<Mcp>,
    /// Problems found.
    pub problems: Vec<String>,
}

impl Inside {
    /// Returns the answers of a machine whose QEMU is suspended: none.
    pub fn suspended() -> Self {
        Self { qemu: "suspended".to_owned(), ..Self::default() }
    }
}

/// Queries everything at the same time. For a machine that is still starting, a missing answer is not an error. A
/// suspended machine is not queried.
pub fn look(context: &Context, machine: &Machine, facts: &RunFacts, starting: bool, suspended: bool) -> Inside {
    let limit = facts.answer_limit(ANSWER);
    if suspended {
        return Inside::suspended();
    }
    let mut inside = Inside::default();
    let guest = match Guest::of(machine) {
        Ok(guest) => guest,
        Err(error) => {
            inside.problems.push(format!("{error:#}"));
            return inside;
        }
    };
    let (qemu, mcp, systemd) = thread::scope(|scope| {
        let qemu = scope.spawn(|| crate::vm::qmp::run_state(&machine.run()));
        let mcp = scope.spawn(|| ask_mcp(machine, &guest.manifest, facts, limit));
        let systemd = ask_systemd(context, machine, &guest, facts, starting, Deadline::after(limit));
        (joined(qemu), joined(mcp), systemd)
    });
    inside.qemu = qemu.unwrap_or_else(|error| {
        inside.problems.push(format!("{error:#}"));
        "unknown".to_owned()
    });
    if inside.qemu == FULL_DISK {
        let why = "the machine is paused: its disk found no space on this host; free some, and it goes on by itself";
        inside.problems.push(why.to_owned());
    }
    inside.mcp = Some(mcp_facts(machine, &guest.manifest, facts, mcp.as_ref().ok().copied()));
    inside.ssh = Some(SshFacts { host: facts.host, port: facts.ssh_port, reachable: systemd.is_ok() });
    let unit = guest.manifest.service.unit.clone();
    let failed = [
        systemd.as_ref().err().map(|error| silence("ssh", error, limit)),
        mcp.err().map(|error| silence("MCP", &error, limit)),
    ];
    if !starting {
        inside.problems.extend(failed.into_iter().flatten());
    }
    let none = Units { service: Service { unit, state: None, last_lines: None }, servers: None, problems: Vec::new() };
    let units = systemd.unwrap_or(none);
    inside.service = Some(units.service);
    inside.servers = units.servers;
    inside.problems.extend(units.problems);
    inside
}

fn joined<T>(asking: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    asking.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a query failed unexpectedly")))
}

/// Describes a missing answer. After a timeout, the time limit says enough.
fn silence(who: &str, error: &anyhow::Error, limit: Duration) -> String {
    let late = exit_code(error) == EXIT_TIMEOUT
        || error.chain().any(|cause| matches!(cause.downcast_ref(), Some(ureq::Error::Timeout(_))));
    if late { format!("{who}: no answer in {:.1} s", limit.as_secs_f32()) } else { format!("{who}: {error:#}") }
}

fn ask_mcp(machine: &Machine, manifest: &Manifest, facts: &RunFacts, limit: Duration) -> Result<Duration> {
    let endpoint = Endpoint::for_queries(machine, facts, Timeouts { connect: None, whole: Some(limit) })?;
    probe_mcp(&endpoint, &manifest.service.mcp_path)
}

/// The states that systemd and the guest's MCP gateway report.
struct Units {
    service: Service,
    servers: Option<Servers>,
    problems: Vec<String>,
}

/// Queries the states of the service, its servers and its reverse proxy, and describes their problems.
fn ask_systemd(
    context: &Context,
    machine: &Machine,
    guest: &Guest,
    facts: &RunFacts,
    starting: bool,
    deadline: Deadline,
) -> Result<Units> {
    let ssh = Ssh::to(machine, &guest.manifest, facts, context.verbosity);
    if starting && !ssh.is_connected() {
        // A login slows a booting guest down.
        anyhow::bail!("the machine is starting");
    }
    ssh.connect(deadline)?;
    let (unit, gate) = (&guest.manifest.service.unit, &guest.manifest.service.gate_unit);
    let report = servers::script(&guest.manifest);
    let asked = service::states_and(&ssh, [unit, gate], report.as_deref().unwrap_or("true"), deadline.left());
    let ([state, gate_state], printed) = asked?;
    let servers = Servers::of_answer(&printed).unwrap_or_else(|error| Some(Servers::unknown(&error)));
    let mut problems: Vec<_> = servers.iter().flat_map(|servers| servers.troubles(machine.name.as_str())).collect();
    // The log lines are useful, but not worth a long wait.
    let log_of = |unit: &str| service::last_lines(&ssh, unit, deadline.left().max(Duration::from_millis(200)));
    let troubled = !state.running() || state.restarts > 0;
    let last_lines = troubled.then(|| log_of(unit).ok()).flatten();
    let trouble = (!gate_state.running() && !starting).then(|| {
        let lines = log_of(gate).unwrap_or_default();
        format!("the MCP reverse proxy {gate} is not running ({gate_state}): {lines}")
    });
    problems.extend(trouble);
    Ok(Units { service: Service { unit: unit.clone(), state: Some(state), last_lines }, servers, problems })
}

fn mcp_facts(machine: &Machine, manifest: &Manifest, facts: &RunFacts, took: Option<Duration>) -> Mcp {
    Mcp {
        url: facts.url(&manifest.service.mcp_path),
        sse_url: facts.url(&manifest.service.sse_path),
        tls: facts.tls,
        auth: facts.auth,
        ca_file: facts.tls.then(|| endpoint::ca_file(&machine.dir)),
        responds: took.is_some(),
        response_ms: took.map(|took| took.as_millis()),
    }
}
