//! Finds the one cause of a failed start or run, from the console, the journal, virtiofsd's log and how QEMU ended. What the guest
//! prints only selects a cause; none of its text is part of one.

mod signs;

use std::path::Path;
use std::time::Duration;

use self::signs::{Place, SIGNS, Sign};
use crate::host::log_file;
use crate::host::process::Invocation;
use crate::machine::Machine;
use crate::machine::paths::MachinePath;

/// Time for the kernel's log.
const KERNEL_LOG: Duration = Duration::from_secs(1);

/// How QEMU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It runs, and the guest does not answer.
    Running,
    /// It exited by itself, as after a panic of the guest's kernel.
    Exited,
    /// A signal ended it; None if it is unknown which.
    Killed(Option<i32>),
}

/// What is known of a run.
#[derive(Debug)]
pub struct Evidence {
    /// End of the console.
    pub console: String,
    /// End of virtiofsd's log.
    pub virtiofsd: String,
    /// Lines of the guest's journal.
    pub journal: String,
    /// How QEMU is.
    pub ending: Ending,
    /// Whether the host's kernel killed QEMU for lack of memory.
    pub is_out_of_memory: bool,
}

/// Why a run failed, and what the user can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The cause, in a few words.
    pub text: &'static str,
    remedy: &'static str,
}

impl Cause {
    /// Returns whether it is only that a unit of the guest failed.
    #[must_use]
    pub fn is_a_units(&self) -> bool {
        self.text == signs::UNIT_FAILED
    }

    /// Returns what the user can do.
    #[must_use]
    pub fn remedy(&self, machine: &str) -> String {
        self.remedy.replace("{name}", machine)
    }
}

impl Evidence {
    /// Reads the logs of a machine's run, or of its last one.
    #[must_use]
    pub fn of(machine: &Machine, ending: Ending) -> Self {
        let end = |path: &Path| {
            let bytes = log_file::end(path, log_file::LAST_WORDS).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let log = machine.run().file(MachinePath::VirtiofsdLog);
        let log = if log.exists() { log } else { machine.dir.join(MachinePath::VirtiofsdLog.file_name()) };
        Self {
            console: end(&machine.console_log()),
            virtiofsd: end(&log),
            journal: String::new(),
            ending,
            is_out_of_memory: ending == Ending::Killed(Some(SIGKILL)) && was_killed_by_the_kernel(),
        }
    }

    fn text(&self, place: Place) -> &str {
        match place {
            Place::Qemu | Place::Console => &self.console,
            Place::Journal => &self.journal,
            Place::Virtiofsd => &self.virtiofsd,
        }
    }

    /// Returns the cause; None if nothing shows it.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        if self.is_out_of_memory {
            return Some(Cause { text: OUT_OF_MEMORY, remedy: LESS });
        }
        // A guest does not end QEMU by a signal, whatever its console shows.
        let is_meant = |sign: &&Sign| {
            !matches!(self.ending, Ending::Killed(_)) || matches!(sign.place, Place::Qemu | Place::Virtiofsd)
        };
        let found = SIGNS.iter().filter(is_meant).find(|sign| shows(self.text(sign.place), sign.words));
        found.map(|sign| Cause { text: sign.cause, remedy: sign.remedy }).or_else(|| of_signal(self.ending))
    }
}

const SIGKILL: i32 = 9;
const OUT_OF_MEMORY: &str = "this host ran out of memory, and its kernel ended QEMU";
const LESS: &str = "give the machine less memory, in MiB: agent-vm set {name} memory=2048";
const AGAIN: &str = "agent-vm start {name}";

/// Returns what a signal means.
fn of_signal(ending: Ending) -> Option<Cause> {
    let Ending::Killed(Some(signal)) = ending else { return None };
    let (text, remedy) = match signal {
        4 | 6 | 8 | 11 => ("QEMU crashed", AGAIN),
        7 => ("QEMU found no memory or disk space of this host for the guest's memory", LESS),
        SIGKILL => {
            ("QEMU was killed: by a user, or by this host for lack of memory", "to see which: sudo dmesg | tail")
        }
        1 | 2 | 15 => ("QEMU was ended by a signal of another program or user", AGAIN),
        31 => ("QEMU made a system call that its seccomp filter forbids", "to see which: sudo dmesg | tail"),
        _ => return None,
    };
    Some(Cause { text, remedy })
}

/// Checks whether one line has all words, in their order.
fn shows(text: &str, words: &[&str]) -> bool {
    text.lines().any(|line| {
        let mut rest = line;
        words.iter().all(|word| match rest.split_once(word) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    })
}

/// Asks the host's kernel whether it killed a QEMU lately. An ordinary user may not read its log everywhere.
fn was_killed_by_the_kernel() -> bool {
    let log = Invocation::new("dmesg").time_limit(KERNEL_LOG).output();
    log.is_ok_and(|log| {
        let text = String::from_utf8_lossy(&log.stdout).into_owned();
        let last: Vec<_> = text.lines().rev().take(50).collect();
        shows(&last.join("\n"), &["Killed process", "qemu"])
    })
}

#[cfg(test)]
mod tests;
