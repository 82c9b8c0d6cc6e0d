//! Process identity: a pid together with the start time and boot.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use procfs::process::{ProcState, Process, Stat, all_processes};
use rustix::process::{Pid, Signal, kill_process};

use crate::host::files::{read_if_there, write_unsynced};
use crate::host::interrupt::Deadline;
use crate::host::system::boot_id;

/// A process, distinguishable from a later one that has the same pid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessId {
    /// Its pid.
    pub pid: i32,
    start_time: u64,
}

impl ProcessId {
    /// Returns the process that has this pid now; None if it is dead or a zombie.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Process::new(pid).ok()?.stat().ok()?;
        (!has_ended(&stat)).then_some(Self { pid, start_time: stat.starttime })
    }

    /// Checks whether it still exists.
    #[must_use]
    pub fn alive(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now == *self)
    }

    /// Checks whether a signal (SIGSTOP) or a debugger has stopped it.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        let state = Process::new(self.pid).ok().and_then(|process| process.stat().ok()?.state().ok());
        matches!(state, Some(ProcState::Stopped | ProcState::Tracing)) && self.alive()
    }

    /// Returns its children that are alive.
    #[must_use]
    pub fn children(&self) -> Vec<Self> {
        let pid = self.pid;
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|child| Self::of(child.parse().ok()?)).collect()
    }

    /// Returns the arguments of its command line; empty if it has ended.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        Process::new(self.pid).and_then(|process| process.cmdline()).unwrap_or_default()
    }

    /// Writes its pid, start time and boot to a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_unsynced(path, format!("{} {} {}\n", self.pid, self.start_time, boot_id()?), 0o600)
    }

    /// Returns the process recorded in a file, if it still runs.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        let text = read_if_there(path).ok()??;
        let mut words = text.split_whitespace();
        let recorded = Self { pid: words.next()?.parse().ok()?, start_time: words.next()?.parse().ok()? };
        let same_boot = words.next()? == boot_id().ok()?;
        (same_boot && recorded.alive()).then_some(recorded)
    }

    /// Returns whether a file records a process that ran before this host's last start.
    #[must_use]
    pub fn is_of_earlier_boot(path: &Path) -> bool {
        let text = read_if_there(path).ok().flatten().unwrap_or_default();
        let mut words = text.split_whitespace();
        let is_record = words.by_ref().take(2).all(|word| word.parse::<u64>().is_ok());
        let recorded = words.next().filter(|_| is_record).map(str::to_owned);
        recorded.zip(boot_id().ok()).is_some_and(|(recorded, now)| recorded != now)
    }

    /// Sends a signal, if the process still exists.
    pub fn signal(&self, signal: Signal) {
        if let (true, Some(pid)) = (self.alive(), Pid::from_raw(self.pid)) {
            // An error means that it has just ended.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until the process has ended; returns false after `timeout`.
    #[must_use]
    pub fn wait_gone(&self, timeout: Duration) -> bool {
        let deadline = Deadline::after(timeout);
        while self.alive() {
            if deadline.passed() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// Returns the child of a process that has exactly one.
    #[must_use]
    pub fn only_child_of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let mut children = text.split_whitespace();
        let child = children.next()?.parse().ok()?;
        if children.next().is_some() { None } else { Self::of(child) }
    }

    /// Ends it with SIGTERM, then SIGKILL, waiting up to `timeout` after each. Returns the name of the signal that sufficed.
    pub fn end(&self, timeout: Duration) -> Option<&'static str> {
        for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::KILL, "SIGKILL")] {
            self.signal(signal);
            if self.wait_gone(timeout) {
                return Some(name);
            }
        }
        None
    }

    /// Returns its resident memory in bytes and the processor time it has used.
    #[must_use]
    pub fn usage(&self) -> Option<(u64, Duration)> {
        let stat = Process::new(self.pid).ok()?.stat().ok()?;
        let ticks = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
        Some((stat.rss * procfs::page_size(), Duration::from_secs_f64(ticks)))
    }

    /// Returns the processor time used by this process and its living descendants.
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

/// Returns whether a process has ended. It may stay as a zombie for as long as its parent likes.
pub(super) fn has_ended(stat: &Stat) -> bool {
    matches!(stat.state(), Ok(ProcState::Zombie | ProcState::Dead))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_includes_descendants() {
        // The shell waits; its child is busy until the input ends.
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
    fn a_recorded_pid_is_valid_only_with_its_start_time_and_boot() {
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
            assert_eq!(ProcessId::read(&path), None, "{stale:?} was accepted");
            assert_eq!(ProcessId::is_of_earlier_boot(&path), stale.ends_with("other-boot"), "{stale:?}");
        }
    }

    #[test]
    fn is_suspended_detects_a_stopped_process() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let process = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(!process.is_suspended());
        process.signal(Signal::STOP);
        let deadline = Deadline::after(Duration::from_secs(20));
        deadline.poll("the signal", Duration::from_millis(2), || Ok(process.is_suspended().then_some(()))).unwrap();
        assert!(process.alive());
        assert_eq!(process.end(Duration::from_secs(1)), Some("SIGKILL"));
        assert!(!process.is_suspended());
        child.wait().unwrap();
    }
}
