//! What a process uses of this host.

use std::fs;
use std::time::Duration;

use procfs::process::Process;

use super::ProcessId;

/// Most processes of a tree that are looked at.
const MOST: usize = 16;

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub memory: u64,
    /// Bytes read from disks, and bytes written to them; None if the kernel does not show them to us.
    pub io: Option<(u64, u64)>,
}

impl ProcessId {
    /// Returns what the process uses; None if it has ended.
    #[must_use]
    pub fn usage_with_io(&self) -> Option<Usage> {
        let (memory, cpu) = self.usage()?;
        let io = Process::new(self.pid).and_then(|process| process.io()).ok();
        Some(Usage { cpu, memory, io: io.map(|io| (io.read_bytes, io.write_bytes)) })
    }

    /// Returns what the process and its descendants that are alive use. Unlike [`Self::cpu_of_all`], it does not look at all
    /// processes of this host, and misses children of other threads than the first.
    #[must_use]
    pub fn usage_of_tree(&self) -> Option<Usage> {
        let mut all = vec![self.clone()];
        let mut sum = self.usage_with_io()?;
        let mut done = 0;
        while let Some(parent) = all.get(done).cloned() {
            done += 1;
            let room = MOST.saturating_sub(all.len());
            for child in parent.children().into_iter().take(room) {
                if let Some(usage) = child.usage_with_io() {
                    sum.cpu += usage.cpu;
                    sum.memory += usage.memory;
                    sum.io = sum.io.zip(usage.io).map(|(all, one)| (all.0 + one.0, all.1 + one.1));
                    all.push(child);
                }
            }
        }
        Some(sum)
    }
}

/// Returns the time for which a process has existed, including time during which the host slept.
#[must_use]
pub fn age(process: &ProcessId) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{}/stat", process.pid)).ok()?;
    // The name in parentheses may have spaces. The 22nd field is the start, in ticks since the boot.
    let ticks: u64 = text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let start = Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now = Duration::new(now.tv_sec.try_into().ok()?, now.tv_nsec.try_into().ok()?);
    Some(now.saturating_sub(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_includes_children() {
        let mut shell = std::process::Command::new("sh").args(["-c", "sleep 1000 & wait"]).spawn().unwrap();
        let id = ProcessId::of(i32::try_from(shell.id()).unwrap()).unwrap();
        let deadline = crate::host::interrupt::Deadline::after(Duration::from_secs(20));
        let more = || {
            let (all, one) = (id.usage_of_tree()?.memory, id.usage()?.0);
            (!id.children().is_empty() && all > one).then_some(())
        };
        deadline.poll("the child", Duration::from_millis(2), || Ok(more())).unwrap();
        assert!(age(&id).unwrap() < Duration::from_secs(60));
        id.children().iter().for_each(|child| child.signal(rustix::process::Signal::KILL));
        shell.wait().unwrap();
        assert_eq!(id.usage_of_tree(), None);
    }
}
