//! Errors for the terminal: what failed, why, and a command that helps.

use std::fmt;
use std::io::Write as _;

use crate::term::terminal;

/// Exit code of every other failure (the default).
pub const EXIT_FAILURE: u8 = 1;
/// Exit code of a wrong command line.
pub const EXIT_USAGE: u8 = 2;
/// Exit code of `start --foreground` when a time limit has stopped the machine (EX_TEMPFAIL in sysexits.h).
pub const EXIT_EXPIRED: u8 = 75;
/// Exit code of a timeout, as in timeout(1).
pub const EXIT_TIMEOUT: u8 = 124;

/// An error with an exit code and a hint. Use it as a source (`.into()`) or as context on another error.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    hint_is_general: bool,
    exit: u8,
}

impl Failure {
    /// Returns an error with exit code 1 and no hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, hint_is_general: false, exit: EXIT_FAILURE }
    }

    /// Returns an error in the command line, with exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: EXIT_USAGE, ..Self::new(message) }
    }

    /// Returns the error of a passed deadline, with exit code 124.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self { exit: EXIT_TIMEOUT, ..Self::new(message) }
    }

    /// Sets the exit code.
    #[must_use]
    pub fn exit(self, exit: u8) -> Self {
        Self { exit, ..self }
    }

    /// Sets the hint: what the user can do, preferably a command. A line ends with its command, so that it can be copied;
    /// a second command has its own line.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Sets a hint that is used only if the cause has no hint of its own (see [`hint_of`]).
    #[must_use]
    pub fn general_hint(self, hint: impl Into<String>) -> Self {
        Self { hint_is_general: true, ..self.with_hint(hint) }
    }

    /// Returns the hint: what the user can do.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// A signal that interrupted the command. The exit code is 128 + the signal's number.
#[derive(Debug)]
pub struct Interrupted(pub i32);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Returns the exit code of an error.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(Interrupted(signal)) = error.downcast_ref() {
        return u8::try_from(128 + signal).unwrap_or(130);
    }
    error.downcast_ref::<Failure>().map_or(EXIT_FAILURE, |failure| failure.exit)
}

/// Returns the hint of an error: its own, or one for the system call that failed.
#[must_use]
pub fn hint_of(error: &anyhow::Error) -> Option<String> {
    let failure = error.downcast_ref::<Failure>();
    let own = failure.and_then(Failure::hint).map(str::to_owned);
    if own.is_some() && failure.is_some_and(|failure| !failure.hint_is_general) {
        return own;
    }
    let of_cause = || {
        let cause = error.chain().skip(1).find_map(|cause| cause.downcast_ref::<Failure>())?;
        cause.hint().filter(|_| !cause.hint_is_general).map(str::to_owned)
    };
    of_cause().or_else(|| error.chain().find_map(hint_for_refusal).map(str::to_owned)).or(own)
}

/// Returns a hint on one line, for a text of other sentences.
#[must_use]
pub fn on_one_line(hint: &str) -> String {
    hint.replace('\n', "; ")
}

fn hint_for_refusal(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    use std::io::ErrorKind;
    const FULL: &str = "free some disk space (df -h and agent-vm list show what uses it), or keep machines \
                        elsewhere: --state-dir DIR";
    const IMMUTABLE: &str = "the file may be immutable: lsattr -d shows the attribute i, chattr -i removes it";
    let refusal = match (cause.downcast_ref::<std::io::Error>(), cause.downcast_ref::<rustix::io::Errno>()) {
        (Some(error), _) => Some((error.kind(), error.raw_os_error())),
        (None, Some(errno)) => Some((std::io::Error::from(*errno).kind(), Some(errno.raw_os_error()))),
        (None, None) => None,
    };
    match refusal {
        Some((ErrorKind::StorageFull | ErrorKind::QuotaExceeded, _)) => Some(FULL),
        Some((ErrorKind::ReadOnlyFilesystem, _)) => {
            Some("the file system is mounted read-only: remount it read-write, or choose another: --state-dir DIR")
        }
        Some((_, Some(errno))) if errno == rustix::io::Errno::PERM.raw_os_error() => Some(IMMUTABLE),
        // An error that includes its path has no number.
        Some((ErrorKind::PermissionDenied, None)) if cause.to_string().starts_with("Operation not permitted") => {
            Some(IMMUTABLE)
        }
        Some((ErrorKind::PermissionDenied, _)) => Some("ls -ld shows its owner and permissions"),
        // A program reports the failure in its output only.
        _ => {
            let message = cause.to_string();
            ["No space left on device", "Disk quota exceeded"].iter().any(|full| message.contains(full)).then_some(FULL)
        }
    }
}

/// Prints an error to stderr, as `error:`, `caused by:` and `hint:` lines.
pub fn report(error: &anyhow::Error) {
    use anstyle::{AnsiColor, Style};
    let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    let cyan = Style::new().bold().fg_color(Some(AnsiColor::Cyan.into()));
    let width = terminal::width(std::io::stderr());
    let mut err = anstream::stderr().lock();
    let mut lines = Vec::new();
    for (depth, cause) in error.chain().enumerate() {
        let label = if depth == 0 { "error" } else { "caused by" };
        let text = crate::term::text::printable(&cause.to_string());
        let text = format!("{red}{label}:{red:#} {}", text.trim_end().replace('\n', "\n  "));
        lines.push(terminal::wrap(&text, width));
    }
    if let Some(hint) = hint_of(error) {
        let text = crate::term::text::printable(&hint).replace('\n', "\n  ");
        let text = format!("{cyan}hint:{cyan:#} {text}");
        lines.push(terminal::wrap(&text, width));
    }
    // Nothing can be reported on a closed stderr.
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

    #[test]
    fn failed_system_calls_have_a_hint_unless_the_error_has_its_own() {
        use rustix::io::Errno;
        let hint = |error: anyhow::Error| hint_of(&error).unwrap_or_default();
        let refused =
            |errno: Errno| Err::<(), _>(std::io::Error::from(errno)).context("failed to write x").unwrap_err();
        for (errno, part) in [
            (Errno::NOSPC, "df -h"),
            (Errno::DQUOT, "df -h"),
            (Errno::PERM, "chattr -i"),
            (Errno::ROFS, "read-only"),
            (Errno::ACCESS, "ls -ld"),
        ] {
            assert!(hint(refused(errno)).contains(part), "{errno}");
            assert!(hint(anyhow::Error::new(errno).context("failed")).contains(part), "{errno}");
        }
        assert_eq!(hint(refused(Errno::IO)), "");
        assert_eq!(hint(refused(Errno::NOSPC).context(Failure::new("failed").with_hint("own"))), "own");
        assert!(hint(refused(Errno::NOSPC).context(Failure::new("failed").general_hint("own"))).contains("df -h"));
        let of_cause = anyhow::Error::new(Failure::new("failed").with_hint("cause"));
        assert_eq!(hint(of_cause.context("x").context(Failure::new("failed").general_hint("own"))), "cause");
        let of_git = Failure::new("git failed:\nfatal: write error: No space left on device").general_hint("--debug");
        assert!(hint(of_git.into()).contains("df -h"));
        assert_eq!(hint(Failure::new("git failed").general_hint("--debug").into()), "--debug");
    }
}
