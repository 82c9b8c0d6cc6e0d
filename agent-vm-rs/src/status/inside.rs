//! What a running machine answers: QEMU, ssh, the service and MCP, each asked beside the others and none for long.

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

/// What was answered, and what was not.
#[derive(Default)]
pub struct Inside {
    /// QEMU's word for what the machine does.
    pub qemu: String,
    /// Whether sshd lets us in.
    pub ssh: Option<SshFacts>,
    /// The service, as systemd has it.
    pub service: Option<Service>,
    /// The servers, as the guest's launcher reports them.
    pub servers: Option<Servers>,
    /// MCP.
    pub mcp: Option<Mcp>,
    /// What is wrong.
    pub problems: Vec<String>,
}

/// Asks everything at once. Of a machine that is still starting, silence is no problem. A suspended one is not asked.
pub fn look(context: &Context, machine: &Machine, facts: &RunFacts, starting: bool, suspended: bool) -> Inside {
    let mut inside = Inside { qemu: "suspended".to_owned(), ..Inside::default() };
    if suspended {
        return inside;
    }
    let guest = match Guest::of(machine) {
        Ok(guest) => guest,
        Err(error) => {
            inside.problems.push(format!("{error:#}"));
            return inside;
        }
    };
    let (qemu, mcp, systemd) = thread::scope(|scope| {
        let qemu = scope.spawn(|| crate::vm::qmp::run_state(&machine.run()));
        let mcp = scope.spawn(|| ask_mcp(machine, &guest.manifest, facts));
        let systemd = ask_systemd(context, machine, &guest, facts, starting);
        (joined(qemu), joined(mcp), systemd)
    });
    inside.qemu = qemu.unwrap_or_else(|error| {
        inside.problems.push(format!("{error:#}"));
        "unknown".to_owned()
    });
    inside.mcp = Some(mcp_facts(machine, &guest.manifest, facts, mcp.as_ref().ok().copied()));
    inside.ssh = Some(SshFacts { host: facts.host, port: facts.ssh_port, reachable: systemd.is_ok() });
    let unit = guest.manifest.service.unit.clone();
    let failed =
        [systemd.as_ref().err().map(|error| silence("ssh", error)), mcp.err().map(|error| silence("MCP", &error))];
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
    asking.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a probe broke off")))
}

/// Why there is no answer; of one that only took too long, that.
fn silence(who: &str, error: &anyhow::Error) -> String {
    let late = exit_code(error) == EXIT_TIMEOUT
        || error.chain().any(|cause| matches!(cause.downcast_ref(), Some(ureq::Error::Timeout(_))));
    if late { format!("{who}: no answer in {:.1} s", ANSWER.as_secs_f32()) } else { format!("{who}: {error:#}") }
}

fn ask_mcp(machine: &Machine, manifest: &Manifest, facts: &RunFacts) -> Result<Duration> {
    let endpoint = Endpoint::of(machine, facts, Timeouts { connect: None, whole: Some(ANSWER) })?;
    probe_mcp(&endpoint, &manifest.service.mcp_path)
}

/// What systemd and the launcher say.
struct Units {
    service: Service,
    servers: Option<Servers>,
    problems: Vec<String>,
}

/// The service's state and its servers', and what is wrong with them or with what is before them.
fn ask_systemd(context: &Context, machine: &Machine, guest: &Guest, facts: &RunFacts, starting: bool) -> Result<Units> {
    let deadline = Deadline::after(ANSWER);
    let ssh = Ssh::to(machine, &guest.manifest, facts, context.verbosity);
    if starting && !ssh.is_connected() {
        // A login that is begun too early costs a booting guest more than it tells.
        anyhow::bail!("the machine is starting");
    }
    ssh.connect(deadline)?;
    let (unit, gate) = (&guest.manifest.service.unit, &guest.manifest.service.gate_unit);
    let report = servers::script(&guest.manifest);
    let asked = service::states_and(&ssh, [unit, gate], report.as_deref().unwrap_or("true"), deadline.left());
    let ([state, gate_state], printed) = asked?;
    let servers = Servers::of_answer(&printed).unwrap_or_else(|error| Some(Servers::unknown(&error)));
    let mut problems: Vec<_> = servers.iter().flat_map(|servers| servers.troubles(machine.name.as_str())).collect();
    // Their last words are worth having, and not worth waiting for.
    let said = |unit: &str| service::last_lines(&ssh, unit, deadline.left().max(Duration::from_millis(200)));
    let troubled = !state.running() || state.restarts > 0;
    let last_lines = troubled.then(|| said(unit).ok()).flatten();
    let trouble = (!gate_state.running() && !starting).then(|| {
        let said = said(gate).unwrap_or_default();
        format!("{gate}, through which MCP is reached, is not up ({gate_state}): {said}")
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
