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
    fn numbers_of_lines_are_whole() {
        assert_eq!(lines::<u32>("5").unwrap(), 5);
        for wrong in ["abc", "-1", "1.5", ""] {
            let error = lines::<usize>(wrong).unwrap_err();
            assert_eq!(error.to_string(), format!("lines must be a whole number, not {wrong:?}"));
        }
    }
}
