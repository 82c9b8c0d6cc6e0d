//! The processes of a running machine beside QEMU: which of them are there, and what it takes to have them back.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::host::process::ProcessId;
use crate::machine::Machine;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::{RunDir, RunFacts};
use crate::term::error::Failure;

/// How a workspace is shared by a process of its own, in a run's facts.
const VIRTIOFS: &str = "virtiofs";

/// What a helper does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HelperState {
    /// It runs.
    Running,
    /// A signal (SIGSTOP) holds it.
    Suspended,
    /// It has ended.
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
    /// What it is, in a word or two.
    pub name: &'static str,
    /// Its process id, unless it has ended.
    pub pid: Option<i32>,
    /// What it does now.
    pub state: HelperState,
    #[serde(skip)]
    without: &'static str,
    #[serde(skip)]
    mended_by_start: bool,
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
            mended_by_start: false,
            dispensable: false,
        }
    }

    fn mended_by_start(self) -> Self {
        Self { mended_by_start: true, ..self }
    }

    /// The machine goes on without it, though only a restart brings it back.
    fn dispensable(self) -> Self {
        Self { dispensable: true, ..self }
    }

    fn needs_restart(&self) -> bool {
        !self.mended_by_start && !self.dispensable
    }

    /// What is wrong with it, and the command that mends it; None while it runs.
    #[must_use]
    pub fn trouble(&self, machine: &Machine) -> Option<Failure> {
        let Self { name, without, .. } = self;
        let pid = self.pid.unwrap_or_default();
        let what = match self.state {
            HelperState::Running => return None,
            HelperState::Suspended => format!("{name} (pid {pid}) is suspended, by SIGSTOP or a debugger: {without}"),
            HelperState::Ended => format!("{name} has ended: {without}"),
        };
        let machine = &machine.name;
        let mends = if self.mended_by_start {
            format!("agent-vm start {machine}")
        } else {
            format!("agent-vm restart {machine}")
        };
        Some(Failure::new(what).with_hint(mends))
    }
}

fn qemu(run: &RunDir) -> Helper {
    Helper::of(run.qemu().as_ref(), "QEMU", "nothing in the machine runs")
}

/// Fails if QEMU is suspended or has ended: nothing in the machine answers then.
///
/// # Errors
/// It names the restart.
pub fn check_qemu(machine: &Machine) -> Result<()> {
    qemu(&machine.run()).trouble(machine).map_or(Ok(()), |trouble| Err(trouble.into()))
}

fn virtiofsd(run: &RunDir) -> Helper {
    Helper::of(run.virtiofsd().as_ref(), "virtiofsd", "the workspace is gone inside the machine")
}

/// Fails if the process that carries the workspace has ended, or is suspended: what touches the workspace then waits for ever
/// in the guest's kernel, and no signal ends it there.
///
/// # Errors
/// It names the restart.
pub fn check_workspace(machine: &Machine, facts: &RunFacts) -> Result<()> {
    if facts.share != VIRTIOFS {
        return Ok(());
    }
    virtiofsd(&machine.run()).trouble(machine).map_or(Ok(()), |trouble| Err(trouble.into()))
}

/// QEMU's state, and that of every process that this run has started beside it.
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
        let without = "what the machine prints is not in agent-vm logs --console any more";
        all.push(Helper::of(read(keeper).as_ref(), "the console log's writer", without).dispensable());
    }
    for (file, name, without) in [
        (MachinePath::SshPid, "the ssh connection", "the next command makes it again"),
        (MachinePath::EgressPid, "the egress supervisor", "the machine reaches nothing outside"),
        (MachinePath::ProxyPid, "the egress proxy", "the machine reaches nothing outside until it is up again"),
        (MachinePath::TunnelPid, "the tunnel to the proxy", "the machine reaches nothing outside until it is up again"),
    ] {
        if was_started(file) {
            all.push(Helper::of(read(file).as_ref(), name, without).mended_by_start());
        }
    }
    all
}

/// What is wrong with them, for people. Beside what only a restart brings back nothing else counts.
#[must_use]
pub fn troubles(machine: &Machine, all: &[Helper]) -> Vec<Failure> {
    let is_lost = |helper: &&Helper| helper.state != HelperState::Running && helper.needs_restart();
    let lost: Vec<_> = all.iter().filter(is_lost).collect();
    let told = if lost.is_empty() { all.iter().collect() } else { lost };
    told.into_iter().filter_map(|helper| helper.trouble(machine)).collect()
}

/// Ends those that do nothing because they are suspended, and that a start makes again.
pub fn end_suspended(run: &RunDir, facts: &RunFacts) {
    let mendable = all(run, facts).into_iter().filter(|helper| helper.mended_by_start);
    for helper in mendable.filter(|helper| helper.state == HelperState::Suspended) {
        if let Some(process) = helper.pid.and_then(ProcessId::of) {
            process.end(Duration::from_millis(100));
        }
    }
}

/// Fails if a process does not run that only a restart brings back.
///
/// # Errors
/// It names the process, and the restart.
pub fn check(machine: &Machine, facts: &RunFacts) -> Result<()> {
    let lost = all(&machine.run(), facts).into_iter().filter(Helper::needs_restart);
    match lost.filter_map(|helper| helper.trouble(machine)).next() {
        Some(trouble) => Err(trouble.into()),
        None => Ok(()),
    }
}
