//! What a command did, and when: the phases of a start.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// Time from the beginning of the command to its beginning.
    pub begin: Duration,
    /// How long it took.
    pub took: Duration,
}

/// The phases of a command, in the order of their ends. Clones share them.
#[derive(Clone, Debug)]
pub struct Timeline {
    began: Instant,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { began: Instant::now(), spans: Arc::default() }
    }
}

impl Timeline {
    /// Runs work and records it as a phase.
    pub fn run<T>(&self, name: &str, work: impl FnOnce() -> T) -> T {
        let begin = self.now();
        let outcome = work();
        self.record(name, begin, self.now().saturating_sub(begin));
        outcome
    }

    /// Records a phase.
    pub fn record(&self, name: &str, begin: Duration, took: Duration) {
        let span = Span { name: name.to_owned(), begin, took };
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).push(span);
    }

    /// Returns the time since the command began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Returns the phases, in the order of their beginnings.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone();
        spans.sort_by_key(|span| span.begin);
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_in_the_order_of_their_beginnings_and_shared_by_clones() {
        let timeline = Timeline::default();
        let other = timeline.clone();
        let value = timeline.run("outer", || other.run("inner", || 7));
        let spans = timeline.spans();
        assert_eq!(value, 7);
        assert_eq!(spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["outer", "inner"]);
        assert!(spans[0].begin <= spans[1].begin && spans[0].took >= spans[1].took);
    }
}
