//! What this host knows of a machine, without asking it.

use std::os::unix::fs::MetadataExt as _;

use jiff::Timestamp;

use crate::egress::supervise;
use crate::machine::Machine;
use crate::machine::helpers::{self, Helper};
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunFacts;
use crate::machine::settings::Settings;
use crate::mcp::endpoint::{authority, renewal};
use crate::vm::failure;
use crate::watch::samples::{self, Sample};

/// State of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running,
    /// Its start has not finished.
    Starting,
    /// It does not run.
    Stopped,
    /// Its settings cannot be read.
    Broken,
}

impl State {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Running, Self::Starting, Self::Stopped, Self::Broken];

    /// Returns its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Stopped => "stopped",
            Self::Broken => "broken",
        }
    }
}

/// One run of a machine.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its facts.
    pub facts: RunFacts,
    /// Its processes.
    pub helpers: Vec<Helper>,
    /// Whether the guest can reach the egress proxy.
    pub egress_up: bool,
    /// When the certificate of the MCP endpoint expires; None without TLS.
    pub certificate_expires: Option<Timestamp>,
}

/// What is known of a machine.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: State,
    /// Its settings; None if they cannot be read.
    pub settings: Option<Settings>,
    /// Its run; None if it does not run.
    pub run: Option<Run>,
    /// Whether its last run failed.
    pub failed: bool,
    /// Bytes that its disk image occupies; None without a disk.
    pub disk_used: Option<u64>,
    /// Samples of the last minutes, oldest first; only those of this run, none if it does not run.
    pub samples: Vec<Sample>,
}

impl Facts {
    /// Looks at a machine's files and processes.
    #[must_use]
    pub fn of(machine: &Machine) -> Self {
        let run = machine.run();
        let settings = machine.settings().ok();
        let (qemu, facts) = (run.qemu(), run.facts());
        let state = match (&qemu, &facts) {
            (Some(_), Some(facts)) if !run.is_starting(facts) => State::Running,
            (Some(_), _) => State::Starting,
            (None, _) if settings.is_none() => State::Broken,
            (None, _) => State::Stopped,
        };
        let samples = qemu.as_ref().map(|qemu| {
            let mut samples = samples::read(machine);
            samples.retain(|sample| sample.pid == qemu.pid);
            samples
        });
        let of_run = |facts: RunFacts| Run {
            helpers: helpers::all(&run, &facts),
            egress_up: supervise::is_up(&run),
            certificate_expires: facts.tls.then(|| expiry(machine, &facts)).flatten(),
            facts,
        };
        Self {
            name: machine.name.to_string(),
            state,
            settings,
            failed: qemu.is_none() && failure::of_last_run(machine).is_some(),
            run: qemu.and(facts).map(of_run),
            disk_used: MachinePath::Disk.of(&machine.dir).symlink_metadata().ok().map(|found| found.blocks() * 512),
            samples: samples.unwrap_or_default(),
        }
    }

    /// Returns the newest sample of the run.
    #[must_use]
    pub fn last(&self) -> Option<&Sample> {
        self.samples.last()
    }
}

fn expiry(machine: &Machine, facts: &RunFacts) -> Option<Timestamp> {
    let issued = renewal::issued(machine, facts).ok()?;
    Timestamp::from_second(issued.as_second() + authority::RUN.whole_seconds()).ok()
}
