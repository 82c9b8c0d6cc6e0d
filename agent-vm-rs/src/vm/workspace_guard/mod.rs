//! Keeps a machine from filling the host's file system. Nothing else bounds what a guest writes to the workspace; a project
//! quota would need privileges and a file system that has them.
//!
//! The watcher calls [`tick`] about once a second, and before it runs, the command that starts the machine. While a limit is
//! exceeded, virtiofsd's writes fail: a limit on the size of files (RLIMIT_FSIZE) of zero, which virtiofsd survives because it
//! ignores SIGXFSZ. The guest sees EFBIG, and can still read and delete. If the machine grows all the same, it is paused. Both
//! end by themselves once there is space again, and so does the pause of a guest whose disk found no space on the host, which
//! QEMU makes itself.

mod daemon;
mod rules;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;

use crate::host::files::{read_text, remove_file, write_unsynced};
use crate::host::process::ProcessId;
use crate::machine::Machine;
use crate::machine::limits::Limits;
use crate::machine::number::Number;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::{RunDir, RunFacts};
use crate::term::error::Failure;
use crate::vm::qmp;

use daemon::{daemon, set_file_limit};
use rules::Seen;
pub use rules::{Reason, Step, Verdict};
use usage::{Count, Mark};

/// Time until the next tick, and while a limit is near or exceeded.
const INTERVAL: Duration = Duration::from_secs(1);
const SHORT: Duration = Duration::from_millis(250);
/// The free space is near its limit if it is less than this multiple.
const NEAR: u64 = 8;
/// Time between two questions to QEMU whether it has paused the guest, and the free space in bytes from which that can end.
const ASK: Duration = Duration::from_secs(10);
const ROOM: u64 = 64 << 20;

/// What [`tick`] remembers from one call to the next.
#[derive(Debug, Default)]
pub struct State {
    limits: Limits,
    /// When the settings were last changed.
    read: Option<SystemTime>,
    count: Count,
    /// The limit of file sizes that virtiofsd's processes got.
    set: Option<(Vec<ProcessId>, Option<u64>)>,
    verdict: Option<Verdict>,
    /// When QEMU was last asked whether it has paused the guest.
    asked: Option<Instant>,
}

/// Checks once how much a running machine occupies, and makes its writes fail, pauses it, or lets it go on. Returns the time
/// until the next call.
///
/// # Errors
/// The free space cannot be read, virtiofsd cannot be limited, or QEMU does not answer. The next call tries again.
pub fn tick(machine: &Machine, state: &mut State) -> Result<Duration> {
    let run = machine.run();
    state.read_limits(machine);
    let daemon = daemon(&run);
    let seen = state.look(machine, &daemon)?;
    let before = state.verdict.unwrap_or_else(|| read(&run));
    let after = before.next(&seen, &state.limits, !daemon.is_empty());
    // If this process is killed, the next one must find what it may have done: a restriction is written before it begins, and
    // forgotten after it has ended.
    let opens = after.step == Step::Open;
    let noted = if opens { Ok(()) } else { state.note(&run, after) };
    // A disk can be too full for the note. The limit is set all the same: the next process sets it again without a note.
    state.limit(&daemon, after.step)?;
    noted?;
    match (before.step, after.step) {
        (Step::Paused, Step::Paused) if state.verdict.is_some() => {}
        (_, Step::Paused) => qmp::pause(&run)?,
        (Step::Paused, _) => qmp::go_on(&run)?,
        _ => {}
    }
    if opens {
        state.note(&run, after)?;
    }
    state.verdict = Some(after);
    state.end_pause_of_qemu(&run, after, &seen);
    let least = rules::least_free(&state.limits, seen.total);
    let is_near = after.step != Step::Open || seen.free < least.saturating_mul(NEAR);
    Ok(if is_near { SHORT } else { INTERVAL })
}

/// A thread that calls [`tick`] until QEMU ends or this is dropped.
#[derive(Debug)]
pub struct Keeper(Arc<AtomicBool>);

impl Keeper {
    /// Starts the thread for a running machine.
    #[must_use]
    pub fn start(machine: &Machine) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (machine, seen) = (machine.clone(), Arc::clone(&ends));
        std::thread::spawn(move || keep(&machine, &seen));
        Self(ends)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn keep(machine: &Machine, ends: &AtomicBool) {
    let Some(qemu) = machine.run().qemu() else { return };
    let (mut state, mut last) = (State::default(), String::new());
    while !ends.load(Ordering::Relaxed) && qemu.alive() {
        let pause = tick(machine, &mut state).unwrap_or_else(|error| {
            let error = format!("{error:#}");
            // While it stays the same, it is logged once.
            if error != last && qemu.alive() {
                tracing::warn!("{error}");
                last = error;
            }
            INTERVAL
        });
        std::thread::sleep(pause);
    }
}

impl State {
    /// Reads the limits if the settings have changed.
    fn read_limits(&mut self, machine: &Machine) {
        let changed = MachinePath::Settings.of(&machine.dir).metadata().and_then(|file| file.modified()).ok();
        if self.read.is_none() || self.read != changed {
            // Unusable settings change no limit.
            if let Ok(settings) = machine.settings() {
                (self.limits, self.read) = (settings.limits, changed);
            }
        }
    }

    /// Writes a new verdict.
    fn note(&self, run: &RunDir, verdict: Verdict) -> Result<()> {
        if self.verdict == Some(verdict) { Ok(()) } else { write(run, verdict) }
    }

    /// Lets a guest go on that QEMU itself paused when the host had no space for its disk, once there is some. Nothing else does.
    fn end_pause_of_qemu(&mut self, run: &RunDir, verdict: Verdict, seen: &Seen) {
        let is_due = self.asked.is_none_or(|at| at.elapsed() >= ASK);
        if !is_due || verdict.step == Step::Paused || seen.free < ROOM {
            return;
        }
        self.asked = Some(Instant::now());
        match qmp::go_on_after_full_disk(run) {
            Ok(true) => {
                tracing::warn!("QEMU had paused the guest, because its disk had no space on the host; it goes on")
            }
            Ok(false) => {}
            Err(error) => tracing::info!("{error:#}"),
        }
    }

    fn look(&mut self, machine: &Machine, daemon: &[ProcessId]) -> Result<Seen> {
        let free = usage::free(&machine.dir)?;
        let disk = usage::of_file(&MachinePath::Disk.of(&machine.dir));
        let limit = self.limits.of(Number::WorkspaceSize).map(|mib| u64::from(mib) << 20);
        let is_closed = self.verdict.is_some_and(|verdict| verdict.step != Step::Open);
        // Without a limit of its own, the workspace is counted only to see whether the machine takes the last space.
        let workspace = (limit.is_some() || is_closed)
            .then(|| {
                let written = usage::written(daemon).filter(|_| !daemon.is_empty());
                let mark = Mark { written, free: free.bytes };
                self.count.size(&machine.workspace(), mark, limit.unwrap_or(u64::MAX), is_closed)
            })
            .flatten();
        let taken = disk.saturating_add(workspace.unwrap_or(0));
        Ok(Seen { free: free.bytes, total: free.total, free_inodes: free.inodes, workspace, taken })
    }

    /// Limits the files that virtiofsd writes: to nothing, or to the size of the whole workspace.
    fn limit(&mut self, daemon: &[ProcessId], step: Step) -> Result<()> {
        let whole = self.limits.of(Number::WorkspaceSize).map(|mib| u64::from(mib) << 20);
        let most = if step == Step::Open { whole } else { Some(0) };
        if self.set.as_ref().is_some_and(|(processes, set)| processes == daemon && *set == most) {
            return Ok(());
        }
        for process in daemon {
            set_file_limit(process, most)?;
        }
        self.set = Some((daemon.to_vec(), most));
        Ok(())
    }
}

/// Returns what the machine may do now.
#[must_use]
pub fn read(run: &RunDir) -> Verdict {
    let text = read_text(&run.file(MachinePath::WorkspaceGuard)).ok();
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn write(run: &RunDir, verdict: Verdict) -> Result<()> {
    let file = run.file(MachinePath::WorkspaceGuard);
    if verdict.step == Step::Open {
        return remove_file(&file);
    }
    write_unsynced(&file, serde_json::to_string(&verdict)? + "\n", 0o600)
}

/// Returns what a running machine may not do now, with the ways out; None if it may do everything.
#[must_use]
pub fn problem(machine: &Machine, facts: &RunFacts) -> Option<String> {
    read(&machine.run()).problem(machine.name.as_str(), facts.share == "virtiofs")
}

/// Checks that the machine is not paused because of its size.
///
/// # Errors
/// It is. The message has the ways out.
pub fn check(machine: &Machine, facts: &RunFacts) -> Result<()> {
    if read(&machine.run()).step != Step::Paused {
        return Ok(());
    }
    let why = problem(machine, facts).unwrap_or_default();
    Err(Failure::new(format!("{} cannot go on: {why}", machine.name))
        .with_hint(format!("agent-vm status {}", machine.name))
        .into())
}

#[cfg(test)]
mod tests;
