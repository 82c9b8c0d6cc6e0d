//! Progress of work that is usually short but can take long.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{bar, note};

/// Work that takes no longer than this prints nothing.
const QUIET: Duration = Duration::from_secs(2);
/// Interval between progress lines where stderr is not a terminal.
const AGAIN: Duration = Duration::from_secs(15);

/// Runs `work` and shows progress: a spinner on a terminal, else a line after a delay and then at intervals.
///
/// # Errors
/// `work` fails.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let bar = bar(what, None);
    let (ended, end) = channel::<()>();
    let outcome = std::thread::scope(|scope| {
        if bar.is_none() {
            scope.spawn(move || {
                let mut wait = QUIET;
                while end.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                    note(&format!("  {what} ({:.0} s so far)", began.elapsed().as_secs_f64()));
                    wait = AGAIN;
                }
            });
        }
        let outcome = work();
        drop(ended);
        outcome
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    if outcome.is_ok() && began.elapsed() > QUIET {
        note(&format!("  {what}: {:.1} s", began.elapsed().as_secs_f64()));
    }
    outcome
}
