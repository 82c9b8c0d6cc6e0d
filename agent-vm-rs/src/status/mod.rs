//! Collects the state of a machine. `text` formats the same facts that `--json` prints.

mod all;
mod expiry;
mod inside;
mod text;
mod workspace;

use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use self::inside::Inside;
use self::workspace::Workspace;
use crate::egress::{log, rules, supervise, upstream};
use crate::host::process::ProcessId;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::egress_settings::Mode;
use crate::machine::events::{self, Event};
use crate::machine::helpers::{self, Helper};
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunFacts;
use crate::remote::servers::Servers;
use crate::remote::service::ServiceState;
use crate::remote::ssh::forwards::{self, ForwardState};
use crate::term::error::on_one_line;
use crate::vm::in_force::{self, LimitState};
use crate::vm::{failure, workspace_guard};

/// Time limit for all queries of a running machine together, since a hung one answers none; see [`RunFacts::answer_limit`].
pub const ANSWER: Duration = Duration::from_millis(2_400);

/// Everything that status shows. Missing parts are null.
#[derive(Serialize)]
pub struct Report {
    name: String,
    state: &'static str,
    problems: Vec<String>,
    source: Option<PathBuf>,
    branch: Option<String>,
    guest: Option<String>,
    cores: Option<u32>,
    memory_mib: Option<u32>,
    vm: Option<Vm>,
    helpers: Option<Vec<Helper>>,
    ssh: Option<SshFacts>,
    service: Option<Service>,
    #[serde(serialize_with = "servers_alone")]
    servers: Option<Servers>,
    mcp: Option<Mcp>,
    egress: Option<EgressFacts>,
    forwards: Vec<ForwardState>,
    expiry: Option<expiry::Expiry>,
    /// Why it does not run; null while it runs, and if that is not known.
    last_end: Option<Event>,
    limits: Option<Vec<LimitState>>,
    disk: Option<Disk>,
    workspace: Workspace,
}

#[derive(Serialize)]
struct Vm {
    pid: i32,
    state: String,
    accel: String,
    share: String,
    confined: String,
    uptime_seconds: u64,
    cpu_seconds: u64,
    memory_bytes: u64,
}

#[derive(Serialize)]
struct SshFacts {
    host: Ipv4Addr,
    port: u16,
    reachable: bool,
}

#[derive(Serialize)]
struct Service {
    unit: String,
    state: Option<ServiceState>,
    last_lines: Option<String>,
}

#[derive(Serialize)]
struct Mcp {
    url: String,
    sse_url: String,
    tls: bool,
    auth: bool,
    ca_file: Option<PathBuf>,
    responds: bool,
    response_ms: Option<u128>,
}

#[derive(Serialize)]
struct EgressFacts {
    mode: &'static str,
    /// Null while the machine does not run.
    up: Option<bool>,
    /// Number of refused connection attempts in this run.
    denied: Option<u64>,
    /// Processor time, in seconds, of the egress proxy and its port forwarding.
    cpu_seconds: Option<u64>,
    /// The proxy of the host that it goes through, without its password; null if there is none.
    host_proxy: Option<String>,
    /// The last refused attempt; null if there was none.
    last_denied: Option<log::Attempt>,
}

#[derive(Serialize)]
struct Disk {
    used_bytes: u64,
    size_mib: Option<u32>,
}

/// Serializes only the list of servers; their problems are among the machine's.
fn servers_alone<S: serde::Serializer>(servers: &Option<Servers>, to: S) -> Result<S::Ok, S::Error> {
    servers.as_ref().map(|servers| &servers.servers).serialize(to)
}

impl Report {
    /// Collects the state of a machine from the host and, if it is running, from the guest.
    ///
    /// # Errors
    /// The machine's directory cannot be read.
    pub fn gather(context: &Context, machine: &Machine) -> Result<Self> {
        // The workspace may be large, and the machine may not answer, so both are examined at the same time.
        let looking = {
            let machine = machine.clone();
            std::thread::spawn(move || workspace::look(&machine))
        };
        let report = Self::without_workspace(context, machine);
        let examined = looking.join();
        let mut report = report?;
        match examined {
            Ok((workspace, trouble)) => {
                report.workspace = workspace;
                report.problems.extend(trouble);
            }
            Err(_) => report.problems.push("failed to examine the workspace".to_owned()),
        }
        check_presence(machine)?;
        Ok(report)
    }

    /// Collects the state of a machine as [`Self::gather`] does, but does not examine its workspace, which may be large.
    ///
    /// # Errors
    /// Another command destroyed the machine meanwhile, or the user interrupts.
    fn without_workspace(context: &Context, machine: &Machine) -> Result<Self> {
        let mut report = Self::stopped(machine);
        let run = machine.run();
        match (run.qemu(), run.facts()) {
            (Some(qemu), Some(facts)) => report.look_at_run(context, machine, &qemu, &facts),
            (Some(_), None) => report.state = "starting",
            // Without facts, the start ended before it had written them.
            (None, facts) => report.problems.extend(unexpected_end(machine, facts.is_none() && run.path().exists())),
        }
        check_presence(machine)?;
        // Without settings, whatever runs.
        if report.guest.is_none() {
            report.state = "broken";
        }
        Ok(report)
    }

    /// Returns what the machine's files show about it while it does not run, without its workspace.
    fn stopped(machine: &Machine) -> Self {
        let mut problems = Vec::new();
        let settings = machine.settings().map_err(|error| problems.push(format!("{error:#}"))).ok();
        Self {
            name: machine.name.to_string(),
            state: "stopped",
            source: settings.as_ref().map(|s| s.source.clone()),
            branch: settings.as_ref().map(|s| s.branch.to_string()),
            guest: settings.as_ref().map(|s| s.guest.to_string()),
            cores: settings.as_ref().map(|s| s.cores),
            memory_mib: settings.as_ref().map(|s| s.memory),
            vm: None,
            helpers: None,
            ssh: None,
            service: None,
            servers: None,
            mcp: None,
            egress: settings.as_ref().map(|s| EgressFacts {
                mode: s.egress.mode.as_str(),
                up: None,
                denied: None,
                cpu_seconds: None,
                host_proxy: None,
                last_denied: None,
            }),
            forwards: settings.as_ref().map(|s| forwards::states(machine, s)).unwrap_or_default(),
            expiry: None,
            last_end: events::last_end(&machine.dir),
            limits: None,
            disk: disk(machine, settings.as_ref().map(|s| s.disk)),
            workspace: Workspace::unexamined(machine),
            problems,
        }
    }

    fn look_at_run(&mut self, context: &Context, machine: &Machine, qemu: &ProcessId, facts: &RunFacts) {
        let starting = machine.run().is_starting(facts);
        self.state = if starting { "starting" } else { "running" };
        // A suspended QEMU answers nothing. It may also be suspended during the queries.
        let mut inside = inside::look(context, machine, facts, starting, qemu.is_suspended());
        if qemu.is_suspended() {
            inside = Inside::suspended();
        }
        let helpers = helpers::all(&machine.run(), facts);
        for error in helpers::errors(machine, &helpers) {
            let hint = error.hint().map_or_else(String::new, |hint| format!(" ({})", on_one_line(hint)));
            self.problems.push(format!("{error}{hint}"));
        }
        self.helpers = Some(helpers);
        self.expiry = machine.settings().ok().map(|settings| expiry::of(machine, &settings, facts));
        self.last_end = None;
        self.limits = machine.settings().ok().map(|settings| in_force::all(&machine.run(), &settings, facts, qemu));
        self.problems.extend(workspace_guard::problem(machine, facts));
        self.look_at_egress(machine, starting);
        self.vm = Some(vm(qemu, facts, inside.qemu));
        self.ssh = inside.ssh;
        self.service = inside.service;
        self.servers = inside.servers;
        self.mcp = inside.mcp;
        let failed = self.forwards.iter().filter(|forward| forward.error.is_some());
        self.problems.extend(failed.map(|forward| format!("a port is not forwarded: {}", forward.line())));
        self.problems.extend(inside.problems);
    }

    fn look_at_egress(&mut self, machine: &Machine, starting: bool) {
        let Some(egress) = &mut self.egress else { return };
        egress.mode = rules::mode_in_force(&machine.dir).map_or(egress.mode, Mode::as_str);
        let up = supervise::is_up(&machine.run());
        egress.up = Some(up);
        egress.host_proxy = upstream::of_run(&machine.dir).map(|upstream| upstream.shown());
        let supervisor = ProcessId::read(&machine.run().file(MachinePath::EgressPid));
        egress.cpu_seconds = supervisor.and_then(|id| id.cpu_of_all()).map(|time| time.as_secs());
        let denied = log::denied(&machine.dir);
        egress.denied = Some(denied);
        // The log also has earlier runs, but `denied` counts this one.
        let last = (denied > 0).then(|| log::last(&machine.dir, 1, true).ok()?.pop());
        egress.last_denied = last.flatten();
        if !up && !starting {
            let log = machine.run().file(MachinePath::EgressRunLog);
            self.problems.push(format!("no network access: the egress proxy is not running ({})", log.display()));
        }
    }
}

/// Fails if the user interrupts, or another command has destroyed the machine meanwhile.
fn check_presence(machine: &Machine) -> Result<()> {
    crate::host::interrupt::check()?;
    if machine.exists() {
        return Ok(());
    }
    Err(crate::machine::unknown::no_machine(&machine.state, machine.name.as_str()))
}

/// Returns the problem of a machine that stopped unexpectedly; None if it did not.
fn unexpected_end(machine: &Machine, was_cut_short: bool) -> Option<String> {
    let reason = failure::of_last_run(machine).map(|reason| format!(": {reason}"));
    let reason = reason.or_else(|| was_cut_short.then(String::new))?;
    Some(format!("it stopped unexpectedly{reason}; to see why: agent-vm logs --console {}", machine.name))
}

fn vm(qemu: &ProcessId, facts: &RunFacts, state: String) -> Vm {
    let (memory_bytes, cpu) = qemu.usage().unwrap_or_default();
    let uptime = jiff::Timestamp::now().as_second() - facts.started.as_second();
    Vm {
        pid: qemu.pid,
        state,
        accel: facts.accel.clone(),
        share: facts.share.clone(),
        confined: facts.confined.clone(),
        uptime_seconds: u64::try_from(uptime).unwrap_or(0),
        cpu_seconds: cpu.as_secs(),
        memory_bytes,
    }
}

fn disk(machine: &Machine, size_mib: Option<u32>) -> Option<Disk> {
    let metadata = std::fs::symlink_metadata(MachinePath::Disk.of(&machine.dir)).ok()?;
    Some(Disk { used_bytes: metadata.blocks() * 512, size_mib })
}
