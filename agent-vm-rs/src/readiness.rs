//! Waiting for a machine that was just started: for ssh, then for the service, then for MCP.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cli::Context;
use crate::egress::supervise::{self, Supervisor};
use crate::endpoint::{Endpoint, Patience};
use crate::error::Failure;
use crate::guest::Guest;
use crate::health::probe_mcp;
use crate::interrupt::Deadline;
use crate::machine::Machine;
use crate::progress::{Phases, note};
use crate::run_state::RunFacts;
use crate::ssh::Ssh;
use crate::{log_file, service};

/// The guest is up, but its service is not: the machine is left running.
#[derive(Debug)]
pub struct ServiceDown;

impl fmt::Display for ServiceDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the machine itself is up and keeps running")
    }
}

impl std::error::Error for ServiceDown {}

/// One answer of MCP's may take this long.
const ANSWER: Patience = Patience { connect: None, whole: Some(Duration::from_secs(5)) };

/// Fails once QEMU has ended.
pub type Alive<'a> = &'a dyn Fn() -> Result<()>;

/// How long a guest whose network is up may take to start a process of sshd's.
const GREETING: Duration = Duration::from_secs(10);
/// Time between tries to connect to a guest that has not said that its network is up.
const UNMARKED_INTERVAL: Duration = Duration::from_secs(2);

/// A service that failed this often will not come up by itself.
const RESTARTS: u32 = 2;
/// Asking systemd costs the booting guest time: it is asked this often.
const SERVICE_INTERVAL: Duration = Duration::from_secs(5);

/// Waits until MCP answers.
///
/// # Errors
/// QEMU ends, a deadline passes, or the service fails.
pub fn wait(
    context: &Context,
    machine: &Machine,
    guest: &Guest,
    facts: &RunFacts,
    alive: Alive<'_>,
    phases: &mut Phases,
) -> Result<()> {
    let deadline = context.deadline();
    let ssh = Ssh::to(machine, &guest.manifest, facts, context.ssh_talk());
    // One for all the tries: the connection is kept, so that the booting guest is spared the handshakes.
    let endpoint = Endpoint::of(machine, facts, ANSWER)?;
    phases.run("ssh", || {
        wait_for_greeting(machine, guest, &ssh, alive, deadline)?;
        ssh.connect(deadline)
    })?;
    let egress = supervise::start(context, machine);
    let answered = phases.run("service", || wait_for_service(guest, &endpoint, &ssh, alive, deadline));
    let answered = answered.map_err(|error| explain(error, machine, guest, &ssh))?;
    wait_for_egress(egress, machine, alive, deadline, phases);
    if answered {
        return Ok(());
    }
    let path = &guest.manifest.service.mcp_path;
    let asked = phases.run("MCP", || {
        deadline.poll("MCP", Duration::from_millis(100), || {
            alive()?;
            Ok(probe_mcp(&endpoint, path).ok())
        })
    });
    asked.map(drop).map_err(|error| explain(error, machine, guest, &ssh))
}

/// Waits for sshd. A connection that is made too early and given up costs the booting guest more than one that is
/// made later, so the guest's word that its network is up is waited for; but not only that, for it is the guest's.
fn wait_for_greeting(
    machine: &Machine,
    guest: &Guest,
    ssh: &Ssh<'_>,
    alive: Alive<'_>,
    deadline: Deadline,
) -> Result<()> {
    let console = machine.run().file("console.log");
    let is_up = || match &guest.manifest.network_mark {
        Some(mark) => log_file::end(&console, log_file::LAST_WORDS).is_ok_and(|said| holds(&said, mark.as_bytes())),
        None => false,
    };
    let mut next_try = Instant::now() + UNMARKED_INTERVAL;
    deadline.poll("ssh", Duration::from_millis(20), || {
        alive()?;
        let up = is_up();
        if !up && Instant::now() < next_try {
            return Ok(None);
        }
        let greets = ssh.greets(if up { GREETING } else { Duration::from_millis(1_500) });
        next_try = Instant::now() + UNMARKED_INTERVAL;
        Ok(greets.then_some(()))
    })
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}

/// Waits for the way out. A machine without one is as closed as can be, so it is said and no failure.
fn wait_for_egress(
    started: Result<Supervisor>,
    machine: &Machine,
    alive: Alive<'_>,
    deadline: Deadline,
    phases: &mut Phases,
) {
    let up = started.and_then(|supervisor| phases.run("egress", || supervisor.wait(machine, alive, deadline)));
    if let Err(error) = up {
        note(&format!("notice: {} reaches nothing outside: {error:#}", machine.name));
    }
}

/// Waits until systemd calls the service active, or MCP answers all the same; tells which.
fn wait_for_service(
    guest: &Guest,
    endpoint: &Endpoint,
    ssh: &Ssh<'_>,
    alive: Alive<'_>,
    deadline: Deadline,
) -> Result<bool> {
    let service = &guest.manifest.service;
    let mut next_look = Instant::now() + SERVICE_INTERVAL;
    deadline.poll(&format!("the service {}", service.unit), Duration::from_millis(100), || {
        alive()?;
        if probe_mcp(endpoint, &service.mcp_path).is_ok() {
            return Ok(Some(true));
        }
        if Instant::now() < next_look {
            return Ok(None);
        }
        next_look = Instant::now() + SERVICE_INTERVAL;
        let mut all_active = true;
        for unit in [&service.unit, &service.gate_unit] {
            let state = service::state(ssh, unit)?;
            if state.failed() || state.restarts >= RESTARTS {
                return Err(Failure::new(format!("the service {unit} fails ({state})")).into());
            }
            all_active &= state.running();
        }
        Ok(all_active.then_some(false))
    })
}

/// Adds the service's last words to an error, as long as the guest can be asked.
fn explain(error: anyhow::Error, machine: &Machine, guest: &Guest, ssh: &Ssh<'_>) -> anyhow::Error {
    if error.is::<crate::error::Interrupted>() || machine.run().qemu().is_none() {
        return error;
    }
    for unit in [&guest.manifest.service.unit, &guest.manifest.service.gate_unit] {
        let Ok(journal) = service::last_lines(ssh, unit) else { return error };
        crate::progress::note(&format!("the last lines of {unit}:\n{journal}"));
    }
    let name = &machine.name;
    let exit = crate::error::exit_code(&error);
    let hint = format!("agent-vm logs {name}, agent-vm shell {name}; then agent-vm restart {name}");
    error.context(ServiceDown).context(Failure::new(format!("MCP of {name} does not answer")).exit(exit).hint(hint))
}
