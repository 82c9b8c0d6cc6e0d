//! For how long a machine has not been used, when it will be stopped, and why it was.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::machine::Machine;
use crate::machine::events::Event;
use crate::machine::run_state::RunFacts;
use crate::machine::settings::Settings;
use crate::machine::time_limit::span;
use crate::watch::samples;

/// What the watcher knows of a running machine.
#[derive(Debug, PartialEq, Serialize)]
pub struct Expiry {
    /// Seconds since the machine was last used; None until the watcher has looked.
    idle_seconds: Option<u64>,
    /// Seconds without use after which it is stopped; None for never.
    idle_timeout_seconds: Option<u64>,
    /// Seconds after its start at which it is stopped; None for never.
    ttl_seconds: Option<u64>,
    /// When it will be stopped if nothing uses it until then; None for never.
    stops_at: Option<Timestamp>,
    /// `idle` or `ttl`, whichever limit it reaches first; None for never.
    stops_for: Option<&'static str>,
}

/// Returns what is known of a running machine.
pub fn of(machine: &Machine, settings: &Settings, facts: &RunFacts) -> Expiry {
    let last = samples::last(machine).map(|sample| (sample.time, sample.idle_seconds));
    expiry(settings, facts.started, last)
}

fn expiry(settings: &Settings, started: Timestamp, last: Option<(Timestamp, u64)>) -> Expiry {
    let [idle_timeout, ttl] = [settings.idle_timeout, settings.ttl].map(|limit| Some(limit.get()?.as_secs()));
    let later =
        |time: Timestamp, seconds: u64| time.checked_add(SignedDuration::from_secs(i64::try_from(seconds).ok()?)).ok();
    let idle_end = || {
        let (time, idle) = last?;
        later(time, idle_timeout?.saturating_sub(idle))
    };
    let ends = [(ttl.and_then(|ttl| later(started, ttl)), "ttl"), (idle_end(), "idle")];
    let first = ends.into_iter().filter_map(|(at, cause)| Some((at?, cause))).min_by_key(|(at, _)| *at);
    Expiry {
        idle_seconds: last.map(|(_, idle)| idle),
        idle_timeout_seconds: idle_timeout,
        ttl_seconds: ttl,
        stops_at: first.map(|(at, _)| at),
        stops_for: first.map(|(_, cause)| cause),
    }
}

impl Expiry {
    /// Returns a line for people.
    pub fn line(&self, now: Timestamp) -> String {
        let idle = match self.idle_seconds {
            Some(idle) if idle < u64::from(2 * samples::INTERVAL) => "in use".to_owned(),
            Some(idle) => format!("for {}", span(idle)),
            None => "not known yet".to_owned(),
        };
        let Some(at) = self.stops_at else { return format!("{idle}, no time limit") };
        let left = u64::try_from(at.duration_since(now).as_secs()).unwrap_or(0);
        let unless = if self.stops_for == Some("idle") { " unless it is used" } else { "" };
        format!("{idle}; it stops in {}{unless} ({}Z)", span(left), at.strftime("%Y-%m-%d %H:%M:%S"))
    }
}

/// Returns why a stopped machine was stopped, for people.
pub fn end_line(end: &Event) -> String {
    format!("{} ({}Z)", end.what.line(), end.time.strftime("%Y-%m-%d %H:%M:%S"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::settings::tests::sample;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn the_earlier_limit_decides() {
        let limited = |idle: &str, ttl: &str| Settings {
            idle_timeout: idle.parse().unwrap(),
            ttl: ttl.parse().unwrap(),
            ..sample()
        };
        let stops = |settings: &Settings, idle: Option<u64>| {
            expiry(settings, at(0), idle.map(|idle| (at(1_000), idle))).stops_at
        };
        assert_eq!(stops(&sample(), Some(5)), None);
        assert_eq!(stops(&limited("10m", "none"), Some(100)), Some(at(1_500)));
        assert_eq!(stops(&limited("10m", "none"), Some(700)), Some(at(1_000)));
        assert_eq!(stops(&limited("10m", "none"), None), None);
        assert_eq!(stops(&limited("none", "1h"), None), Some(at(3_600)));
        assert_eq!(stops(&limited("10m", "20m"), Some(0)), Some(at(1_200)));
    }

    #[test]
    fn lines_say_how_long_and_until_when() {
        let line = |idle: &str, ttl: &str, seconds| {
            let settings = Settings { idle_timeout: idle.parse().unwrap(), ttl: ttl.parse().unwrap(), ..sample() };
            expiry(&settings, at(0), seconds).line(at(1_000))
        };
        assert_eq!(line("none", "none", None), "not known yet, no time limit");
        assert_eq!(line("none", "none", Some((at(1_000), 3))), "in use, no time limit");
        assert_eq!(
            line("10m", "none", Some((at(1_000), 60))),
            "for 1m; it stops in 9m unless it is used (2027-01-15 08:25:40Z)"
        );
        assert_eq!(line("none", "1h", Some((at(1_000), 60))), "for 1m; it stops in 43m20s (2027-01-15 09:00:00Z)");
        assert_eq!(
            line("1h", "20m", Some((at(1_000), 60))),
            "for 1m; it stops in 3m20s (2027-01-15 08:20:00Z)",
            "its time to live passes first"
        );
    }
}
