//! Errors that a person reads: what failed, why, and a command that helps.

use std::fmt;
use std::io::Write as _;

use crate::terminal;

/// Exit code when the world did not play along (the default).
pub const EXIT_FAILURE: u8 = 1;
/// Exit code for a wrong command line.
pub const EXIT_USAGE: u8 = 2;
/// Exit code when a deadline passed, as timeout(1) has it.
pub const EXIT_TIMEOUT: u8 = 124;

/// An error with a way out. Use it as a source (`.into()`) or as context on another error.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    exit: u8,
}

impl Failure {
    /// An error with exit code 1 and no hint yet.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit: EXIT_FAILURE }
    }

    /// An error in what was typed: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: EXIT_USAGE, ..Self::new(message) }
    }

    /// A deadline that passed: exit code 124.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self { exit: EXIT_TIMEOUT, ..Self::new(message) }
    }

    /// Sets the exit code.
    #[must_use]
    pub fn exit(self, exit: u8) -> Self {
        Self { exit, ..self }
    }

    /// Adds the line that says what to do, best a command to run.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The line that says what to do.
    #[must_use]
    pub fn way_out(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// A signal that asked the command to stop; exit code 128 + its number.
#[derive(Debug)]
pub struct Interrupted(pub i32);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// The exit code an error asks for.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(Interrupted(signal)) = error.downcast_ref() {
        return u8::try_from(128 + signal).unwrap_or(130);
    }
    error.downcast_ref::<Failure>().map_or(EXIT_FAILURE, |failure| failure.exit)
}

/// Prints `error:`, `caused by:` and `hint:` lines to stderr: the one printer of errors.
pub fn report(error: &anyhow::Error) {
    use anstyle::{AnsiColor, Style};
    let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    let cyan = Style::new().bold().fg_color(Some(AnsiColor::Cyan.into()));
    let width = terminal::width(std::io::stderr());
    let mut err = anstream::stderr().lock();
    let mut lines = Vec::new();
    for (depth, cause) in error.chain().enumerate() {
        let label = if depth == 0 { "error" } else { "caused by" };
        let text = crate::text::printable(&cause.to_string());
        let text = format!("{red}{label}:{red:#} {}", text.trim_end().replace('\n', "\n  "));
        lines.push(terminal::wrap(&text, width));
    }
    if let Some(hint) = error.downcast_ref::<Failure>().and_then(Failure::way_out) {
        let text = format!("{cyan}hint:{cyan:#} {}", crate::text::printable(hint));
        lines.push(terminal::wrap(&text, width));
    }
    // A closed stderr leaves nobody to tell.
    drop(writeln!(err, "{}", lines.join("\n")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn the_exit_code_survives_context() {
        let error = anyhow::Error::new(Failure::timeout("no answer")).context("failed to start");
        assert_eq!(exit_code(&error), EXIT_TIMEOUT);
        let error = Err::<(), _>(Interrupted(2)).context("failed to clone").unwrap_err();
        assert_eq!(exit_code(&error), 130);
        assert_eq!(exit_code(&anyhow::anyhow!("plain")), EXIT_FAILURE);
    }
}
