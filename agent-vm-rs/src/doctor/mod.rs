//! Checks this host and the machines: what is wrong, and the command that mends it.

mod commands;
mod fault;
mod finding;
mod host;
mod level;
mod machine;
mod system;
mod text;

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use self::commands::GRUB_FILE;
use self::fault::Fault;
use self::finding::Finding;
use self::host::Check;
use self::level::Level;
use self::system::System;
use crate::host::interrupt::{self, Deadline};
use crate::machine::Machine;
use crate::machine::state_dir::StateDir;

/// Time limit of all checks together. The probe of KVM and Nix are the longest.
const LIMIT: Duration = Duration::from_secs(20);
/// Interval at which a wait checks for signals.
const MOMENT: Duration = Duration::from_millis(50);
/// Number of threads that check machines.
const THREADS: usize = 4;

/// What all checks found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The family of this host's distribution; null if it is another one.
    system: Option<System>,
    /// Whether nothing is an error.
    ok: bool,
    findings: Vec<Finding>,
}

impl Report {
    /// Checks this host and machines, all at the same time. `all` are the machines of the state directory, `named` those to check.
    ///
    /// # Errors
    /// A signal arrived.
    pub fn gather(state: &StateDir, all: &[Machine], named: &[Machine]) -> Result<Self> {
        let mut checks = host::checks(state, all);
        let each = named.len().div_ceil(THREADS).max(1);
        checks.extend(named.chunks(each).map(|machines| -> Check {
            let machines = machines.to_vec();
            let check = move || {
                let marked = machine::marked();
                machines.iter().flat_map(|machine| machine::check(machine, &marked)).collect()
            };
            ("machines", Box::new(check))
        }));
        let mut findings = within(Deadline::after(LIMIT), checks)?;
        if !Path::new(GRUB_FILE).exists() {
            findings = findings.into_iter().map(Finding::without_grub).collect();
        }
        let ok = findings.iter().all(|found| found.level != Level::Error);
        Ok(Self { system: System::here(), ok, findings })
    }

    /// Returns whether nothing is an error.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.ok
    }
}

/// Runs checks at the same time, and returns what they found in their order. One that does not end in time, on a file system that
/// hangs, is left behind.
fn within(deadline: Deadline, checks: Vec<Check>) -> Result<Vec<Finding>> {
    let names: Vec<_> = checks.iter().map(|(name, _)| *name).collect();
    let (sender, found) = channel();
    for (number, (_, check)) in checks.into_iter().enumerate() {
        let sender = sender.clone();
        // The report may have been printed meanwhile.
        std::thread::spawn(move || drop(sender.send((number, check()))));
    }
    drop(sender);
    let mut all: Vec<Option<Vec<Finding>>> = vec![None; names.len()];
    loop {
        interrupt::check()?;
        match found.recv_timeout(MOMENT.min(deadline.left())) {
            Ok((number, findings)) => all[number] = Some(findings),
            Err(RecvTimeoutError::Timeout) if !deadline.passed() => {}
            Err(_) => break,
        }
    }
    let silent = |name| vec![Finding::fault(name, Fault::CheckSilent, "the check failed or did not end in time")];
    Ok(names.into_iter().zip(all).flat_map(|(name, found)| found.unwrap_or_else(|| silent(name))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_hangs_or_fails_is_a_finding_and_others_keep_their_order() {
        let (release, hang) = channel::<()>();
        let checks: Vec<Check> = vec![
            ("slow", Box::new(move || hang.recv().map_or_else(|_| Vec::new(), |()| Vec::new()))),
            ("one", Box::new(|| vec![Finding::ok("one", "fine")])),
            ("two", Box::new(|| vec![Finding::ok("two", "fine"), Finding::ok("three", "fine")])),
        ];
        let found = within(Deadline::after(Duration::from_millis(300)), checks).unwrap();
        let names: Vec<_> = found.iter().map(|found| (found.check, found.fault)).collect();
        assert_eq!(names, [("slow", Some(Fault::CheckSilent)), ("one", None), ("two", None), ("three", None)]);
        drop(release);
    }
}
