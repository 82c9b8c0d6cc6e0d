//! The clock of this host: certificates and guests go by it.

use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};

use crate::doctor::fault::Fault;
use crate::doctor::finding::Finding;
use crate::host::process::Invocation;
use crate::machine::Machine;
use crate::machine::paths::MachinePath;
use crate::machine::state_dir::StateDir;

const CHECK: &str = "clock";
const TIMEOUT: Duration = Duration::from_secs(2);
/// No clock that shows an earlier time is right.
const EARLIEST: &str = "2025-01-01T00:00:00Z";
/// How far in the future a file's time may be.
const AHEAD: SignedDuration = SignedDuration::from_secs(60);

/// What is known of the clock.
struct Clock {
    now: Timestamp,
    /// The newest time at which a machine's settings were written.
    newest_file: Option<Timestamp>,
    /// Whether a time server keeps it right; None if that is unknown.
    is_synchronized: Option<bool>,
}

/// Checks the clock.
pub fn check(_: &StateDir, machines: &[Machine]) -> Vec<Finding> {
    let written = |machine: &Machine| {
        let changed: SystemTime = MachinePath::Settings.of(&machine.dir).metadata().ok()?.modified().ok()?;
        Timestamp::try_from(changed).ok()
    };
    let answer = Invocation::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]);
    let answer = answer.time_limit(TIMEOUT).read().ok();
    let clock = Clock {
        now: Timestamp::now(),
        newest_file: machines.iter().filter_map(written).max(),
        is_synchronized: answer.and_then(|text| match text.trim() {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        }),
    };
    vec![judge(&clock)]
}

fn judge(clock: &Clock) -> Finding {
    let Clock { now, newest_file, is_synchronized } = clock;
    if EARLIEST.parse().is_ok_and(|earliest: Timestamp| *now < earliest) {
        return Finding::fault(CHECK, Fault::ClockWrong, format!("it shows {now}: certificates are not valid yet"));
    }
    if let Some(newest) = newest_file.filter(|newest| newest.duration_since(*now) > AHEAD) {
        return Finding::fault(
            CHECK,
            Fault::ClockWrong,
            format!("it shows {now}, but a machine was changed at {newest}: the clock was set back"),
        );
    }
    match is_synchronized {
        Some(true) => Finding::ok(CHECK, "a time server keeps it right"),
        None => Finding::ok(CHECK, "it is plausible; this host does not report whether a time server keeps it right"),
        Some(false) => Finding::fault(CHECK, Fault::ClockUnsynced, "no time server keeps it right"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_judged() {
        let judged = |now: &str, newest: Option<&str>, is_synchronized| {
            let at = |text: &str| text.parse().unwrap();
            judge(&Clock { now: at(now), newest_file: newest.map(at), is_synchronized }).fault
        };
        let now = "2026-03-01T00:00:00Z";
        assert_eq!(judged(now, Some("2026-03-01T00:00:30Z"), Some(true)), None);
        assert_eq!(judged(now, None, None), None);
        assert_eq!(judged(now, None, Some(false)), Some(Fault::ClockUnsynced));
        assert_eq!(judged(now, Some("2026-03-02T00:00:00Z"), Some(true)), Some(Fault::ClockWrong));
        assert_eq!(judged("1970-01-01T00:10:00Z", None, None), Some(Fault::ClockWrong));
    }
}
