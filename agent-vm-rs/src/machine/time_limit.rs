//! Settings that limit time, such as `30m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::term::error::Failure;
use crate::term::text::one_line;

/// Describes the values.
pub const TAKES: &str = "a time such as 30m, 2h or 1d, or none";
/// The value for no limit.
const NONE: &str = "none";
/// Longest limit: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A time limit, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeLimit(Option<Duration>);

impl TimeLimit {
    /// Returns the limit; None if there is none.
    #[must_use]
    pub fn get(self) -> Option<Duration> {
        self.0
    }
}

impl FromStr for TimeLimit {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        if text == NONE {
            return Ok(Self(None));
        }
        let wrong =
            || Failure::usage(format!("{:?} is not a time limit", one_line(text))).with_hint(format!("give {TAKES}"));
        let span: jiff::Span = text.parse().map_err(|_| wrong())?;
        let exact = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
        let limit = Duration::try_from(exact).map_err(|_| wrong())?;
        let is_whole = limit.subsec_nanos() == 0 && !limit.is_zero() && limit <= LONGEST;
        if is_whole { Ok(Self(Some(limit))) } else { Err(wrong()) }
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.map_or_else(|| NONE.to_owned(), |limit| span(limit.as_secs())))
    }
}

impl Serialize for TimeLimit {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeLimit {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Returns a duration in the form of the settings, such as `1h30m`.
#[must_use]
pub fn span(seconds: u64) -> String {
    let parts = [(seconds / 3_600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let text: String = parts.iter().filter(|(number, _)| *number > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_as_limits_are_written() {
        for (seconds, text) in [(0, "0s"), (61, "1m1s"), (5_400, "1h30m"), (28_800, "8h")] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn limits_are_times_with_units_and_survive_the_settings() {
        for (text, seconds) in
            [("30m", 1_800), ("2h", 7_200), ("1h30m", 5_400), ("1d", 86_400), ("5s", 5), ("1w", 604_800)]
        {
            let limit: TimeLimit = text.parse().unwrap();
            assert_eq!(limit.get(), Some(Duration::from_secs(seconds)), "{text}");
            let json = serde_json::to_string(&limit).unwrap();
            assert_eq!(serde_json::from_str::<TimeLimit>(&json).unwrap(), limit, "{json}");
        }
        assert_eq!("none".parse::<TimeLimit>().unwrap(), TimeLimit::default());
        assert_eq!(serde_json::to_string(&TimeLimit::default()).unwrap(), "\"none\"");
        for wrong in ["", "30", "0s", "-1m", "1 month", "soon", "500ms", "100000d", "never", "None"] {
            assert!(wrong.parse::<TimeLimit>().is_err(), "{wrong} was accepted");
        }
    }
}
