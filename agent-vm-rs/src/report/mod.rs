//! How a machine is: facts first, words second (in `text`), so that `--json` and the text say the same.

mod text;

use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::cli::Context;
use crate::egress::{log, supervise};
use crate::endpoint::{self, Endpoint, Patience};
use crate::guest::Guest;
use crate::health::probe_mcp;
use crate::machine::{Machine, Origin};
use crate::manifest::Manifest;
use crate::run_state::{ProcessId, RunFacts};
use crate::service::{self, ServiceState};
use crate::ssh::Ssh;
use crate::workspace_git::{View, WorkspaceState};

/// A status answer must not wait long for a machine that hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// For all of a workspace's files to be looked at.
const LONGEST_COUNT: Duration = Duration::from_secs(10);

/// Everything that status shows. Absent parts are null.
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
    ssh: Option<SshFacts>,
    service: Option<Service>,
    mcp: Option<Mcp>,
    egress: Option<EgressFacts>,
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
    /// Attempts that were refused in this run.
    denied: Option<u64>,
    /// The last of them; null if there was none.
    last_denied: Option<log::Attempt>,
}

#[derive(Serialize)]
struct Disk {
    used_bytes: u64,
    size_mib: Option<u32>,
}

#[derive(Serialize)]
struct Workspace {
    path: PathBuf,
    bytes: Option<u64>,
    git: Option<WorkspaceState>,
}

impl Report {
    /// Looks at a machine from the outside and, if it runs, from the inside.
    ///
    /// # Errors
    /// Its directory cannot be read at all.
    pub fn gather(context: &Context, machine: &Machine) -> Result<Self> {
        let mut problems = Vec::new();
        let settings = machine.settings().map_err(|error| problems.push(format!("{error:#}"))).ok();
        let workspace = workspace(machine, &mut problems);
        let run = machine.run();
        let mut report = Self {
            name: machine.name.to_string(),
            state: "stopped",
            source: settings.as_ref().map(|s| s.source.clone()),
            branch: settings.as_ref().map(|s| s.branch.to_string()),
            guest: settings.as_ref().map(|s| s.guest.to_string()),
            cores: settings.as_ref().map(|s| s.cores),
            memory_mib: settings.as_ref().map(|s| s.memory),
            vm: None,
            ssh: None,
            service: None,
            mcp: None,
            egress: settings.as_ref().map(|s| EgressFacts {
                mode: s.egress.mode.as_str(),
                up: None,
                denied: None,
                last_denied: None,
            }),
            disk: disk(machine, settings.as_ref().map(|s| s.disk)),
            workspace,
            problems,
        };
        match (run.qemu(), run.facts()) {
            (Some(qemu), Some(facts)) => report.look_inside(context, machine, &qemu, &facts),
            (Some(_), None) => report.state = "starting",
            (None, _) if run.path().exists() => {
                report
                    .problems
                    .push(format!("it ended by itself; agent-vm logs --console {} shows its last words", machine.name));
            }
            (None, _) => {}
        }
        if settings.is_none() {
            report.state = "broken";
        }
        Ok(report)
    }

    fn look_inside(&mut self, context: &Context, machine: &Machine, qemu: &ProcessId, facts: &RunFacts) {
        self.state = "running";
        self.vm = Some(self.vm(machine, qemu, facts));
        let Ok(guest) = Guest::of(machine) else {
            self.problems.push("its guest is gone from the cache".to_owned());
            return;
        };
        if facts.share == "virtiofs" && machine.run().virtiofsd().is_none() {
            self.problems
                .push(format!("virtiofsd has ended, so /workspace is gone inside: agent-vm restart {}", machine.name));
        }
        self.look_at_egress(machine);
        // MCP answers in its own time, ssh in its own.
        let path = guest.manifest.service.mcp_path.clone();
        let endpoint = Endpoint::of(machine, facts, Patience { connect: None, whole: Some(PATIENCE) });
        let asking = std::thread::spawn(move || probe_mcp(&endpoint?, &path));
        self.look_by_ssh(context, machine, &guest, facts);
        let answer = asking.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the probe of MCP broke off")));
        self.mcp = Some(mcp(machine, &guest.manifest, facts, answer.as_ref().ok().copied()));
        if let Err(error) = answer {
            self.problems.push(format!("{error:#}"));
        }
    }

    fn look_at_egress(&mut self, machine: &Machine) {
        let Some(egress) = &mut self.egress else { return };
        let up = supervise::is_up(&machine.run());
        egress.up = Some(up);
        let denied = log::denied(&machine.dir);
        egress.denied = Some(denied);
        // The count is of this run, and so then is the last one.
        let last = (denied > 0).then(|| log::last(&machine.dir, 1, true).ok()?.pop());
        egress.last_denied = last.flatten();
        if !up {
            let log = machine.run().file(supervise::LOG);
            self.problems.push(format!("it reaches nothing outside: the proxy is not up ({})", log.display()));
        }
    }

    fn vm(&mut self, machine: &Machine, qemu: &ProcessId, facts: &RunFacts) -> Vm {
        let state = crate::qmp::run_state(&machine.run()).unwrap_or_else(|error| {
            self.problems.push(format!("{error:#}"));
            "unknown".to_owned()
        });
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

    fn look_by_ssh(&mut self, context: &Context, machine: &Machine, guest: &Guest, facts: &RunFacts) {
        let unit = guest.manifest.service.unit.clone();
        let ssh = Ssh::to(machine, &guest.manifest, facts, context.ssh_talk());
        let asked = ssh.connect(context.deadline().at_most(PATIENCE)).and_then(|()| {
            let state = service::state(&ssh, &unit)?;
            let troubled = !state.running() || state.restarts > 0;
            let last_lines = troubled.then(|| service::last_lines(&ssh, &unit)).transpose()?;
            let gate = &guest.manifest.service.gate_unit;
            let gate_state = service::state(&ssh, gate)?;
            if !gate_state.running() {
                let said = service::last_lines(&ssh, gate)?;
                self.problems.push(format!("{gate}, through which MCP is reached, is not up ({gate_state}): {said}"));
            }
            Ok(Service { unit: unit.clone(), state: Some(state), last_lines })
        });
        let reachable = asked.is_ok();
        self.ssh = Some(SshFacts { host: facts.host, port: facts.ssh_port, reachable });
        self.service = Some(asked.unwrap_or_else(|error| {
            self.problems.push(format!("ssh: {error:#}"));
            Service { unit, state: None, last_lines: None }
        }));
    }
}

fn mcp(machine: &Machine, manifest: &Manifest, facts: &RunFacts, took: Option<Duration>) -> Mcp {
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

fn disk(machine: &Machine, size_mib: Option<u32>) -> Option<Disk> {
    let metadata = std::fs::symlink_metadata(machine.dir.join("disk.qcow2")).ok()?;
    Some(Disk { used_bytes: metadata.blocks() * 512, size_mib })
}

/// What a directory's files take on the disk; None if a guest has made more of them than can be looked at by then.
fn used_bytes(dir: &Path, end: Instant) -> Option<u64> {
    let files = walkdir::WalkDir::new(dir).follow_links(false).into_iter().flatten();
    let blocks = files.map(|file| (Instant::now() < end).then(|| file.metadata().map_or(0, |file| file.blocks())));
    Some(blocks.sum::<Option<u64>>()? * 512)
}

fn workspace(machine: &Machine, problems: &mut Vec<String>) -> Workspace {
    let path = machine.workspace();
    let bytes = used_bytes(&path, Instant::now() + LONGEST_COUNT);
    let source = match machine.settings().ok().map(|settings| (machine.origin(&settings), settings)) {
        Some((Origin::Here(source), _)) => Some(source),
        Some((Origin::Missing, settings)) => {
            let lost = machine.lost_source(&settings);
            problems.push(format!("{lost}; {}", lost.way_out().unwrap_or_default()));
            None
        }
        Some((Origin::Unusable(error), _)) => {
            problems.push(format!("its source cannot be used: {error:#}"));
            None
        }
        None => None,
    };
    let git = View::open(&path, source.as_ref(), &machine.dir).and_then(|view| view.state());
    let git = git.map_err(|error| problems.push(format!("the workspace's repository: {error:#}"))).ok();
    // Without the source every commit would count as new.
    let git = git.map(|git| WorkspaceState { new_commits: git.new_commits.filter(|_| source.is_some()), ..git });
    Workspace { path, bytes, git }
}
