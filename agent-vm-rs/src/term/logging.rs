//! The log that `--verbose` and `--debug` write to stderr.

use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::term::progress;
use crate::term::verbosity::Verbosity;

/// Starts logging to stderr.
pub fn start(verbosity: Verbosity) {
    let level = match verbosity {
        Verbosity::Debug => Level::DEBUG,
        Verbosity::Verbose => Level::INFO,
        Verbosity::Normal => Level::WARN,
    };
    let colour = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(|| progress::Log)
        .with_ansi(colour)
        // A closed stderr must not end the command.
        .log_internal_errors(false)
        .with_target(false);
    // Timestamps show which step is slow; a lone warning needs none.
    if level > Level::WARN { log.with_timer(Clock).init() } else { log.without_time().init() }
}

/// Formats the time of day in UTC, to the millisecond.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, line: &mut Writer<'_>) -> std::fmt::Result {
        write!(line, "{}", jiff::Timestamp::now().strftime("%H:%M:%S%.3fZ"))
    }
}
