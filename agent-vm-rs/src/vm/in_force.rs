//! The limits of a running machine that are in force, and by what.

use procfs::process::{LimitValue, Process};
use serde::Serialize;

use crate::host::process::ProcessId;
use crate::limits::force::{AllInForce, InForce};
use crate::machine::number::Number;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::{RunDir, RunFacts};
use crate::machine::settings::Settings;
use crate::vm::{network_rate, qmp};

/// A limit of a running machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitState {
    /// Name of the setting.
    pub name: &'static str,
    /// Its value.
    pub value: u32,
    /// What enforces it; None if nothing on this host does.
    pub by: Option<String>,
    /// Whether a user set it, and not the policy.
    #[serde(skip)]
    pub is_asked: bool,
    /// Whether this host enforces it from the next start on.
    #[serde(skip)]
    pub is_pending: bool,
}

impl LimitState {
    /// Returns the limit as text.
    #[must_use]
    pub fn line(&self) -> String {
        let by = match &self.by {
            Some(by) => format!("by {by}"),
            None if self.is_pending => "from the next start".to_owned(),
            None => "not enforced on this host".to_owned(),
        };
        let value = u64::from(self.value);
        let value = Number::of(self.name).map_or_else(|| value.to_string(), |number| number.with_unit(value));
        format!("{} {value} {by}", self.name)
    }

    /// Returns a notice that nothing enforces a limit that a user set; None if something does.
    #[must_use]
    pub fn notice(&self) -> Option<String> {
        (self.is_asked && self.by.is_none() && !self.is_pending)
            .then(|| format!("notice: this host cannot enforce {}={}: {}", self.name, self.value, why(self.name)))
    }
}

/// Returns what is missing on a host that cannot enforce a limit.
fn why(name: &str) -> &'static str {
    match name {
        "network_bandwidth" => "QEMU has no network namespace of its own; install bubblewrap and systemd-socket-proxyd",
        "workspace_size" | "keep_free" => "the watcher has ended; agent-vm start starts it again",
        _ => {
            "no systemd manager answers that outlives the login (loginctl enable-linger), and no cgroup (version 2) with this controller is delegated to this user; see \
             docs/how-to/limits.md"
        }
    }
}

/// Returns the limits of a running machine.
#[must_use]
pub fn all(run: &RunDir, settings: &Settings, facts: &RunFacts, qemu: &ProcessId) -> Vec<LimitState> {
    let kernel = AllInForce::of(qemu.pid);
    let memory = LimitState {
        name: "memory",
        value: memory_of(settings.memory, facts.memory, || qmp::memory(run).ok()),
        by: Some(with(Some("QEMU".to_owned()), kernel.memory.as_ref().map(cgroup)).unwrap_or_default()),
        is_asked: false,
        is_pending: false,
    };
    let of_one = |limit: Number| {
        let value = settings.limits.of(limit)?;
        let by = match limit {
            Number::NetworkBandwidth => network_rate::is_limited(run).then(|| "the port forwarders".to_owned()),
            Number::WorkspaceSize | Number::KeepFree if has_lost_watcher(run) => None,
            _ => by(limit, value, &kernel, facts, qemu),
        };
        let is_pending = by.is_none() && is_pending(limit, run, qemu);
        Some(LimitState { name: limit.name(), value, by, is_asked: settings.limits.asked(limit).is_some(), is_pending })
    };
    std::iter::once(memory).chain(Number::LIMITS.into_iter().filter_map(of_one)).collect()
}

/// Returns whether this host enforces a limit from the next start on, which it does not of this run.
fn is_pending(limit: Number, run: &RunDir, qemu: &ProcessId) -> bool {
    match limit {
        // Its forwarders have no limit, but others could.
        Number::NetworkBandwidth => run.file(MachinePath::ForwardSshPid).exists(),
        // Its programs have the limit with which it started.
        Number::Pids => Settings::read(&run.file(MachinePath::RunSettings))
            .is_ok_and(|began| began.limits.of(limit).is_some_and(|began| of_each_process(qemu, began).is_some())),
        _ => false,
    }
}

/// Returns the guest's memory in MiB that is in force. `boot` is that of the start, 0 if it is unknown. A guest may return less
/// than it was asked for; `now` asks QEMU for bytes.
fn memory_of(asked: u32, boot: u32, now: impl FnOnce() -> Option<u64>) -> u32 {
    match boot {
        0 => asked,
        boot if asked >= boot => boot,
        boot => now().map_or(boot, |bytes| u32::try_from(bytes >> 20).unwrap_or(u32::MAX).clamp(asked, boot)),
    }
}

/// Returns whether the watcher has ended. A start has none until the machine answers.
fn has_lost_watcher(run: &RunDir) -> bool {
    let file = run.file(MachinePath::WatchPid);
    file.exists() && ProcessId::read(&file).is_none()
}

/// Returns what enforces a limit.
fn by(limit: Number, value: u32, kernel: &AllInForce, facts: &RunFacts, qemu: &ProcessId) -> Option<String> {
    let within = |found: &Option<InForce>| found.as_ref().filter(|found| found.value <= u64::from(value)).map(cgroup);
    match limit {
        Number::CpuQuota => within(&kernel.cpu_quota),
        Number::Pids => within(&kernel.pids).or_else(|| of_each_process(qemu, value)),
        Number::DiskIops => with(Some("QEMU".to_owned()), within(&kernel.disk_iops)),
        Number::DiskBandwidth => with(Some("QEMU".to_owned()), within(&kernel.disk_bandwidth)),
        Number::WorkspaceSize | Number::KeepFree if facts.share == "virtiofs" => {
            Some("virtiofsd and the watcher".to_owned())
        }
        Number::WorkspaceSize | Number::KeepFree => Some("the watcher".to_owned()),
        _ => None,
    }
}

/// Joins two means.
fn with(one: Option<String>, other: Option<String>) -> Option<String> {
    match (one, other) {
        (Some(one), Some(other)) => Some(format!("{one} and {other}")),
        (one, other) => one.or(other),
    }
}

/// Returns the name of the cgroup that has a limit.
fn cgroup(found: &InForce) -> String {
    let is_unit = |name: &&str| [".slice", ".scope", ".service"].iter().any(|kind| name.ends_with(kind));
    match found.cgroup.file_name().and_then(|name| name.to_str()).filter(is_unit) {
        Some(unit) => format!("systemd ({unit})"),
        None => format!("the cgroup {}", found.cgroup.display()),
    }
}

/// Returns whether QEMU's namespace has a limit of processes.
fn of_each_process(qemu: &ProcessId, value: u32) -> Option<String> {
    let limits = Process::new(qemu.pid).ok()?.limits().ok()?;
    match limits.max_processes.soft_limit {
        LimitValue::Value(most) if most <= u64::from(value) => Some("RLIMIT_NPROC, of each program".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_a_guest_does_not_return_is_shown() {
        let mib = |mib: u64| move || Some(mib << 20);
        assert_eq!(memory_of(1024, 4096, mib(1024)), 1024);
        assert_eq!(memory_of(1024, 4096, mib(3000)), 3000);
        // Until it is asked, and if QEMU does not answer, it has what it began with.
        assert_eq!((memory_of(1024, 4096, mib(9999)), memory_of(1024, 4096, || None)), (4096, 4096));
        assert_eq!((memory_of(8192, 4096, mib(1)), memory_of(2048, 0, mib(1))), (4096, 2048));
    }
}
