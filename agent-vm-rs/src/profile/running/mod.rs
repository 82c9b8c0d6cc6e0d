//! What a running machine's processes do: processor time, threads and I/O between two looks.

mod look;
mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use self::look::{Look, Process};
use crate::host::interrupt;
use crate::machine::Machine;
use crate::vm::qmp::{Disk, DiskCounts};

/// Number of threads that are shown.
const THREADS: usize = 12;

/// What a process did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProcessUse {
    /// Name of the process, in a few words.
    pub name: &'static str,
    /// Process id.
    pub pid: i32,
    /// Share of one processor, in percent.
    pub cpu_percent: f64,
    /// Resident memory at the end, in bytes.
    pub memory_bytes: u64,
    /// Bytes read from disks; null if the kernel does not show them.
    pub read_bytes: Option<u64>,
    /// Bytes written to disks; null if the kernel does not show them.
    pub written_bytes: Option<u64>,
}

/// What a thread did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ThreadUse {
    /// Name of its process.
    pub process: &'static str,
    /// Its name: `vCPU 0`, `main`, or the name that the program gave it.
    pub name: String,
    /// Share of one processor, in percent.
    pub cpu_percent: f64,
}

/// What the guest did to a disk, as QEMU counts it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DiskUse {
    /// Name of the disk.
    pub name: String,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Number of reads.
    pub reads: u64,
    /// Number of writes.
    pub writes: u64,
    /// Number of flushes.
    pub flushes: u64,
    /// Mean time of a read, in microseconds; null without reads.
    pub read_us: Option<u64>,
    /// Mean time of a write, in microseconds; null without writes.
    pub write_us: Option<u64>,
}

/// What a running machine did for some time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The machine.
    pub machine: String,
    /// For how long it was looked at, in seconds.
    pub seconds: f64,
    /// Its processes.
    pub processes: Vec<ProcessUse>,
    /// The busiest threads, at most twelve.
    pub threads: Vec<ThreadUse>,
    /// The guest's disks; null if QEMU did not answer.
    pub disks: Option<Vec<DiskUse>>,
}

/// Looks at a machine's processes now and after `length`.
///
/// # Errors
/// The machine is not running, or ends meanwhile, or a signal arrived.
pub fn watch(machine: &Machine, length: Duration) -> Result<Report> {
    let first = Look::at(machine)?;
    interrupt::pause(length)?;
    Ok(between(machine.name.as_str(), &first, &Look::at(machine)?))
}

fn between(machine: &str, first: &Look, last: &Look) -> Report {
    let seconds = last.time.saturating_duration_since(first.time).as_secs_f64().max(0.001);
    let percent = |before: Duration, after: Duration| {
        let share = after.saturating_sub(before).as_secs_f64() / seconds * 100.0;
        (share * 10.0).round() / 10.0
    };
    let (mut processes, mut threads) = (Vec::new(), Vec::new());
    for process in &last.processes {
        // A process that began meanwhile had used nothing before.
        let before = first.processes.iter().find(|before| before.pid == process.pid);
        let used = before.map(|before| before.usage).unwrap_or_default();
        let io = |pick: fn((u64, u64)) -> u64| {
            Some(pick(process.usage.io?).saturating_sub(used.io.map(pick).unwrap_or_default()))
        };
        processes.push(ProcessUse {
            name: process.name,
            pid: process.pid,
            cpu_percent: percent(used.cpu, process.usage.cpu),
            memory_bytes: process.usage.memory,
            read_bytes: io(|(read, _)| read),
            written_bytes: io(|(_, written)| written),
        });
        threads.extend(process.threads.iter().map(|(id, thread)| ThreadUse {
            process: process.name,
            name: last.name_of(process, *id, &thread.name),
            cpu_percent: percent(cpu_of(before, *id), thread.cpu),
        }));
    }
    threads.retain(|thread| thread.cpu_percent > 0.0);
    threads.sort_by(|one, other| other.cpu_percent.total_cmp(&one.cpu_percent));
    threads.truncate(THREADS);
    let disks = last.figures.as_ref().zip(first.figures.as_ref()).map(|(last, first)| disks(&first.disks, &last.disks));
    Report { machine: machine.to_owned(), seconds, processes, threads, disks }
}

fn cpu_of(process: Option<&Process>, thread: i32) -> Duration {
    process.and_then(|process| process.threads.get(&thread)).map(|thread| thread.cpu).unwrap_or_default()
}

fn disks(first: &[Disk], last: &[Disk]) -> Vec<DiskUse> {
    let before: BTreeMap<_, _> = first.iter().map(|disk| (disk.name.as_str(), disk.counts)).collect();
    let used = last.iter().map(|disk| {
        let (old, new) = (before.get(disk.name.as_str()).copied().unwrap_or_default(), disk.counts);
        let grown = |pick: fn(&DiskCounts) -> u64| pick(&new).saturating_sub(pick(&old));
        let (reads, writes) = (grown(|counts| counts.rd_operations), grown(|counts| counts.wr_operations));
        let mean = |time: u64, count: u64| time.checked_div(count).map(|ns| ns / 1_000);
        DiskUse {
            name: disk.name.clone(),
            read_bytes: grown(|counts| counts.rd_bytes),
            written_bytes: grown(|counts| counts.wr_bytes),
            reads,
            writes,
            flushes: grown(|counts| counts.flush_operations),
            read_us: mean(grown(|counts| counts.rd_total_time_ns), reads),
            write_us: mean(grown(|counts| counts.wr_total_time_ns), writes),
        }
    });
    used.collect()
}

#[cfg(test)]
pub(super) mod tests;
