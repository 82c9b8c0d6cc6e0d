//! Text from other sources, made safe and readable for a terminal.

use std::time::Duration;

/// Returns text without terminal escape sequences; other control characters, except line feeds and tabs, become
/// `\u{fffd}`.
#[must_use]
pub fn printable(text: &str) -> String {
    anstream::adapter::strip_str(text)
        .to_string()
        .replace("\r\n", "\n")
        .chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            // Cc is C0, DEL and C1.
            c if c.is_control() => '\u{fffd}',
            c if reorders_or_breaks(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Checks whether a character reorders or hides text, or starts a line (Unicode's Bidi_Control, Zl and Zp).
fn reorders_or_breaks(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns [`printable`] text on one line.
#[must_use]
pub fn one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

/// Returns JSON with control characters and reordering characters escaped: JSON itself requires that only below U+0020.
#[must_use]
pub fn plain_json(json: String) -> String {
    // A long text of many machines almost never has such a character.
    if json.is_ascii() && !json.contains('\u{7f}') {
        return json;
    }
    let mut plain = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // Outside strings, JSON contains none of these.
            c if ('\u{7f}'..='\u{9f}').contains(&c) || reorders_or_breaks(c) => {
                plain.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => plain.push(c),
        }
    }
    plain
}

/// Returns the last `count` lines of a text that are not blank.
#[must_use]
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Digits of a shortened object id.
const ID_DIGITS: usize = 10;

/// Returns the start of an object id, for messages.
#[must_use]
pub fn short_id(id: &str) -> &str {
    &id[..ID_DIGITS.min(id.len())]
}

/// Returns a number with its noun, such as `1 commit` or `2 commits`. The plural must end in s.
#[must_use]
pub fn count(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// Returns a number of bytes as text, such as `1.5 GiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// Returns the two largest units of a duration, such as `3d 4h`, `2h 5m` or `41s`.
#[must_use]
pub fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_json_keeps_the_value_and_has_no_control_characters() {
        let value = serde_json::json!({ "a\u{9b}31m": ["\u{7f}\u{202e}\u{1b}", "ü"] });
        let plain = plain_json(value.to_string());
        assert!(plain.contains("\\u009b31m") && plain.contains('ü') && !plain.chars().any(char::is_control), "{plain}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&plain).unwrap(), value);
    }

    #[test]
    fn printable_removes_escape_sequences() {
        for hostile in [
            "\x1b[2J",
            "\x1b]0;title\x07",
            "\x1b]52;c;AAAA\x1b\\",
            "\u{9b}2J",
            "\x1b",
            "\x08",
            "\x1bP1$r\x1b\\",
            "\x7f",
        ] {
            let shown = printable(&format!("a{hostile}b\r\nc\td"));
            assert!(!shown.chars().any(|c| c.is_control() && !"\n\t".contains(c)), "{hostile:?} gave {shown:?}");
            assert!(shown.starts_with('a') && shown.ends_with("\nc\td"), "{hostile:?} gave {shown:?}");
        }
        for c in ['\u{202e}', '\u{61c}', '\u{2028}'] {
            assert_eq!(printable(&format!("x{c}y")), "x\u{fffd}y");
        }
        assert_eq!(one_line("a\nb"), "a b");
    }

    #[test]
    fn last_lines_skips_blank_ones() {
        assert_eq!(last_lines("a\n\nb\nc\n\n", 2), "b\nc");
        assert_eq!(last_lines("", 2), "");
    }

    #[test]
    fn one_thing_has_no_plural() {
        assert_eq!(
            [count(0, "commit"), count(1, "commit"), count(2, "commit")],
            ["0 commits", "1 commit", "2 commits"]
        );
    }

    #[test]
    fn ages_show_two_units() {
        let age_of = |seconds| age(Duration::from_secs(seconds));
        assert_eq!(age_of(41), "41s");
        assert_eq!(age_of(125), "2m 5s");
        assert_eq!(age_of(7_500), "2h 5m");
        assert_eq!(age_of(4 * 86_400 + 3_600), "4d 1h");
    }
}
