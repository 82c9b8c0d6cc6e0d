//! Progress on stderr: a line that moves on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::terminal;

static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Prints a line of talk, above whatever moves; broken between words on a terminal.
pub fn note(text: &str) {
    let line = terminal::wrap(&crate::text::printable(text), terminal::width(std::io::stderr()));
    let print = || drop(writeln!(anstream::stderr(), "{line}"));
    match BARS.get() {
        Some(bars) => bars.suspend(print),
        None => print(),
    }
}

/// The phases of a start, with how long each took the last time.
pub struct Phases {
    kind: String,
    file: PathBuf,
    expected: BTreeMap<String, f64>,
}

impl Phases {
    /// Phases of one kind of start (guest and accelerator); times are kept below `cache`.
    #[must_use]
    pub fn new(kind: &str, cache: &std::path::Path) -> Self {
        let file = cache.join("phase-seconds.json");
        let expected =
            crate::state::read_text(&file).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Self { kind: kind.to_owned(), file, expected }
    }

    /// Does one phase and says how long it took.
    ///
    /// # Errors
    /// The phase's own.
    pub fn run<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let key = format!("{}/{name}", self.kind);
        let bar = self.bar(name, self.expected.get(&key).copied());
        let began = Instant::now();
        let outcome = work();
        let took = began.elapsed();
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        if outcome.is_ok() {
            note(&format!("  {name}: {:.1} s", took.as_secs_f64()));
            self.expected.insert(key, took.as_secs_f64());
        }
        outcome
    }

    /// Remembers the times for the next start. Losing them costs nothing but the expectation.
    pub fn save(&self) {
        let kept = serde_json::to_string(&self.expected)
            .map_err(anyhow::Error::from)
            .and_then(|text| crate::state::write_unsynced(&self.file, text, 0o600));
        if let Err(error) = kept {
            tracing::info!("phase times not kept: {error:#}");
        }
    }

    fn bar(&self, name: &str, expected: Option<f64>) -> Option<ProgressBar> {
        if !std::io::stderr().is_terminal() {
            return None;
        }
        let bar = BARS.get_or_init(MultiProgress::new).add(ProgressBar::new_spinner());
        let expected = expected.map_or_else(String::new, |seconds| format!(" of about {seconds:.0} s"));
        if let Ok(style) = ProgressStyle::with_template(&format!("{{spinner}} {{msg}} {{elapsed}}{expected}")) {
            bar.set_style(style);
        }
        bar.set_message(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Some(bar)
    }
}
