//! What a machine uses per second, from its samples.

use crate::watch::samples::{Sample, Used};

/// What was used per second between two samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Share of one processor, in percent, of all its processes on this host.
    pub cpu_percent: f64,
    /// Bytes read from disks per second.
    pub read: f64,
    /// Bytes written to disks per second.
    pub written: f64,
    /// Bytes received per second.
    pub received: f64,
    /// Bytes sent per second.
    pub sent: f64,
}

fn parts(sample: &Sample) -> impl Iterator<Item = Used> {
    [Some(sample.qemu), sample.virtiofsd, sample.egress].into_iter().flatten()
}

/// Returns the resident memory of a machine's processes, in bytes.
#[must_use]
pub fn memory(sample: &Sample) -> u64 {
    parts(sample).map(|used| used.memory_bytes).fold(0, u64::saturating_add)
}

/// Returns the processor time of a machine's processes, in milliseconds.
fn cpu(sample: &Sample) -> u64 {
    parts(sample).map(|used| used.cpu_ms).fold(0, u64::saturating_add)
}

fn io(sample: &Sample, pick: fn(&Used) -> Option<u64>) -> u64 {
    parts(sample).filter_map(|used| pick(&used)).fold(0, u64::saturating_add)
}

/// Returns the rates between two samples of one run. A count that runs back, as of a proxy that was restarted, counts as zero.
#[must_use]
pub fn between(before: &Sample, after: &Sample) -> Option<Rates> {
    let seconds = after.time.duration_since(before.time).as_secs_f64();
    if before.pid != after.pid || seconds <= 0.0 {
        return None;
    }
    let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
    let network = |pick: fn(&Sample) -> Option<u64>| rate(pick(before).unwrap_or(0), pick(after).unwrap_or(0));
    Some(Rates {
        cpu_percent: rate(cpu(before), cpu(after)) / 10.0,
        read: rate(io(before, |used| used.read_bytes), io(after, |used| used.read_bytes)),
        written: rate(io(before, |used| used.written_bytes), io(after, |used| used.written_bytes)),
        received: network(|sample| Some(sample.network?.received_bytes)),
        sent: network(|sample| Some(sample.network?.sent_bytes)),
    })
}

/// Returns the rates between neighbouring samples, oldest first.
#[must_use]
pub fn all(samples: &[Sample]) -> Vec<Rates> {
    samples.windows(2).filter_map(|pair| between(pair.first()?, pair.last()?)).collect()
}

/// Returns the rates over the last samples, about half a minute.
#[must_use]
pub fn now(samples: &[Sample]) -> Option<Rates> {
    const LOOK_BACK: usize = 6;
    let last = samples.last()?;
    let before = samples.get(samples.len().saturating_sub(LOOK_BACK))?;
    between(before, last)
}

#[cfg(test)]
pub(super) mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::watch::samples::{Connections, Traffic};

    /// Returns the sample of a machine that uses a quarter of a processor, `number` intervals after its start.
    pub fn sample(number: u64) -> Sample {
        let used = |cpu_ms, memory_bytes| Used {
            cpu_ms,
            memory_bytes,
            read_bytes: Some(number * 5 * 1_048_576),
            written_bytes: Some(number * 5 * 2_097_152),
        };
        Sample {
            time: Timestamp::from_second(1_800_000_000 + i64::try_from(number).unwrap() * 5).unwrap(),
            pid: 100,
            qemu: used(number * 1_000, 1 << 30),
            virtiofsd: Some(Used { cpu_ms: number * 250, memory_bytes: 1 << 20, ..Used::default() }),
            egress: None,
            network: Some(Traffic { received_bytes: number * 5_000, sent_bytes: number * 10_000 }),
            egress_allowed: number,
            egress_denied: 3,
            connections: Connections { ssh: 1, mcp: 2, forwarded: 0 },
            idle_seconds: 90,
        }
    }

    #[test]
    fn rates_are_sums_over_the_processes() {
        let rates = between(&sample(1), &sample(3)).unwrap();
        assert!((rates.cpu_percent - 25.0).abs() < 0.01, "{rates:?}");
        assert!((rates.read - 1_048_576.0).abs() < 1.0 && (rates.written - 2_097_152.0).abs() < 1.0);
        assert!((rates.received - 1_000.0).abs() < 0.1 && (rates.sent - 2_000.0).abs() < 0.1);
        assert_eq!(memory(&sample(1)), (1 << 30) + (1 << 20));
    }

    #[test]
    fn samples_of_another_run_or_time_give_no_rates() {
        let mut other = sample(2);
        other.pid = 7;
        assert_eq!(between(&sample(1), &other), None);
        assert_eq!(between(&sample(2), &sample(1)), None);
        assert_eq!((all(&[sample(1)]).len(), now(&[])), (0, None));
        assert_eq!(all(&[sample(1), sample(2), sample(3)]).len(), 2);
        // Counts that run back.
        let mut restarted = sample(2);
        restarted.qemu = Used::default();
        assert_eq!(between(&sample(1), &restarted).unwrap().written, 0.0);
    }
}
