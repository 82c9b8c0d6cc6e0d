//! A process, known for what it is later.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use procfs::process::{ProcState, Process, all_processes};
use rustix::process::{Pid, Signal, kill_process};

use crate::host::files::{read_text, write_unsynced};
use crate::host::interrupt::Deadline;
use crate::host::system::boot_id;

/// A process that cannot be confused with a later one of the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    start_time: u64,
}

impl ProcessId {
    /// The process that has this number now, unless it is dead or waits to be reaped.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Process::new(pid).ok()?.stat().ok()?;
        let gone = matches!(stat.state(), Ok(ProcState::Zombie | ProcState::Dead));
        (!gone).then_some(Self { pid, start_time: stat.starttime })
    }

    /// Whether it is still there.
    #[must_use]
    pub fn alive(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now == *self)
    }

    /// Whether a signal (SIGSTOP) or a debugger holds it: it is there and does nothing.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        let state = Process::new(self.pid).ok().and_then(|process| process.stat().ok()?.state().ok());
        matches!(state, Some(ProcState::Stopped | ProcState::Tracing)) && self.alive()
    }

    /// Its children, as far as they live.
    #[must_use]
    pub fn children(&self) -> Vec<Self> {
        let pid = self.pid;
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|child| Self::of(child.parse().ok()?)).collect()
    }

    /// The words of its command line; none for one that has ended.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        Process::new(self.pid).and_then(|process| process.cmdline()).unwrap_or_default()
    }

    /// Remembers it in a file, with its start time and the boot these belong to.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_unsynced(path, format!("{} {} {}\n", self.pid, self.start_time, boot_id()?), 0o600)
    }

    /// The process that a file remembers, if it still runs.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        let text = read_text(path).ok()?;
        let mut words = text.split_whitespace();
        let recorded = Self { pid: words.next()?.parse().ok()?, start_time: words.next()?.parse().ok()? };
        let same_boot = words.next()? == boot_id().ok()?;
        (same_boot && recorded.alive()).then_some(recorded)
    }

    /// Sends a signal, if it is still the same process.
    pub fn signal(&self, signal: Signal) {
        if let (true, Some(pid)) = (self.alive(), Pid::from_raw(self.pid)) {
            // An error means that it has just ended.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until it is gone; false if it is not by then.
    #[must_use]
    pub fn wait_gone(&self, patience: Duration) -> bool {
        let deadline = Deadline::after(patience);
        while self.alive() {
            if deadline.passed() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// The child of a process that has one and no more.
    #[must_use]
    pub fn only_child_of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let mut children = text.split_whitespace();
        let child = children.next()?.parse().ok()?;
        if children.next().is_some() { None } else { Self::of(child) }
    }

    /// Ends it by SIGTERM, then by SIGKILL. Gives the signal that was needed.
    pub fn end(&self, patience: Duration) -> Option<&'static str> {
        for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::KILL, "SIGKILL")] {
            self.signal(signal);
            if self.wait_gone(patience) {
                return Some(name);
            }
        }
        None
    }

    /// Resident memory in bytes and processor time used so far.
    #[must_use]
    pub fn usage(&self) -> Option<(u64, Duration)> {
        let stat = Process::new(self.pid).ok()?.stat().ok()?;
        let ticks = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
        Some((stat.rss * procfs::page_size(), Duration::from_secs_f64(ticks)))
    }

    /// Processor time used so far by this process and by what it has started, and what that has, as far as it is there.
    #[must_use]
    pub fn cpu_of_all(&self) -> Option<Duration> {
        let stats: Vec<_> = all_processes().ok()?.filter_map(|process| process.ok()?.stat().ok()).collect();
        let (mut ours, mut done) = (vec![self.pid], 0);
        while let Some(parent) = ours.get(done).copied() {
            ours.extend(stats.iter().filter(|stat| stat.ppid == parent && stat.pid != parent).map(|stat| stat.pid));
            done += 1;
        }
        let ticks: u64 = stats.iter().filter(|stat| ours.contains(&stat.pid)).map(|stat| stat.utime + stat.stime).sum();
        Some(Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_what_a_process_has_started_counts_too() {
        // The shell waits; what it has started is busy, until its input ends.
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sh -c 'while :; do :; done' & read -r line; kill $!; wait"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let id = ProcessId::of(i32::try_from(shell.id()).unwrap()).unwrap();
        let enough = Duration::from_millis(200);
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while id.cpu_of_all().unwrap() < enough && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        let (all, own) = (id.cpu_of_all().unwrap(), id.usage().unwrap().1);
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert!(all >= enough && own < enough, "{all:?} {own:?}");
    }

    #[test]
    fn a_pid_counts_only_with_its_start_time_and_boot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qemu.pid");
        let own = i32::try_from(std::process::id()).unwrap();
        let me = ProcessId::of(own).unwrap();
        me.write(&path).unwrap();
        assert_eq!(ProcessId::read(&path), Some(me.clone()));
        let boot = boot_id().unwrap();
        for stale in [
            format!("{own} {} {boot}", me.start_time + 1),
            format!("{own} {} other-boot", me.start_time),
            format!("{own}"),
            String::new(),
            "x y z".to_owned(),
        ] {
            fs::write(&path, &stale).unwrap();
            assert_eq!(ProcessId::read(&path), None, "{stale:?} counted");
        }
    }

    #[test]
    fn a_suspended_process_is_told_from_one_that_runs() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let process = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(!process.is_suspended());
        process.signal(Signal::STOP);
        let deadline = Deadline::after(Duration::from_secs(20));
        deadline.poll("the signal", Duration::from_millis(2), || Ok(process.is_suspended().then_some(()))).unwrap();
        assert!(process.alive());
        assert_eq!(process.end(Duration::from_millis(50)), Some("SIGKILL"));
        assert!(!process.is_suspended());
        child.wait().unwrap();
    }
}
