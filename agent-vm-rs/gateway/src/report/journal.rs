//! Log lines with the journal's priority prefixes.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// Maximal number of characters of a line.
const LONGEST: usize = 500;

static DEBUG: AtomicBool = AtomicBool::new(false);

/// Priority of a line, as syslog numbers it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Something failed.
    Warning = 4,
    /// Something happened.
    Info = 6,
    /// Details for debugging the gateway.
    Debug = 7,
}

/// Writes debug lines from now on, or not.
pub fn set_debug(on: bool) {
    DEBUG.store(on, Ordering::Relaxed);
}

/// Writes a line.
pub fn log(priority: Priority, message: &str) {
    log_long(priority, message, LONGEST);
}

/// Writes a line with its own maximal number of characters.
pub fn log_long(priority: Priority, message: &str, longest: usize) {
    if priority == Priority::Debug && !DEBUG.load(Ordering::Relaxed) {
        return;
    }
    let line = format!("<{}>{}\n", priority as u8, printable(message, longest));
    // Standard error may be closed.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Returns a text, which may be hostile, on one line, without control characters.
fn printable(text: &str, longest: usize) -> String {
    let mut shown = String::new();
    for (number, character) in text.chars().enumerate() {
        if number == longest {
            shown.push('…');
            break;
        }
        if character.is_control()
            || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Returns an error of the system without its number.
pub fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn lines_have_no_control_characters_and_an_end() {
        assert_eq!(printable("a\nb\u{1b}[31m é", 100), "a\\nb\\u{1b}[31m é");
        assert_eq!(printable("abcdef", 3), "abc…");
        assert_eq!(printable("abc", 3), "abc");
    }
}
