//! How often the MCP port's forwarder has woken up. It does so for traffic only. This shows requests over connections that are
//! already forgotten: the kernel keeps those of clients on this host for a minute, but not those of other hosts, and none that were
//! reset.

use crate::host::process::ProcessId;

/// What is known at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How often the forwarder has woken up; None if there is none.
    pub wakes: Option<u64>,
    /// Number of begins and ends of our own queries, which wake it up, too. One may begin before this moment and end after it.
    pub marks: u64,
    /// Number of open connections of clients. The guest can send over them at any time.
    pub open: u32,
}

/// Follows the forwarder.
#[derive(Debug, Default)]
pub struct Wakes {
    last: Option<Seen>,
    /// Whether there was a query of our own before the last look. It may end after it.
    asked: bool,
}

impl Wakes {
    /// Returns whether a client has connected since the last call, if nothing else can have woken the forwarder.
    pub fn take(&mut self, now: Seen) -> bool {
        let Some(before) = self.last.replace(now) else { return false };
        let woke = before.wakes.zip(now.wakes).is_some_and(|(before, now)| before < now);
        let asks = before.marks != now.marks;
        let asked = std::mem::replace(&mut self.asked, asks);
        woke && !asks && !asked && before.open == 0 && now.open == 0
    }
}

/// Returns how often a process has woken up.
#[must_use]
pub fn of(process: &ProcessId) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).ok()?;
    status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wake_up_without_another_reason_is_a_client() {
        let mut wakes = Wakes::default();
        let mut take = |wakes_now, marks, open| wakes.take(Seen { wakes: wakes_now, marks, open });
        assert!(!take(Some(5), 0, 0), "the first look");
        assert!(!take(Some(5), 0, 0));
        assert!(take(Some(7), 0, 0));
        assert!(!take(Some(8), 1, 0) && !take(Some(9), 2, 0), "a query of our own, during two looks");
        assert!(!take(Some(10), 2, 0), "what follows its end");
        assert!(!take(Some(11), 2, 1) && !take(Some(13), 2, 1) && !take(Some(15), 2, 0), "an open connection");
        assert!(take(Some(16), 2, 0));
        assert!(!take(None, 2, 0) && !take(Some(17), 2, 0), "no forwarder");
    }

    #[test]
    fn a_process_that_waits_wakes_up_for_input() {
        use std::io::{Read as _, Write as _};
        use std::process::{Command, Stdio};
        let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let id = ProcessId::of(i32::try_from(cat.id()).unwrap()).unwrap();
        let mut echo = || {
            cat.stdin.as_mut().unwrap().write_all(b"x").unwrap();
            cat.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            // It has answered, and does not wait yet.
            let status = format!("/proc/{}/status", id.pid);
            while !std::fs::read_to_string(&status).unwrap().contains("State:\tS") {
                std::thread::yield_now();
            }
        };
        let before = of(&id).unwrap();
        // It need not wait for input that is there already.
        let deadline = crate::host::interrupt::Deadline::after(std::time::Duration::from_secs(20));
        let woke = || {
            echo();
            Ok((of(&id).unwrap() > before).then_some(()))
        };
        deadline.poll("a wake-up", std::time::Duration::from_millis(5), woke).unwrap();
        drop(cat.stdin.take());
        cat.wait().unwrap();
        assert_eq!(of(&id), None);
    }
}
