//! SIGINT, SIGTERM and SIGHUP set a flag that every wait checks, so that an interrupted command still cleans up.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::term::error::{Failure, Interrupted};

static SIGNAL: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// Installs the handlers that set the flag. Call it once, before anything is created.
///
/// # Errors
/// The kernel rejects a handler.
pub fn install() -> Result<()> {
    let flag = SIGNAL.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_usize(signal, Arc::clone(flag), signal.unsigned_abs() as usize)
            .context("failed to install a signal handler")?;
    }
    Ok(())
}

/// Checks whether a signal has arrived.
///
/// # Errors
/// [`Interrupted`] if one has.
pub fn check() -> Result<()> {
    match SIGNAL.get().map_or(0, |flag| flag.load(Ordering::Relaxed)) {
        0 => Ok(()),
        signal => Err(Interrupted(i32::try_from(signal).unwrap_or(SIGINT)).into()),
    }
}

/// Waits, unless a signal arrives.
///
/// # Errors
/// [`Interrupted`] if one has.
pub fn pause(length: Duration) -> Result<()> {
    /// Longest time until a signal is noticed.
    const STEP: Duration = Duration::from_millis(50);
    let deadline = Deadline::after(length);
    while !deadline.passed() {
        check()?;
        std::thread::sleep(STEP.min(deadline.left()));
    }
    check()
}

/// Waits until a file is ready, or for a moment. A signal ends it: [`check`] reports that.
pub fn wait_for(file: &impl AsFd, what: PollFlags, moment: Duration) {
    let _ = poll(&mut [PollFd::new(file, what)], Some(&timespec(moment)));
}

fn timespec(length: Duration) -> Timespec {
    let tv_sec = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec, tv_nsec: i64::from(length.subsec_nanos()) }
}

/// Forgets a received signal, so that only the next one interrupts what follows.
pub fn acknowledge() {
    if let Some(flag) = SIGNAL.get() {
        flag.store(0, Ordering::Relaxed);
    }
}

/// A point in time at which waiting ends, with the requested duration.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    end: Instant,
    length: Duration,
}

/// Takes bytes, and forgets them, until a deadline.
#[derive(Debug)]
pub struct Until(pub Deadline);

impl io::Write for Until {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.passed() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Deadline {
    /// Returns the deadline `length` from now.
    #[must_use]
    pub fn after(length: Duration) -> Self {
        // An Instant overflows if a huge duration is added.
        let length = length.min(Duration::from_secs(10 * 365 * 86_400));
        Self { end: Instant::now() + length, length }
    }

    /// Returns this deadline, or `length` from now if that is sooner.
    #[must_use]
    pub fn at_most(self, length: Duration) -> Self {
        let other = Self::after(length);
        if other.end < self.end { other } else { self }
    }

    /// Returns the remaining time, zero once it has passed.
    #[must_use]
    pub fn left(self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Checks whether it has passed.
    #[must_use]
    pub fn passed(self) -> bool {
        self.left().is_zero()
    }

    /// Calls `probe` every `interval` until it returns a value.
    ///
    /// # Errors
    /// The probe's own, [`Interrupted`], or a timeout that names `what`.
    pub fn poll<T>(self, what: &str, interval: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        loop {
            check()?;
            if let Some(value) = probe()? {
                return Ok(value);
            }
            if self.passed() {
                let seconds = self.length.as_secs_f32();
                return Err(Failure::timeout(format!("timed out after {seconds:.0} s waiting for {what}"))
                    .with_hint(format!(
                        "set a longer limit in seconds, such as --timeout {:.0}",
                        (2.0 * seconds).max(1.0)
                    ))
                    .into());
            }
            std::thread::sleep(interval.min(self.left()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wait of a whole second that lasts no time makes its loop busy.
    #[test]
    fn waits_have_whole_seconds() {
        let time = timespec(Duration::from_millis(2_005));
        assert_eq!((time.tv_sec, time.tv_nsec), (2, 5_000_000));
        assert_eq!(timespec(Duration::MAX).tv_sec, i64::MAX);
    }
}
