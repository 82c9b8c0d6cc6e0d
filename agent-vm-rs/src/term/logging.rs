//! What `--verbose` and `--debug` show.

use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::term::progress;
use crate::term::verbosity::Verbosity;

/// Writes the log to stderr from now on.
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
        // A log that nobody keeps any more is no reason to end.
        .log_internal_errors(false)
        .with_target(false);
    // A warning stands for itself; of many lines one wants to know what took how long.
    if level > Level::WARN { log.with_timer(Clock).init() } else { log.without_time().init() }
}

/// The time of day, in UTC and to the millisecond.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, line: &mut Writer<'_>) -> std::fmt::Result {
        write!(line, "{}", jiff::Timestamp::now().strftime("%H:%M:%S%.3fZ"))
    }
}
