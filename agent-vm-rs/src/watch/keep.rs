//! The watcher's process.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::{ClockId, clock_gettime};

use super::check::Check;
use super::denials::Denials;
use super::expiry;
use super::idle::{self, Idle, Observation};
use super::samples;
use super::take::Sampler;
use crate::host::interrupt::{self, Deadline};
use crate::host::process::{Invocation, ProcessId, age};
use crate::machine::accel::Accel;
use crate::machine::context::Context;
use crate::machine::paths::MachinePath;
use crate::machine::settings::Settings;
use crate::machine::{Machine, in_use};
use crate::vm::failure;
use crate::vm::workspace_guard;

/// Time between two ticks.
const TICK: Duration = Duration::from_secs(1);
/// Time to wait for a command that holds the machine's lock.
const LOCK: Duration = Duration::from_secs(3_600);

/// Returns the checks of each tick.
fn checks() -> Vec<Box<dyn Check>> {
    vec![Box::new(Denials::new())]
}

/// Starts the watcher of a running machine unless it runs.
///
/// # Errors
/// It cannot be started.
pub fn ensure(context: &Context, machine: &Machine) -> Result<()> {
    let run = machine.run();
    if run.qemu().is_none() || ProcessId::read(&run.file(MachinePath::WatchPid)).is_some() {
        return Ok(());
    }
    let own = crate::host::programs::own_path()?;
    let watcher = Invocation::new(own)
        .arg("--state-dir")
        .arg(context.state.path())
        .args(["watch", machine.name.as_str()])
        .of_machine(&machine.dir)
        .start_detached(&run.file(MachinePath::WatchLog))?
        .called("the watcher");
    match ProcessId::of(watcher.pid()?) {
        Some(id) => id.write(&run.file(MachinePath::WatchPid)),
        None => Ok(()),
    }
}

/// Watches a machine until QEMU ends or a signal arrives.
///
/// # Errors
/// A signal arrived, or the machine was destroyed meanwhile.
pub fn keep(machine: &Machine) -> Result<()> {
    let run = machine.run();
    // QEMU may have ended since this process was started.
    let (Some(facts), Some(qemu)) = (run.facts(), run.qemu()) else { return record_end(machine) };
    // The command that started this process may have been killed before it recorded it: another watcher would be started.
    if let Some(own) = i32::try_from(std::process::id()).ok().and_then(ProcessId::of) {
        own.write(&run.file(MachinePath::WatchPid))?;
    }
    // In a thread of its own, because it looks more often while space is short.
    let _guard = workspace_guard::Keeper::start(machine);
    let mut watcher = Watcher {
        machine,
        qemu: &qemu,
        sampler: Sampler::new(facts.clone()),
        idle: Idle::since(monotonic(), facts.accel == Accel::Tcg.as_str()),
        settings: Followed::default(),
        checks: checks(),
        next_sample: Duration::ZERO,
    };
    loop {
        if watcher.tick() {
            return Ok(());
        }
        if !lives(&qemu, TICK)? {
            break;
        }
    }
    watcher.checks.iter_mut().for_each(|check| check.end(machine));
    record_end(machine)
}

/// Records that the run has ended, unless a command has stopped it.
fn record_end(machine: &Machine) -> Result<()> {
    // A command that stops the machine holds the lock, and ends this process before it releases it.
    let _lock = machine.lock(Deadline::after(LOCK))?;
    failure::record_end(machine);
    Ok(())
}

/// Returns the time since the host's boot, without the time it slept.
fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Waits for a moment; returns false as soon as a process has ended.
fn lives(process: &ProcessId, pause: Duration) -> Result<bool> {
    let failed = "failed to wait for QEMU";
    let pid = Pid::from_raw(process.pid).context(failed)?;
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => {
            let pause = Timespec::try_from(pause).context(failed)?;
            let waited = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&pause));
            interrupt::check()?;
            // A signal ends the wait early.
            ensure!(waited.is_ok() || waited == Err(Errno::INTR), failed);
        }
        Err(Errno::SRCH) => return Ok(false),
        // An older kernel.
        Err(_) => interrupt::pause(pause)?,
    }
    Ok(process.alive())
}

/// The watcher of one run.
struct Watcher<'a> {
    machine: &'a Machine,
    qemu: &'a ProcessId,
    sampler: Sampler,
    idle: Idle,
    settings: Followed,
    checks: Vec<Box<dyn Check>>,
    next_sample: Duration,
}

impl Watcher<'_> {
    /// Returns whether the machine was stopped.
    fn tick(&mut self) -> bool {
        for check in &mut self.checks {
            if let Err(error) = check.tick(self.machine, self.qemu) {
                tracing::warn!("{error:#}");
            }
        }
        if monotonic() < self.next_sample {
            return false;
        }
        self.next_sample = monotonic() + Duration::from_secs(samples::INTERVAL.into());
        self.sample().unwrap_or_else(|error| {
            tracing::warn!("{error:#}");
            false
        })
    }

    /// Takes a sample, and stops the machine if that is due. Returns whether it was stopped.
    fn sample(&mut self) -> Result<bool> {
        let settings = self.settings.now(self.machine);
        let uses = in_use::uses(&self.machine.dir);
        let Some(mut taken) = self.sampler.take(self.machine, self.qemu, settings, &uses) else { return Ok(false) };
        let seen = Observation {
            now: monotonic(),
            cpu: Duration::from_millis(taken.sample.qemu.cpu_ms),
            // Each has a begin and an end.
            queries: in_use::marks(&self.machine.dir).div_ceil(2),
            used: taken.used,
        };
        let limit = settings.and_then(|settings| settings.idle_timeout.get());
        let idle = self.idle.observe(seen, limit.map_or(idle::WINDOW, |limit| limit / 2));
        taken.sample.idle_seconds = idle.as_secs();
        // A full disk must not switch the limits off.
        if let Err(error) = samples::append(self.machine, &taken.sample) {
            tracing::warn!("{error:#}");
        }
        let age = age(self.qemu).unwrap_or_default();
        let Some(cause) = settings.and_then(|settings| expiry::due(settings, idle, age)) else { return Ok(false) };
        if !expiry::stop(self.machine, cause, &uses)? {
            return Ok(false);
        }
        self.checks.iter_mut().for_each(|check| check.end(self.machine));
        Ok(true)
    }
}

/// The machine's settings, read again when they have changed.
#[derive(Default)]
struct Followed {
    changed: Option<SystemTime>,
    settings: Option<Settings>,
}

impl Followed {
    /// Returns the settings; the last readable ones if they cannot be read.
    fn now(&mut self, machine: &Machine) -> Option<&Settings> {
        let changed = MachinePath::Settings.of(&machine.dir).metadata().ok().and_then(|found| found.modified().ok());
        if self.settings.is_none() || changed != self.changed {
            self.settings = machine.settings().ok().or(self.settings.take());
            self.changed = changed;
        }
        self.settings.as_ref()
    }
}
