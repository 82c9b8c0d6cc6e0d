//! Runs the phases of a start and records how long each took.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::host::files::{read_text, write_unsynced};
use crate::host::timeline::Timeline;
use crate::term::progress::timed;

/// The phases of a start, with their durations in the previous start.
pub struct Phases {
    kind: String,
    file: PathBuf,
    expected: BTreeMap<String, f64>,
    timeline: Timeline,
}

impl Phases {
    /// Returns the phases of one kind of start (guest and accelerator). Durations are stored below `cache`.
    #[must_use]
    pub fn new(kind: &str, cache: &Path, timeline: &Timeline) -> Self {
        let file = cache.join("phase-seconds.json");
        let expected = read_text(&file).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Self { kind: kind.to_owned(), file, expected, timeline: timeline.clone() }
    }

    /// Runs one phase and prints how long it took.
    ///
    /// # Errors
    /// The phase fails.
    pub fn run<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let key = format!("{}/{name}", self.kind);
        let (outcome, took) = self.timed(name, self.expected.get(&key).copied(), work);
        if outcome.is_ok() {
            self.expected.insert(key, took.as_secs_f64());
        }
        outcome
    }

    /// Runs a phase as [`Self::run`] does, without an expected duration: it takes a second at one time and minutes at
    /// another.
    ///
    /// # Errors
    /// The phase fails.
    pub fn run_unmeasured<T>(&self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.timed(name, None, work).0
    }

    fn timed<T>(&self, name: &str, expected: Option<f64>, work: impl FnOnce() -> Result<T>) -> (Result<T>, Duration) {
        let begin = self.timeline.now();
        let (outcome, took) = timed(name, expected, work);
        self.timeline.record(name, begin, took);
        (outcome, took)
    }

    /// Stores the durations for the next start. They are only estimates, so a failure is only logged.
    pub fn save(&self) {
        let kept = serde_json::to_string(&self.expected)
            .map_err(anyhow::Error::from)
            .and_then(|text| write_unsynced(&self.file, text, 0o600));
        if let Err(error) = kept {
            tracing::info!("failed to store the durations of the phases: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmeasured_phases_are_not_expected() {
        let cache = tempfile::tempdir().unwrap();
        let timeline = Timeline::default();
        let mut phases = Phases::new("debian/tcg", cache.path(), &timeline);
        phases.run("ssh", || Ok(())).unwrap();
        phases.run_unmeasured("guest", || Ok(())).unwrap();
        phases.save();
        let kept = std::fs::read_to_string(cache.path().join("phase-seconds.json")).unwrap();
        assert!(kept.contains("debian/tcg/ssh") && !kept.contains("guest"), "{kept}");
        let names: Vec<_> = timeline.spans().into_iter().map(|span| span.name).collect();
        assert_eq!(names, ["ssh", "guest"]);
    }
}
