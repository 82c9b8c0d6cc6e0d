//! Progress on stderr: a spinner on a terminal, plain lines elsewhere.

mod step;

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

pub use self::step::step;
use crate::term::terminal;
use crate::term::text::age;

static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Prints a notice to stderr, above any spinner. On a terminal, lines are wrapped between words.
pub fn note(text: &str) {
    let line = terminal::wrap(&crate::term::text::printable(text), terminal::width(std::io::stderr()));
    above(|| drop(writeln!(anstream::stderr(), "{line}")));
}

/// Runs `print` while no spinner is drawn.
fn above<T>(print: impl FnOnce() -> T) -> T {
    match BARS.get() {
        Some(bars) => bars.suspend(print),
        None => print(),
    }
}

/// Runs a program that writes to our stderr, with the spinners hidden: they would mix with its output.
pub fn without_spinners<T>(run: impl FnOnce() -> T) -> T {
    let Some(bars) = BARS.get() else { return run() };
    // Clearing fails if the terminal was closed.
    drop(bars.clear());
    bars.set_draw_target(ProgressDrawTarget::hidden());
    let outcome = run();
    bars.set_draw_target(ProgressDrawTarget::stderr());
    outcome
}

/// Writer for the log: writes to stderr, above any spinner.
#[derive(Debug)]
pub struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        above(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Runs `work` with a spinner and prints how long it took. `expected` is the usual time in seconds.
pub fn timed<T>(name: &str, expected: Option<f64>, work: impl FnOnce() -> Result<T>) -> (Result<T>, Duration) {
    let bar = bar(name, expected);
    let began = Instant::now();
    let outcome = work();
    let took = began.elapsed();
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    if outcome.is_ok() {
        note(&format!("  {name}: {:.1} s", took.as_secs_f64()));
    }
    (outcome, took)
}

fn bar(name: &str, expected: Option<f64>) -> Option<ProgressBar> {
    let moves = std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb");
    if !(moves && std::io::stderr().is_terminal()) {
        return None;
    }
    let bar = BARS.get_or_init(MultiProgress::new).add(ProgressBar::new_spinner());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {time}") {
        let time = move |state: &ProgressState, line: &mut dyn fmt::Write| {
            // A progress line that cannot be formatted is left out.
            let _ = line.write_str(&time(state.elapsed(), expected));
        };
        bar.set_style(style.with_key("time", time));
    }
    bar.set_message(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    Some(bar)
}

/// Returns the elapsed time, with the expected time unless it is exceeded by more than a factor of two.
fn time(elapsed: Duration, expected: Option<f64>) -> String {
    let expected = expected.and_then(|seconds| Duration::try_from_secs_f64(seconds.round().max(1.0)).ok());
    match expected.filter(|expected| elapsed <= *expected * 2) {
        Some(expected) => format!("{} of about {}", age(elapsed), age(expected)),
        None => age(elapsed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exceeded_expected_time_is_not_shown() {
        let shown = |elapsed, expected| time(Duration::from_secs(elapsed), expected);
        assert_eq!(shown(3, Some(7.6)), "3s of about 8s");
        assert_eq!(shown(75, Some(61.0)), "1m 15s of about 1m 1s");
        assert_eq!(shown(720, Some(0.9)), "12m 0s");
        assert_eq!(shown(5, None), "5s");
        assert_eq!(shown(1, Some(f64::NAN)), "1s of about 1s");
    }
}
