//! The watcher's process.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::{ClockId, clock_gettime};

use super::idle::{self, Idle, Observation};
use super::samples;
use super::take::Sampler;
use crate::guest::running::running;
use crate::host::interrupt;
use crate::host::process::{Invocation, ProcessId};
use crate::machine::context::Context;
use crate::machine::paths::MachinePath;
use crate::machine::settings::Settings;
use crate::machine::{Machine, in_use};

/// Seconds between two ticks.
const TICK: u32 = 1;

/// A check of each tick.
pub trait Check {
    /// Looks at the running machine. It is called every second and must cost next to nothing.
    ///
    /// # Errors
    /// Something failed, which is logged.
    fn tick(&mut self, machine: &Machine, qemu: &ProcessId) -> Result<()>;
}

/// Returns the checks of each tick.
fn checks() -> Vec<Box<dyn Check>> {
    Vec::new()
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
    let own = std::env::current_exe().context("failed to find the path of agent-vm")?;
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
/// The machine does not run, or a signal arrived.
pub fn keep(machine: &Machine) -> Result<()> {
    let (_, facts) = running(machine)?;
    let qemu = machine.run().qemu().context("the machine has ended")?;
    let mut watcher = Watcher {
        machine,
        qemu: &qemu,
        sampler: Sampler::new(facts),
        idle: Idle::since(monotonic()),
        settings: Followed::default(),
        checks: checks(),
    };
    let mut ticks = 0;
    while lives(&qemu)? {
        watcher.tick(ticks);
        ticks += 1;
    }
    Ok(())
}

/// Returns the time since the host's boot, without the time it slept.
fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Waits for a tick; returns false as soon as a process has ended.
fn lives(process: &ProcessId) -> Result<bool> {
    let failed = "failed to wait for QEMU";
    let pid = Pid::from_raw(process.pid).context(failed)?;
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(false) };
    let tick = Timespec { tv_sec: i64::from(TICK), tv_nsec: 0 };
    let waited = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&tick));
    interrupt::check()?;
    // A signal ends the wait early.
    ensure!(waited.is_ok() || waited == Err(Errno::INTR), failed);
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
}

impl Watcher<'_> {
    fn tick(&mut self, number: u32) {
        for check in &mut self.checks {
            if let Err(error) = check.tick(self.machine, self.qemu) {
                tracing::warn!("{error:#}");
            }
        }
        if number % (samples::INTERVAL / TICK) == 0
            && let Err(error) = self.sample()
        {
            tracing::warn!("{error:#}");
        }
    }

    /// Takes a sample.
    fn sample(&mut self) -> Result<()> {
        let settings = self.settings.now(self.machine);
        let Some(mut taken) = self.sampler.take(self.machine, self.qemu, settings) else { return Ok(()) };
        let seen = Observation {
            now: monotonic(),
            cpu: Duration::from_millis(taken.sample.qemu.cpu_ms),
            queries: in_use::queries(&self.machine.dir),
            used: taken.used,
        };
        taken.sample.idle_seconds = self.idle.observe(seen, idle::WINDOW).as_secs();
        samples::append(self.machine, &taken.sample)
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
