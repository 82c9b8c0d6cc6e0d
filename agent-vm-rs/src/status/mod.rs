//! How a machine is: facts first, words second (in `text`), so that `--json` and the text say the same.

mod inside;
mod text;

use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::egress::{log, supervise};
use crate::git::workspace::{self, WorkspaceState, is_unreadable};
use crate::git::{Origin, Source};
use crate::host::process::ProcessId;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::helpers::{self, Helper};
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunFacts;
use crate::remote::servers::Servers;
use crate::remote::service::ServiceState;

/// For everything that is asked of a machine, all of it at once: a wedged one answers nothing.
pub const ANSWER: Duration = Duration::from_millis(2_400);
/// For all of a workspace's files to be counted.
const LONGEST_COUNT: Duration = Duration::from_secs(2);

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
    helpers: Option<Vec<Helper>>,
    ssh: Option<SshFacts>,
    service: Option<Service>,
    #[serde(serialize_with = "servers_alone")]
    servers: Option<Servers>,
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
    /// Processor time of the proxy and the tunnel to it, seconds: not of the machine's cores.
    cpu_seconds: Option<u64>,
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

/// What is wrong with them is among the machine's problems.
fn servers_alone<S: serde::Serializer>(servers: &Option<Servers>, to: S) -> Result<S::Ok, S::Error> {
    servers.as_ref().map(|servers| &servers.servers).serialize(to)
}

impl Report {
    /// Looks at a machine from the outside and, if it runs, from the inside.
    ///
    /// # Errors
    /// Its directory cannot be read at all.
    pub fn gather(context: &Context, machine: &Machine) -> Result<Self> {
        let mut problems = Vec::new();
        let settings = machine.settings().map_err(|error| problems.push(format!("{error:#}"))).ok();
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
                last_denied: None,
            }),
            disk: disk(machine, settings.as_ref().map(|s| s.disk)),
            workspace: Workspace { path: machine.workspace(), bytes: None, git: None },
            problems,
        };
        // The workspace is on this host, and may be large; the machine may not answer. Neither waits for the other.
        let looking = {
            let machine = machine.clone();
            std::thread::spawn(move || workspace(&machine))
        };
        match (run.qemu(), run.facts()) {
            (Some(qemu), Some(facts)) => report.look_at_run(context, machine, &qemu, &facts),
            (Some(_), None) => report.state = "starting",
            (None, _) if run.path().exists() => {
                report
                    .problems
                    .push(format!("it ended by itself; agent-vm logs --console {} shows its last words", machine.name));
            }
            (None, _) => {}
        }
        match looking.join() {
            Ok((workspace, trouble)) => {
                report.workspace = workspace;
                report.problems.extend(trouble);
            }
            Err(_) => report.problems.push("the look at the workspace broke off".to_owned()),
        }
        crate::host::interrupt::check()?;
        if !machine.exists() {
            // It was destroyed meanwhile.
            return Err(crate::machine::unknown::no_machine(&machine.state, machine.name.as_str()));
        }
        if settings.is_none() {
            report.state = "broken";
        }
        Ok(report)
    }

    fn look_at_run(&mut self, context: &Context, machine: &Machine, qemu: &ProcessId, facts: &RunFacts) {
        let starting = machine.run().is_starting(facts);
        self.state = if starting { "starting" } else { "running" };
        let helpers = helpers::all(&machine.run(), facts);
        for trouble in helpers::troubles(machine, &helpers) {
            let hint = trouble.hint().map_or_else(String::new, |hint| format!(" ({hint})"));
            self.problems.push(format!("{trouble}{hint}"));
        }
        self.helpers = Some(helpers);
        self.look_at_egress(machine, starting);
        // One that is suspended answers nobody, and what has been said of it is enough.
        let inside = inside::look(context, machine, facts, starting, qemu.is_suspended());
        self.vm = Some(vm(qemu, facts, inside.qemu));
        self.ssh = inside.ssh;
        self.service = inside.service;
        self.servers = inside.servers;
        self.mcp = inside.mcp;
        if !qemu.is_suspended() {
            self.problems.extend(inside.problems);
        }
    }

    fn look_at_egress(&mut self, machine: &Machine, starting: bool) {
        let Some(egress) = &mut self.egress else { return };
        let up = supervise::is_up(&machine.run());
        egress.up = Some(up);
        let supervisor = ProcessId::read(&machine.run().file(MachinePath::EgressPid));
        egress.cpu_seconds = supervisor.and_then(|id| id.cpu_of_all()).map(|time| time.as_secs());
        let denied = log::denied(&machine.dir);
        egress.denied = Some(denied);
        // The count is of this run, and so then is the last one.
        let last = (denied > 0).then(|| log::last(&machine.dir, 1, true).ok()?.pop());
        egress.last_denied = last.flatten();
        if !up && !starting {
            let log = machine.run().file(MachinePath::EgressRunLog);
            self.problems.push(format!("it reaches nothing outside: the proxy is not up ({})", log.display()));
        }
    }
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

/// What a directory's files take on the disk; None if a guest has made more of them than can be looked at by then.
fn used_bytes(dir: &Path, end: Instant) -> Option<u64> {
    let files = walkdir::WalkDir::new(dir).follow_links(false).into_iter().flatten();
    let blocks = files.map(|file| (Instant::now() < end).then(|| file.metadata().map_or(0, |file| file.blocks())));
    Some(blocks.sum::<Option<u64>>()? * 512)
}

/// What there is of the workspace, and what is wrong with it.
fn workspace(machine: &Machine) -> (Workspace, Vec<String>) {
    let path = machine.workspace();
    let mut troubles = Vec::new();
    let (bytes, git) = std::thread::scope(|scope| {
        let bytes = scope.spawn(|| used_bytes(&path, Instant::now() + LONGEST_COUNT));
        let source = source(machine, &mut troubles);
        let git = workspace::state(&path, source.as_ref(), &machine.dir);
        // Without the source every commit would count as new.
        let git = git.map(|git| WorkspaceState { new_commits: git.new_commits.filter(|_| source.is_some()), ..git });
        (bytes.join().ok().flatten(), git)
    });
    let git = git.map_err(|error| {
        // Only what git says of the repository itself is its fault.
        let what = if is_unreadable(&error) { "the workspace's repository" } else { "the workspace was not looked at" };
        troubles.push(format!("{what}: {error:#}"));
    });
    let git = git.ok();
    (Workspace { path, bytes, git }, troubles)
}

fn source(machine: &Machine, problems: &mut Vec<String>) -> Option<Source> {
    let settings = machine.settings().ok()?;
    match Origin::of(machine, &settings) {
        Origin::Here(source) => return Some(source),
        Origin::Missing => {
            let lost = machine.lost_source(&settings);
            problems.push(format!("{lost}; {}", lost.hint().unwrap_or_default()));
        }
        Origin::Unusable(error) => problems.push(format!("its source cannot be used: {error:#}")),
    }
    None
}
