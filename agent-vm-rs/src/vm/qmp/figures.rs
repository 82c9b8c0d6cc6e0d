//! QEMU's own figures: what it reads from and writes to disks, and its threads. A compromised QEMU may report anything: numbers
//! and names are bounded.

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Client, connect};
use crate::machine::run_state::RunDir;
use crate::term::text::one_line;

/// Most disks and processors that are looked at.
const MOST: usize = 64;
/// Longest name of a disk, in characters.
const LONGEST: usize = 40;

/// Counts of one disk since QEMU began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Its name.
    pub name: String,
    /// The counts.
    pub counts: DiskCounts,
}

/// See [`Disk`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DiskCounts {
    /// Bytes that the guest read.
    pub rd_bytes: u64,
    /// Bytes that it wrote.
    pub wr_bytes: u64,
    /// Number of reads.
    pub rd_operations: u64,
    /// Number of writes.
    pub wr_operations: u64,
    /// Number of flushes.
    pub flush_operations: u64,
    /// Time of all reads, in nanoseconds.
    pub rd_total_time_ns: u64,
    /// Time of all writes, in nanoseconds.
    pub wr_total_time_ns: u64,
}

/// What QEMU reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Ids of the threads of its processors, in QEMU's pid namespace.
    pub processors: Vec<i32>,
}

/// Asks QEMU for its figures.
///
/// # Errors
/// It does not answer.
pub fn figures(run: &RunDir) -> Result<Figures> {
    let stream = connect(run)?;
    let mut client = Client::greet(&stream)?;
    let disks = client.execute("query-blockstats", json!({})).context("QEMU does not report its disks")?;
    let processors = client.execute("query-cpus-fast", json!({})).context("QEMU does not report its processors")?;
    Ok(Figures { disks: disks_in(&disks), processors: processors_in(&processors) })
}

/// Returns the guest's memory in bytes, without what it has returned.
///
/// # Errors
/// QEMU does not answer.
pub fn memory(run: &RunDir) -> Result<u64> {
    let answer = super::command(run, "query-balloon", json!({}))?;
    answer.get("actual").and_then(Value::as_u64).context("QEMU does not report the guest's memory")
}

fn disks_in(answer: &Value) -> Vec<Disk> {
    let all = answer.as_array().map(Vec::as_slice).unwrap_or_default().iter().take(MOST);
    let disks = all.filter_map(|disk| {
        let counts: DiskCounts = serde_json::from_value(disk.get("stats")?.clone()).ok()?;
        let named = |key: &str| disk.get(key).and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = named("device").or_else(|| named("qdev")).or_else(|| named("node-name"))?;
        // A path such as /machine/peripheral-anon/device[3]/virtio-backend.
        let name = name.trim_start_matches("/machine/").trim_end_matches("/virtio-backend");
        Some(Disk { name: one_line(name).chars().take(LONGEST).collect(), counts })
    });
    disks.collect()
}

fn processors_in(answer: &Value) -> Vec<i32> {
    let all = answer.as_array().map(Vec::as_slice).unwrap_or_default().iter().take(MOST);
    all.filter_map(|one| i32::try_from(one.get("thread-id")?.as_i64()?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_and_processors_are_read() {
        let disks = json!([
            { "device": "", "qdev": "/machine/peripheral-anon/device[2]/virtio-backend", "node-name": "#block1",
              "stats": { "rd_bytes": 4096, "rd_operations": 1, "rd_total_time_ns": 2000, "unknown": {} } },
            { "device": "virtio0", "stats": { "wr_bytes": 512 } },
            { "stats": { "wr_bytes": 512 } },
            { "device": "bad", "stats": { "wr_bytes": -1 } },
            7,
        ]);
        let disks = disks_in(&disks);
        let names: Vec<_> = disks.iter().map(|disk| disk.name.as_str()).collect();
        assert_eq!(names, ["peripheral-anon/device[2]", "virtio0"]);
        assert_eq!((disks[0].counts.rd_bytes, disks[1].counts.wr_bytes), (4096, 512));
        let processors = json!([{ "cpu-index": 0, "thread-id": 12 }, { "thread-id": 1_u64 << 40 }, {}]);
        assert_eq!(processors_in(&processors), [12]);
    }

    #[test]
    fn a_hostile_answer_is_bounded() {
        let one = json!({ "device": "\u{1b}[2J".repeat(999) + "x", "stats": {} });
        let disks = disks_in(&Value::Array(vec![one; 1_000]));
        assert!(disks.len() == MOST && disks.iter().all(|disk| disk.name.chars().count() <= LONGEST));
        assert!(disks_in(&json!({})).is_empty() && processors_in(&json!("x")).is_empty());
    }
}
