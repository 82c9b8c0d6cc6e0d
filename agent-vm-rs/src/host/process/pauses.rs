//! Pauses of a supervisor before it restarts something.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::ProcessId;
use crate::host::interrupt;

/// A run of this length resets the pause.
const STEADY: Duration = Duration::from_secs(60);

/// Pauses that double with each failure.
pub struct Pauses {
    shortest: Duration,
    longest: Duration,
    now: Duration,
}

impl Pauses {
    /// Returns pauses between these two.
    #[must_use]
    pub fn between(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest, now: shortest }
    }

    /// Sleeps after a run that began at `began`, but not longer than `while_alive` lives, which is checked every `interval`.
    ///
    /// # Errors
    /// A signal arrived.
    pub fn sleep(&mut self, began: Instant, while_alive: &ProcessId, interval: Duration) -> Result<()> {
        self.now = self.after(began.elapsed());
        let until = Instant::now() + self.now;
        while Instant::now() < until && while_alive.alive() {
            interrupt::check()?;
            std::thread::sleep(interval);
        }
        Ok(())
    }

    fn after(&self, run: Duration) -> Duration {
        if run > STEADY { self.shortest } else { (self.now * 2).min(self.longest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_until_a_steady_run() {
        let seconds = Duration::from_secs;
        let mut pauses = Pauses::between(seconds(1), seconds(5));
        let mut after = |run: u64| {
            pauses.now = pauses.after(seconds(run));
            pauses.now.as_secs()
        };
        assert_eq!([after(1), after(1), after(60), after(61), after(0)], [2, 4, 5, 1, 2]);
    }
}
