//! Limits of a machine's processes that the host enforces, whatever QEMU and the guest do: processor time, memory, processes
//! and disk transfers of QEMU, virtiofsd, the forwarders, the egress proxy and its tunnel together.
//!
//! The best means of this host is used: a systemd slice where a manager answers, else a cgroup of our own where one is
//! delegated to us, else resource limits of single processes.

pub mod cgroup;
pub mod force;
mod rlimit;
pub mod systemd;

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::host::files::{read_text, write_unsynced};
use crate::host::process::Invocation;
use crate::machine::accel::Accel;
use crate::machine::limits::Limits;
use crate::machine::number::Number;
use crate::machine::paths::MachinePath;
use crate::machine::settings::Settings;

pub use rlimit::{limit_processes, process_limit, process_limit_of};

/// What QEMU, virtiofsd and the egress proxy need beside the guest's memory, in bytes. QEMU caches translated code, up to
/// 1 GiB, if it emulates the processor.
const OVERHEAD: u64 = 1 << 30;
const TRANSLATED: u64 = 1 << 30;

/// Limits of all processes of a machine together; None is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Processor time in percent of one core.
    pub cpu_quota: Option<u32>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// Disk operations a second, read and written each.
    pub disk_iops: Option<u32>,
    /// Disk transfers in bytes a second, read and written each.
    pub disk_bandwidth: Option<u32>,
    /// Directory on the disk that the transfers are limited of.
    pub disk: PathBuf,
}

impl Wanted {
    /// Returns the limits of the processes of the machine in `dir`.
    #[must_use]
    pub fn new(dir: &Path, settings: &Settings, accel: Accel) -> Self {
        let translated = if accel == Accel::Tcg { TRANSLATED } else { 0 };
        let memory = (u64::from(settings.memory) << 20) + OVERHEAD + translated;
        Self { memory: Some(memory), ..Self::of_limits(dir, &settings.limits) }
    }

    /// Returns the limits that can change while the machine runs.
    #[must_use]
    pub fn of_limits(dir: &Path, limits: &Limits) -> Self {
        Self {
            memory: None,
            cpu_quota: limits.of(Number::CpuQuota),
            pids: limits.of(Number::Pids),
            disk_iops: limits.of(Number::DiskIops),
            disk_bandwidth: limits.of(Number::DiskBandwidth),
            disk: dir.to_owned(),
        }
    }
}

/// The means by which a run's limits are enforced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Means {
    /// A slice of systemd.
    Systemd(systemd::Slice),
    /// A cgroup that we made.
    Cgroup(cgroup::Group),
    /// Only limits of single processes.
    #[default]
    Single,
}

impl Means {
    /// Chooses the means for the processes of the machine in `dir`, sets the limits, and records the means of the run. Each is
    /// recorded before the host has anything for it, so that also a start that is killed leaves nothing that is not found.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn choose(dir: &Path, wanted: &Wanted) -> Result<Self> {
        match systemd::Slice::make(dir, wanted, &|slice| Self::Systemd(slice.clone()).record(dir)) {
            Ok(Some(slice)) => return Ok(Self::Systemd(slice)),
            Ok(None) => {}
            Err(error) => tracing::info!("{error:#}"),
        }
        match cgroup::Group::make(dir, wanted, &|group| Self::Cgroup(group.clone()).record(dir)) {
            Ok(group) => return Ok(Self::Cgroup(group)),
            Err(error) => tracing::info!("{error:#}"),
        }
        Self::Single.record(dir)?;
        Ok(Self::Single)
    }

    /// Returns the means of the current run of the machine in `dir`.
    #[must_use]
    pub fn of_run(dir: &Path) -> Self {
        let text = read_text(&MachinePath::RunLimits.of(dir)).ok();
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    fn record(&self, dir: &Path) -> Result<()> {
        write_unsynced(&MachinePath::RunLimits.of(dir), serde_json::to_string(self)? + "\n", 0o600)
    }

    /// Returns a program that begins within the limits.
    #[must_use]
    pub fn around(&self, program: &Invocation) -> Invocation {
        match self {
            Self::Systemd(slice) => slice.around(program),
            Self::Cgroup(group) => group.around(program),
            Self::Single => program.clone(),
        }
    }

    /// Changes the limits of running processes. The memory limit stays.
    ///
    /// # Errors
    /// The host refuses a limit.
    pub fn change(&self, wanted: &Wanted) -> Result<()> {
        match self {
            Self::Systemd(slice) => slice.set(wanted),
            Self::Cgroup(group) => group.set(wanted),
            Self::Single => Ok(()),
        }
    }

    /// Removes what the host has for the limits of processes that have ended.
    pub fn remove(&self) {
        match self {
            Self::Systemd(slice) => slice.remove(),
            Self::Cgroup(group) => group.remove(),
            Self::Single => {}
        }
    }
}
