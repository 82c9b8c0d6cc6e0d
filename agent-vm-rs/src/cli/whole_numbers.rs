//! Numbers of the command line that are no settings: seconds and lines.

use std::str::FromStr;
use std::time::Duration;

use crate::term::error::Failure;
use crate::term::text::one_line;

/// Parses a time limit in seconds.
///
/// # Errors
/// It is not a whole number, or zero.
pub fn seconds(text: &str) -> Result<Duration, Failure> {
    match text.parse::<u32>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds.into())),
        _ => {
            let meant = text.parse::<jiff::Span>().ok().and_then(|span| Duration::try_from(span).ok());
            let meant = meant.filter(|time| time.as_secs() > 0);
            let meant = meant.map_or_else(String::new, |time| format!("write {} for {text}: ", time.as_secs()));
            Err(wrong("timeout", text).with_hint(format!("{meant}timeout takes a number of seconds, at least 1")))
        }
    }
}

/// Parses a time with a unit, at least a second and at most an hour.
///
/// # Errors
/// It is no such time.
pub fn time(text: &str) -> Result<Duration, Failure> {
    const LONGEST: Duration = Duration::from_secs(3_600);
    let time = text.parse::<jiff::Span>().ok().and_then(|span| Duration::try_from(span).ok());
    time.filter(|time| (1..=LONGEST.as_secs()).contains(&time.as_secs())).ok_or_else(|| {
        let meant = text.parse::<u32>().map_or_else(|_| String::new(), |number| format!(", such as {number}s"));
        let hint = if meant.is_empty() { ", such as 30s or 2m" } else { &meant };
        Failure::usage(format!("a time must be at least 1s and at most 1h, not {:?}", one_line(text)))
            .with_hint(format!("write a number with a unit{hint}"))
    })
}

/// Parses a number of lines.
///
/// # Errors
/// It is not a whole number.
pub fn lines<T: FromStr>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| wrong("lines", text).with_hint("lines takes a number, such as --lines 100"))
}

fn wrong(name: &str, text: &str) -> Failure {
    Failure::usage(format!("{name} must be a whole number, not {:?}", one_line(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_a_unit_get_the_number_of_seconds() {
        assert_eq!(seconds("90").unwrap(), Duration::from_secs(90));
        let hint = |text: &str| seconds(text).unwrap_err().hint().unwrap().to_owned();
        let takes = "timeout takes a number of seconds, at least 1";
        assert_eq!(hint("5m"), format!("write 300 for 5m: {takes}"));
        assert_eq!(hint("90s"), format!("write 90 for 90s: {takes}"));
        for other in ["0", "-1", "x", "1.5", "", "0s", "99999999999"] {
            assert_eq!(hint(other), takes, "{other}");
        }
    }

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("30s", 30), ("2m", 120), ("1m 30s", 90), ("1h", 3_600)] {
            assert_eq!(time(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for wrong in ["", "0", "0s", "2h", "-1s", "x", "99999999999999999999"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
        // Not minutes, and not seconds: --since and --idle-timeout take no number alone either.
        assert_eq!(time("45").unwrap_err().hint().unwrap(), "write a number with a unit, such as 45s");
    }

    #[test]
    fn numbers_of_lines_are_whole() {
        assert_eq!(lines::<u32>("5").unwrap(), 5);
        for wrong in ["abc", "-1", "1.5", ""] {
            let error = lines::<usize>(wrong).unwrap_err();
            assert_eq!(error.to_string(), format!("lines must be a whole number, not {wrong:?}"));
        }
    }
}
