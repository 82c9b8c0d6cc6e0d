//! The processes of a running machine besides QEMU: their states, and the commands that restart them.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::host::process::ProcessId;
use crate::machine::Machine;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::{RunDir, RunFacts};
use crate::term::error::Failure;

/// The value of [`RunFacts::share`] for a workspace that virtiofsd serves.
const VIRTIOFS: &str = "virtiofs";

/// State of a helper process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HelperState {
    /// The process runs.
    Running,
    /// The process was stopped by a signal (SIGSTOP).
    Suspended,
    /// The process has ended.
    Ended,
}

impl fmt::Display for HelperState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::Ended => "ended",
        })
    }
}

/// One process that a machine needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Helper {
    /// Name of the process, in a few words.
    pub name: &'static str,
    /// Process id; None if it has ended.
    pub pid: Option<i32>,
    /// State of the process.
    pub state: HelperState,
    #[serde(skip)]
    without: &'static str,
    #[serde(skip)]
    restarted_by_start: bool,
    #[serde(skip)]
    dispensable: bool,
}

impl Helper {
    fn of(process: Option<&ProcessId>, name: &'static str, without: &'static str) -> Self {
        let state = match process {
            None => HelperState::Ended,
            Some(process) if process.is_suspended() => HelperState::Suspended,
            Some(_) => HelperState::Running,
        };
        Self {
            name,
            pid: process.map(|process| process.pid),
            state,
            without,
            restarted_by_start: false,
            dispensable: false,
        }
    }

    fn restarted_by_start(self) -> Self {
        Self { restarted_by_start: true, ..self }
    }

    /// Marks a process that the machine does not need, although only a restart of the machine starts it again.
    fn dispensable(self) -> Self {
        Self { dispensable: true, ..self }
    }

    /// Returns whether the machine needs it, and only a restart of the machine starts it again.
    #[must_use]
    pub fn needs_restart(&self) -> bool {
        !self.restarted_by_start && !self.dispensable
    }

    /// Returns whether the machine works without it, although only a restart of the machine starts it again.
    #[must_use]
    pub fn is_dispensable(&self) -> bool {
        self.dispensable
    }

    /// Returns the error of a process that does not run, with a command that helps as its hint; None if it runs.
    #[must_use]
    pub fn error(&self, machine: &Machine) -> Option<Failure> {
        let Self { name, without, .. } = self;
        let pid = self.pid.unwrap_or_default();
        let failure = match self.state {
            HelperState::Running => return None,
            HelperState::Suspended => {
                Failure::new(format!("{name} (pid {pid}) is suspended, by SIGSTOP or a debugger: {without}"))
            }
            HelperState::Ended => Failure::new(format!("{name} has ended: {without}")),
        };
        let machine = &machine.name;
        let hint = if self.restarted_by_start {
            format!("agent-vm start {machine}")
        } else {
            format!("agent-vm restart {machine}")
        };
        Some(failure.with_hint(hint))
    }
}

fn qemu(run: &RunDir) -> Helper {
    Helper::of(run.qemu().as_ref(), "QEMU", "nothing in the machine runs")
}

/// Checks that QEMU runs and is not suspended: otherwise nothing in the machine answers.
///
/// # Errors
/// QEMU is suspended or has ended. The hint is the restart.
pub fn check_qemu(machine: &Machine) -> Result<()> {
    qemu(&machine.run()).error(machine).map_or(Ok(()), |error| Err(error.into()))
}

fn virtiofsd(run: &RunDir) -> Helper {
    Helper::of(run.virtiofsd().as_ref(), "virtiofsd", "/workspace does not work in the machine")
}

/// Checks that virtiofsd runs. If it does not, a process in the guest that uses the workspace blocks forever in the
/// kernel, and no signal ends it.
///
/// # Errors
/// virtiofsd is suspended or has ended. The hint is the restart.
pub fn check_workspace(machine: &Machine, facts: &RunFacts) -> Result<()> {
    if facts.share != VIRTIOFS {
        return Ok(());
    }
    virtiofsd(&machine.run()).error(machine).map_or(Ok(()), |error| Err(error.into()))
}

/// Returns the state of QEMU and of every process that this run has started besides it.
#[must_use]
pub fn all(run: &RunDir, facts: &RunFacts) -> Vec<Helper> {
    let read = |file: MachinePath| ProcessId::read(&run.file(file));
    let was_started = |file: MachinePath| std::fs::exists(run.file(file)).unwrap_or(false);
    let mut all = vec![qemu(run)];
    if facts.share == VIRTIOFS {
        all.push(virtiofsd(run));
    }
    for (file, name, without) in [
        (MachinePath::ForwardSshPid, "the ssh port's forwarder", "new ssh connections do not reach the machine"),
        (MachinePath::ForwardMcpPid, "the MCP port's forwarder", "MCP clients do not reach the machine"),
    ] {
        if was_started(file) {
            all.push(Helper::of(read(file).as_ref(), name, without));
        }
    }
    let keeper = MachinePath::RunConsoleKeeperPid;
    if was_started(keeper) {
        let without = "agent-vm logs --console shows no new output";
        all.push(Helper::of(read(keeper).as_ref(), "the console log's writer", without).dispensable());
    }
    for (file, name, without) in [
        (MachinePath::SshPid, "the ssh connection", "the next command reconnects"),
        (MachinePath::ForwardsPid, "the port forwarding", "forwarded ports do not answer"),
        (
            MachinePath::WatchPid,
            "the watcher",
            "no samples are taken, no time limit stops the machine, and it can fill this host's disk",
        ),
        (MachinePath::EgressPid, "the egress supervisor", "nothing keeps the egress proxy running"),
        (MachinePath::ProxyPid, "the egress proxy", "the machine has no network access until the proxy restarts"),
        (
            MachinePath::TunnelPid,
            "the tunnel to the proxy",
            "the machine has no network access until the tunnel restarts",
        ),
    ] {
        if was_started(file) {
            all.push(Helper::of(read(file).as_ref(), name, without).restarted_by_start());
        }
    }
    all
}

/// Returns the errors of these processes. If a restart of the machine is needed, only processes that need it are reported.
#[must_use]
pub fn errors(machine: &Machine, all: &[Helper]) -> Vec<Failure> {
    let is_lost = |helper: &&Helper| helper.state != HelperState::Running && helper.needs_restart();
    let lost: Vec<_> = all.iter().filter(is_lost).collect();
    let reported = if lost.is_empty() { all.iter().collect() } else { lost };
    reported.into_iter().filter_map(|helper| helper.error(machine)).collect()
}

/// Kills suspended processes that `agent-vm start` starts again.
pub fn end_suspended(run: &RunDir, facts: &RunFacts) {
    let restartable = all(run, facts).into_iter().filter(|helper| helper.restarted_by_start);
    for helper in restartable.filter(|helper| helper.state == HelperState::Suspended) {
        if let Some(process) = helper.pid.and_then(ProcessId::of) {
            process.end(Duration::from_millis(100));
        }
    }
}

/// Checks that every process runs that only a restart of the machine starts again.
///
/// # Errors
/// A process does not run. The hint is the restart.
pub fn check(machine: &Machine, facts: &RunFacts) -> Result<()> {
    let lost = all(&machine.run(), facts).into_iter().filter(Helper::needs_restart);
    match lost.filter_map(|helper| helper.error(machine)).next() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}
