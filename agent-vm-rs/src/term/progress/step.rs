//! A piece of work that is short for most people and long for some.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{bar, note};

/// Work that takes no longer is not talked about.
const QUIET: Duration = Duration::from_secs(2);
/// Between two lines about work that does, where there is no terminal.
const AGAIN: Duration = Duration::from_secs(15);

/// Does a piece of work, and shows that it goes on: at once on a terminal, elsewhere after a while and then now and again.
///
/// # Errors
/// The work's own.
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
