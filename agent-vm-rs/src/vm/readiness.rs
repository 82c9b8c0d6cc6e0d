//! Waits for a machine that was just started: for ssh, then for the service, then for MCP.

use std::fmt;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::egress::supervise::{self, Supervisor};
use crate::guest::Guest;
use crate::host::interrupt::Deadline;
use crate::host::log_file;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunFacts;
use crate::mcp::endpoint::{Endpoint, Timeouts};
use crate::mcp::health::probe_mcp;
use crate::remote::service::{self, ServiceState};
use crate::remote::ssh::Ssh;
use crate::term::error::{EXIT_TIMEOUT, Failure, exit_code};
use crate::term::progress::note;
use crate::vm::diagnosis::{Ending, Evidence};
use crate::vm::phases::Phases;

/// The guest runs, but its MCP service failed. The machine keeps running.
#[derive(Debug)]
pub struct ServiceDown;

impl fmt::Display for ServiceDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the machine is up and keeps running")
    }
}

impl std::error::Error for ServiceDown {}

/// Time limits of one MCP request.
const ANSWER: Timeouts = Timeouts { connect: None, whole: Some(Duration::from_secs(30)) };

/// Fails once a process has ended that the machine needs.
pub type Alive<'a> = &'a dyn Fn() -> Result<()>;

/// Time for sshd to send its greeting once the guest's network is up: at first, and at most on a busy host.
const GREETING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(80));
/// Time between connection attempts before the guest reports that its network is up.
const UNMARKED_INTERVAL: Duration = Duration::from_secs(2);
/// Time for one ssh login; after that a new attempt starts.
const LOGIN: Duration = Duration::from_secs(60);

/// Interval between queries of the service's state. Each query slows the booting guest down.
const SERVICE_INTERVAL: Duration = Duration::from_secs(5);
/// Time for systemd to answer: at first, and at most on a busy host.
const SERVICE_ANSWER: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(40));
/// Time to fetch the last log lines of a service.
const LAST_WORDS: Duration = Duration::from_secs(15);
/// Time for the egress proxy and its port forwarding. A machine is useful without them.
const EGRESS: Duration = Duration::from_secs(120);

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
    let deadline = Deadline::after(context.start_limit(&facts.accel));
    let ssh = Ssh::to(machine, &guest.manifest, facts, context.verbosity);
    // All attempts share one connection, which saves the booting guest TLS handshakes.
    let endpoint = Endpoint::for_queries(machine, facts, ANSWER)?;
    phases.run("ssh", || {
        wait_for_greeting(machine, guest, &ssh, alive, deadline)?;
        wait_for_login(&ssh, alive, deadline)
    })?;
    let egress = supervise::start(context, machine);
    let answered = phases.run("service", || wait_for_service(guest, &endpoint, &ssh, alive, deadline));
    let answered = answered.map_err(|error| explain(error, machine, guest, &ssh))?;
    wait_for_egress(egress, machine, alive, context.timeout.unwrap_or(EGRESS), phases);
    if answered {
        return Ok(());
    }
    let path = &guest.manifest.service.mcp_path;
    let asked = phases.run("MCP", || {
        let mut mcp = Probe::new(&endpoint, path);
        deadline.poll("MCP", Duration::from_millis(50), || {
            alive()?;
            Ok(mcp.answered().then_some(()))
        })
    });
    asked.map(drop).map_err(|error| explain(error, machine, guest, &ssh))
}

/// Waits for sshd's greeting. An early connection attempt that times out slows the booting guest down, so the guest's
/// report of its network is awaited first. The guest may never send it, so attempts start anyway after a while.
fn wait_for_greeting(
    machine: &Machine,
    guest: &Guest,
    ssh: &Ssh<'_>,
    alive: Alive<'_>,
    deadline: Deadline,
) -> Result<()> {
    let console = machine.run().file(MachinePath::RunConsole);
    let is_up = || match &guest.manifest.network_mark {
        Some(mark) => log_file::end(&console, log_file::LAST_WORDS).is_ok_and(|text| holds(&text, mark.as_bytes())),
        None => false,
    };
    let mut next_try = Instant::now() + UNMARKED_INTERVAL;
    let mut greeting = GREETING.0;
    let greeted = deadline.poll("ssh", Duration::from_millis(20), || {
        alive()?;
        let up = is_up();
        if !up && Instant::now() < next_try {
            return Ok(None);
        }
        let timeout = if up { greeting } else { Duration::from_millis(1_500) };
        let greets = ssh.greets(timeout.min(deadline.left()), alive)?;
        if up {
            greeting = (greeting * 2).min(GREETING.1);
        }
        next_try = Instant::now() + UNMARKED_INTERVAL;
        Ok(greets.then_some(()))
    });
    greeted.map_err(|error| match (exit_code(&error) == EXIT_TIMEOUT, is_up()) {
        (false, _) => error,
        (true, true) => error.context("the guest's network is up, but its ssh server does not answer"),
        (true, false) => error.context("the guest did not bring its network up"),
    })
}

/// Logs in. On a busy host one attempt may take too long, so attempts repeat until the deadline.
fn wait_for_login(ssh: &Ssh<'_>, alive: Alive<'_>, deadline: Deadline) -> Result<()> {
    let mut last = None;
    let logged_in = deadline.poll("an ssh login", Duration::from_millis(200), || {
        let error = match ssh.connect_while(deadline.at_most(LOGIN), alive) {
            Ok(()) => return Ok(Some(())),
            Err(error) => error,
        };
        crate::host::interrupt::check()?;
        alive()?;
        let is_final = |text: &str| FINAL.iter().any(|words| text.contains(words));
        if is_final(&format!("{error:#}")) {
            return Err(error);
        }
        tracing::info!("no ssh login yet: {error:#}");
        last = Some(error);
        Ok(None)
    });
    // The last attempt's error explains more than the timeout.
    logged_in.map_err(|error| match last {
        Some(last) if exit_code(&error) == EXIT_TIMEOUT => last.context(error),
        _ => error,
    })
}

/// ssh's messages after which another attempt cannot succeed, and our message for a missing ssh.
const FINAL: [&str; 3] = ["Permission denied", "Host key verification failed", "is not on PATH"];

fn holds(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}

/// Waits for egress. Without it the machine is only more isolated, so a failure is only a notice.
fn wait_for_egress(
    started: Result<Supervisor>,
    machine: &Machine,
    alive: Alive<'_>,
    limit: Duration,
    phases: &mut Phases,
) {
    let deadline = Deadline::after(limit);
    let up = started.and_then(|supervisor| phases.run("egress", || supervisor.wait(machine, alive, deadline)));
    if let Err(error) = up {
        note(&format!("notice: {} has no network access: {error:#}", machine.name));
    }
}

/// Waits until systemd reports the service as active, or MCP answers. Returns which.
fn wait_for_service(
    guest: &Guest,
    endpoint: &Endpoint,
    ssh: &Ssh<'_>,
    alive: Alive<'_>,
    deadline: Deadline,
) -> Result<bool> {
    let service = &guest.manifest.service;
    let mut next_look = Instant::now() + SERVICE_INTERVAL;
    let mut answer = SERVICE_ANSWER.0;
    let mut mcp = Probe::new(endpoint, &service.mcp_path);
    deadline.poll(&format!("the service {}", service.unit), Duration::from_millis(50), || {
        alive()?;
        if mcp.answered() {
            return Ok(Some(true));
        }
        if Instant::now() < next_look {
            return Ok(None);
        }
        let units = [service.unit.as_str(), &service.gate_unit];
        let states = service::states(ssh, units, answer.min(deadline.left()));
        next_look = Instant::now() + SERVICE_INTERVAL;
        let states = match states {
            Ok(states) => states,
            Err(error) => {
                crate::host::interrupt::check()?;
                // A late answer is not a failure: ask again with a longer time limit, and reconnect if the connection is
                // lost.
                tracing::info!("no state of the services yet: {error:#}");
                answer = (answer * 2).min(SERVICE_ANSWER.1);
                drop(ssh.connect_while(deadline.at_most(LOGIN), alive));
                return Ok(None);
            }
        };
        for (unit, state) in units.iter().zip(&states) {
            if state.failed() || state.crashes() {
                return Err(Failure::new(format!("the service {unit} failed ({state})")).into());
            }
        }
        Ok(states.iter().all(ServiceState::running).then_some(false))
    })
}

/// Queries MCP repeatedly in another thread, since one answer may take long.
struct Probe {
    endpoint: Endpoint,
    path: String,
    asking: Option<JoinHandle<bool>>,
}

impl Probe {
    fn new(endpoint: &Endpoint, path: &str) -> Self {
        Self { endpoint: endpoint.clone(), path: path.to_owned(), asking: None }
    }

    /// Returns whether MCP has answered.
    fn answered(&mut self) -> bool {
        match self.asking.take() {
            Some(asking) if asking.is_finished() => asking.join().unwrap_or(false),
            Some(asking) => {
                self.asking = Some(asking);
                false
            }
            None => {
                let (endpoint, path) = (self.endpoint.clone(), self.path.clone());
                self.asking = Some(std::thread::spawn(move || probe_mcp(&endpoint, &path).is_ok()));
                false
            }
        }
    }
}

/// Adds the service's last log lines to an error, if the guest can be asked.
fn explain(error: anyhow::Error, machine: &Machine, guest: &Guest, ssh: &Ssh<'_>) -> anyhow::Error {
    if error.is::<crate::term::error::Interrupted>() || machine.run().qemu().is_none() {
        return error;
    }
    let mut evidence = Evidence::of(machine, Ending::Running);
    for unit in [&guest.manifest.service.unit, &guest.manifest.service.gate_unit] {
        let Ok(journal) = service::last_lines(ssh, unit, LAST_WORDS) else { return error };
        crate::term::progress::note(&format!("the last lines of {unit}:\n{journal}"));
        evidence.journal += &(journal + "\n");
    }
    let name = &machine.name;
    let exit = crate::term::error::exit_code(&error);
    let see = format!("to see its log: agent-vm logs {name}\nto start it again: agent-vm restart {name}");
    // That the unit failed is known.
    let cause = evidence.cause().filter(|cause| !cause.is_a_units());
    let (error, hint) = match cause {
        Some(cause) => (error.context(cause.text), format!("{}\n{see}", cause.remedy(name.as_str()))),
        None => (error, see),
    };
    error
        .context(ServiceDown)
        .context(Failure::new(format!("MCP of {name} does not answer")).exit(exit).with_hint(hint))
}
