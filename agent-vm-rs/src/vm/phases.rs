//! The phases of a start, and how long each took the last time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::host::files::{read_text, write_unsynced};
use crate::term::progress::timed;

/// The phases of a start, with how long each took the last time.
pub struct Phases {
    kind: String,
    file: PathBuf,
    expected: BTreeMap<String, f64>,
}

impl Phases {
    /// Phases of one kind of start (guest and accelerator); times are kept below `cache`.
    #[must_use]
    pub fn new(kind: &str, cache: &Path) -> Self {
        let file = cache.join("phase-seconds.json");
        let expected = read_text(&file).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Self { kind: kind.to_owned(), file, expected }
    }

    /// Does one phase and says how long it took.
    ///
    /// # Errors
    /// The phase's own.
    pub fn run<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let key = format!("{}/{name}", self.kind);
        let (outcome, took) = timed(name, self.expected.get(&key).copied(), work);
        if outcome.is_ok() {
            self.expected.insert(key, took.as_secs_f64());
        }
        outcome
    }

    /// As [`Self::run`], for what takes a second the one time and minutes the other: nothing is expected of it.
    ///
    /// # Errors
    /// The phase's own.
    pub fn run_unmeasured<T>(&self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        timed(name, None, work).0
    }

    /// Remembers the times for the next start. Losing them costs nothing but the expectation.
    pub fn save(&self) {
        let kept = serde_json::to_string(&self.expected)
            .map_err(anyhow::Error::from)
            .and_then(|text| write_unsynced(&self.file, text, 0o600));
        if let Err(error) = kept {
            tracing::info!("phase times not kept: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_measured_is_not_expected() {
        let cache = tempfile::tempdir().unwrap();
        let mut phases = Phases::new("debian/tcg", cache.path());
        phases.run("ssh", || Ok(())).unwrap();
        phases.run_unmeasured("guest", || Ok(())).unwrap();
        phases.save();
        let kept = std::fs::read_to_string(cache.path().join("phase-seconds.json")).unwrap();
        assert!(kept.contains("debian/tcg/ssh") && !kept.contains("guest"), "{kept}");
    }
}
