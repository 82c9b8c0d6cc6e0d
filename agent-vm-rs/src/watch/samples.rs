//! Samples of what a running machine uses. The last minutes are kept in the machine's directory.

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::host::line_log::LineLog;
use crate::host::process::Usage;
use crate::machine::Machine;
use crate::machine::paths::MachinePath;

/// Seconds between two samples.
pub const INTERVAL: u32 = 5;
/// Most samples that are returned: those of 15 minutes.
pub const MOST: usize = 180;
/// Size of the file in bytes. After it was shortened, it has at least [`MOST`] samples.
const LONGEST: u64 = 256 << 10;

/// What a machine has used since its start, and its connections. A restart starts the counts again: `pid` is then another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When it was taken.
    pub time: Timestamp,
    /// QEMU's process id.
    pub pid: i32,
    /// What QEMU has used. Its I/O is that of the machine's disk and image.
    pub qemu: Used,
    /// What virtiofsd has used; None with 9p. Its I/O is that of the workspace.
    pub virtiofsd: Option<Used>,
    /// What the egress proxy, its tunnel and their supervisor have used; None while they do not run.
    pub egress: Option<Used>,
    /// Bytes through the machine's two ports; None if this host's kernel does not count them. Nothing else leads to or from the
    /// machine. Connections that end between two samples are not counted.
    pub network: Option<Traffic>,
    /// Connection attempts that the egress proxy allowed.
    pub egress_allowed: u64,
    /// Connection attempts that it denied.
    pub egress_denied: u64,
    /// Open connections, without our own.
    pub connections: Connections,
    /// Seconds since the machine was last used.
    pub idle_seconds: u64,
}

/// What processes have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Processor time in milliseconds.
    pub cpu_ms: u64,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// Bytes read from disks; None if the kernel does not show them.
    pub read_bytes: Option<u64>,
    /// Bytes written to disks; None if the kernel does not show them.
    pub written_bytes: Option<u64>,
}

impl From<Usage> for Used {
    fn from(usage: Usage) -> Self {
        Self {
            cpu_ms: u64::try_from(usage.cpu.as_millis()).unwrap_or(u64::MAX),
            memory_bytes: usage.memory,
            read_bytes: usage.io.map(|(read, _)| read),
            written_bytes: usage.io.map(|(_, written)| written),
        }
    }
}

/// Bytes in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes that the machine received.
    pub received_bytes: u64,
    /// Bytes that it sent.
    pub sent_bytes: u64,
}

/// Numbers of open connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Connections to the ssh port.
    pub ssh: u32,
    /// Connections to the MCP port.
    pub mcp: u32,
    /// Connections to forwarded ports.
    pub forwarded: u32,
}

/// Returns the samples of the last 15 minutes that the machine ran, oldest first. They may be of several runs.
#[must_use]
pub fn read(machine: &Machine) -> Vec<Sample> {
    let lines = log(machine).lines();
    let samples = lines.iter().rev().filter_map(|line| serde_json::from_str(line).ok());
    let mut samples: Vec<_> = samples.take(MOST).collect();
    samples.reverse();
    samples
}

/// Returns the newest sample of the current run; None if the machine does not run, or has none yet.
#[must_use]
pub fn last(machine: &Machine) -> Option<Sample> {
    let qemu = machine.run().qemu()?;
    let lines = log(machine).lines();
    let last: Sample = lines.iter().rev().find_map(|line| serde_json::from_str(line).ok())?;
    (last.pid == qemu.pid).then_some(last)
}

/// Appends a sample.
///
/// # Errors
/// The file cannot be written.
pub fn append(machine: &Machine, sample: &Sample) -> Result<()> {
    let line = serde_json::to_string(sample).context("failed to write a sample as JSON")?;
    log(machine).append(&line).context("failed to write a sample")
}

fn log(machine: &Machine) -> LineLog {
    LineLog::new(MachinePath::Samples.of(&machine.dir), LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::state_dir::StateDir;

    pub(crate) fn sample(number: u64) -> Sample {
        let used = Used { cpu_ms: number, memory_bytes: u64::MAX, read_bytes: Some(u64::MAX), written_bytes: None };
        Sample {
            time: Timestamp::from_second(1_800_000_000).unwrap(),
            pid: i32::MAX,
            qemu: used,
            virtiofsd: Some(used),
            egress: Some(used),
            network: Some(Traffic { received_bytes: u64::MAX, sent_bytes: u64::MAX }),
            egress_allowed: u64::MAX,
            egress_denied: u64::MAX,
            connections: Connections { ssh: u32::MAX, mcp: u32::MAX, forwarded: u32::MAX },
            idle_seconds: u64::MAX,
        }
    }

    #[test]
    fn the_last_samples_are_kept_also_the_longest_ones() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::locate(Some(dir.path())).unwrap();
        let machine = Machine::new(&state, "app-main".parse().unwrap());
        std::fs::create_dir(&machine.dir).unwrap();
        assert_eq!(read(&machine), []);
        for number in 0..1_000 {
            append(&machine, &sample(number)).unwrap();
            let count = usize::try_from(number).unwrap() + 1;
            assert_eq!(read(&machine).len(), count.min(MOST));
        }
        let numbers: Vec<_> = read(&machine).iter().map(|sample| sample.qemu.cpu_ms).collect();
        assert_eq!(numbers, (820..1_000).collect::<Vec<_>>());
        assert!(std::fs::metadata(MachinePath::Samples.of(&machine.dir)).unwrap().len() < 2 * LONGEST);
        // The machine does not run.
        assert_eq!(last(&machine), None);
    }
}
