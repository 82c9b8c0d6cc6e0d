//! The state of one run of a machine, in `run/`. Process ids are verified against the kernel before they are used.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use procfs::process::{ProcState, Process};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::host::files::{has_file, read_if_there, remove_any, write_unsynced};
use crate::host::interrupt::Deadline;
use crate::host::process::{MARKER, ProcessId};
use crate::machine::accel::Accel;
use crate::machine::paths::MachinePath;
use crate::term::error::Failure;

/// Facts of one run, written once QEMU has been started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFacts {
    /// Time of the start.
    pub started: Timestamp,
    /// Host address of the forwarded ports.
    pub host: Ipv4Addr,
    /// Host port of MCP.
    pub port: u16,
    /// Host port of ssh.
    pub ssh_port: u16,
    /// Whether MCP uses TLS; false for a run that an agent-vm without TLS started.
    #[serde(default)]
    pub tls: bool,
    /// Whether MCP requires the token.
    #[serde(default)]
    pub auth: bool,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// `virtiofs` or `9p`.
    pub share: String,
    /// How QEMU is confined, besides its own sandbox.
    #[serde(default)]
    pub confined: String,
    /// Time limit of the start, in seconds.
    #[serde(default)]
    pub start_limit: u64,
    /// Guest memory at the start, MiB; 0 for a run of an older agent-vm.
    #[serde(default)]
    pub memory: u32,
    /// The `--guest-package` of the start, which a restart uses again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_package: Option<PathBuf>,
}

impl RunFacts {
    /// Returns the time limit for an answer of this run. `limit` is that of a machine with KVM. Emulation makes a guest about
    /// ten times slower, and a healthy one on a busy host needs seconds to open a session.
    #[must_use]
    pub fn answer_limit(&self, limit: Duration) -> Duration {
        if self.accel == Accel::Kvm.as_str() { limit } else { limit * 5 / 2 }
    }

    /// Returns the address at which a forwarded port is reached: loopback if the port is bound on every address.
    #[must_use]
    pub fn reachable(&self) -> Ipv4Addr {
        if self.host.is_unspecified() { Ipv4Addr::LOCALHOST } else { self.host }
    }

    /// Returns the URL of a path on the MCP port.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}:{}{path}", self.reachable(), self.port)
    }
}

/// Logs of a run that are kept after it.
const LOGS: [MachinePath; 3] = [MachinePath::RunConsole, MachinePath::VirtiofsdLog, MachinePath::EgressRunLog];

/// The directory `run/` of a machine.
#[derive(Clone, Debug)]
pub struct RunDir {
    machine: PathBuf,
    path: PathBuf,
}

impl RunDir {
    /// Returns the run directory of the machine in `machine`.
    #[must_use]
    pub fn of(machine: &Path) -> Self {
        Self { machine: machine.to_owned(), path: MachinePath::Run.of(machine) }
    }

    /// Returns the directory's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of a file in it.
    #[must_use]
    pub fn file(&self, file: MachinePath) -> PathBuf {
        file.of(&self.machine)
    }

    /// Returns QEMU's process; None if it does not run.
    #[must_use]
    pub fn qemu(&self) -> Option<ProcessId> {
        ProcessId::read(&self.file(MachinePath::QemuPid))
    }

    /// Records that the start has finished, whether or not MCP answered.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note_started(&self) -> Result<()> {
        write_unsynced(&self.file(MachinePath::RunStarted), "", 0o600)
    }

    /// Returns whether the start has neither finished nor exceeded its time limit.
    #[must_use]
    pub fn is_starting(&self, facts: &RunFacts) -> bool {
        let age = Timestamp::now().as_second() - facts.started.as_second();
        let within = u64::try_from(age).is_ok_and(|age| age < facts.start_limit);
        within && !fs::exists(self.file(MachinePath::RunStarted)).unwrap_or(false)
    }

    /// Returns virtiofsd's process; None if it does not run.
    #[must_use]
    pub fn virtiofsd(&self) -> Option<ProcessId> {
        ProcessId::read(&self.file(MachinePath::VirtiofsdPid))
    }

    /// Returns the facts of the run; None if the file is missing or invalid.
    #[must_use]
    pub fn facts(&self) -> Option<RunFacts> {
        serde_json::from_str(&read_if_there(&self.file(MachinePath::RunFacts)).ok()??).ok()
    }

    /// Writes the facts of the run.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_facts(&self, facts: &RunFacts) -> Result<()> {
        let text = serde_json::to_string_pretty(facts).context("failed to write the run's facts as JSON")?;
        write_unsynced(&self.file(MachinePath::RunFacts), text + "\n", 0o600)
    }
}

/// Returns the processes that have the marker of the machine in `dir` in their environment: those of the machine, and
/// those that a killed command left.
#[must_use]
pub fn processes_of(dir: &Path) -> Vec<ProcessId> {
    let own = std::process::id();
    let Ok(all) = procfs::process::all_processes() else { return Vec::new() };
    let mut unsure: Vec<_> = all.flatten().filter(|p| u32::try_from(p.pid).is_ok_and(|pid| pid != own)).collect();
    let mut found = Vec::new();
    for _ in 0..STARTING_LOOKS {
        unsure.retain(|process| {
            // The environment of other users' processes and of ended processes cannot be read.
            let Ok(environment) = process.environ() else { return false };
            if environment.get(std::ffi::OsStr::new(MARKER)).is_some_and(|value| Path::new(value) == dir) {
                found.extend(ProcessId::of(process.pid));
            }
            environment.is_empty() && may_be_starting(process)
        });
        if unsure.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(4));
    }
    found
}

/// How often a process with an empty environment is checked.
const STARTING_LOOKS: u32 = 5;

/// Returns whether a process may be in exec(2), during which it has no environment. Kernel threads never have one.
fn may_be_starting(process: &Process) -> bool {
    const KERNEL_THREAD: u32 = 0x0020_0000;
    process.stat().is_ok_and(|stat| {
        let gone = matches!(stat.state(), Ok(ProcState::Zombie | ProcState::Dead));
        !gone && stat.flags & KERNEL_THREAD == 0
    })
}

/// Kills every process of the machine in `dir`, until none is found: one may start another while they are looked for. The first
/// process of a pid namespace ends only when all others in it have ended (pid_namespaces(7)), including those without the
/// marker; QEMU and virtiofsd are found by their pid files.
///
/// # Errors
/// A process does not end within five seconds.
pub fn end_processes_of(dir: &Path) -> Result<()> {
    end_those(dir, || processes_of(dir))
}

/// Kills processes of the machine in `dir`, as [`end_processes_of`] does, but of those with the marker only the `marked`.
///
/// # Errors
/// A process does not end within five seconds.
pub fn end_those(dir: &Path, marked: impl Fn() -> Vec<ProcessId>) -> Result<()> {
    let run = RunDir::of(dir);
    let find = || [run.qemu(), run.virtiofsd()].into_iter().flatten().chain(marked()).collect();
    let Some(stays) = end_all(find, Deadline::after(Duration::from_secs(5))) else { return Ok(()) };
    Err(Failure::new(format!("process {} of {} does not end", stays.pid, dir.display()))
        .with_hint("it is probably blocked on disk I/O; see: dmesg")
        .into())
}

/// Kills the processes that `find` returns until it returns none. Returns one that is there after the deadline.
fn end_all(mut find: impl FnMut() -> Vec<ProcessId>, deadline: Deadline) -> Option<ProcessId> {
    loop {
        // The processes may have ended just at the deadline, so the last look comes after it.
        let is_last = deadline.passed();
        let all = find();
        all.iter().for_each(|process| process.signal(Signal::KILL));
        let stays = all.iter().find(|process| !process.wait_gone(deadline.left()) && process.alive());
        let stays = stays.or(all.first().filter(|_| is_last));
        if stays.is_some() || all.is_empty() {
            return stays.cloned();
        }
    }
}

/// Keeps the logs of a run, and removes the rest of `run/`.
///
/// # Errors
/// A log cannot be kept, or a file cannot be removed.
pub fn clear(machine: &Path) -> Result<()> {
    let run = RunDir::of(machine);
    for log in LOGS {
        let kept = machine.join(log.file_name());
        if has_file(&run.file(log)).unwrap_or(false) {
            remove_any(&kept)?;
            fs::rename(run.file(log), &kept)
                .with_context(|| format!("failed to move {} to {}", log.name(), kept.display()))?;
        }
    }
    remove_any(run.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_found_by_their_marker_and_killed() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sleep").arg("300").env(MARKER, dir.path()).spawn().unwrap();
        let found = processes_of(dir.path());
        assert_eq!(found.iter().map(|p| p.pid).collect::<Vec<_>>(), [i32::try_from(child.id()).unwrap()]);
        end_processes_of(dir.path()).unwrap();
        assert!(processes_of(dir.path()).is_empty());
        assert!(!found[0].alive());
        assert!(!child.wait().unwrap().success());
    }

    /// Returns a process that has ended.
    fn ended() -> ProcessId {
        let mut child = std::process::Command::new("sleep").arg("300").spawn().unwrap();
        let id = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        id
    }

    #[test]
    fn processes_that_end_at_the_deadline_have_ended() {
        let limit = Duration::from_millis(20);
        let mut looks = 0;
        let found = end_all(
            || {
                looks += 1;
                let found = if looks == 1 { vec![ended()] } else { Vec::new() };
                std::thread::sleep(limit);
                found
            },
            Deadline::after(limit),
        );
        assert_eq!((found, looks), (None, 2));
        // Control: processes that are always followed by others do not end.
        let other = ended();
        assert_eq!(end_all(|| vec![other.clone()], Deadline::after(limit)), Some(other));
    }

    #[test]
    fn clearing_keeps_the_console() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("run")).unwrap();
        fs::write(dir.path().join("run/console.log"), "boot").unwrap();
        clear(dir.path()).unwrap();
        clear(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("console.log")).unwrap(), "boot");
        assert!(!dir.path().join("run").exists());
    }
}
