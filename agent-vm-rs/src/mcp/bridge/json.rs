//! Checks and compacts JSON text without changing any value. Parsing a number and printing it again could change it.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::term::text::plain_json;

/// Largest number of values and keys in a text. A reader needs much more memory for each than its bytes.
pub const MOST_VALUES: usize = 1 << 20;
/// Deepest nesting of values, as in `serde_json`; recursive readers fail at some depth.
pub const DEEPEST: usize = 128;
/// Longest number, in bytes. The time to read a number grows faster than its length.
const LONGEST_NUMBER: usize = 4096;

/// Why a text is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not JSON.
    NotJson,
    /// It exceeds the limit that the text names.
    TooMuch(&'static str),
}

/// Returns the text on one line, without white space between values and without control characters.
///
/// # Errors
/// It is not JSON, or exceeds [`MOST_VALUES`], [`DEEPEST`] or the longest number of 4096 bytes.
pub fn one_line(text: &[u8]) -> Result<String, Refusal> {
    let text = std::str::from_utf8(text).map_err(|_| Refusal::NotJson)?;
    let compact = compact(text)?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|_| Refusal::NotJson)?;
    Ok(plain_json(compact))
}

/// Removes the white space between values and checks the limits. Strings stay as they are, but unpaired surrogates in
/// them are refused. Does not check that the rest is JSON.
fn compact(text: &str) -> Result<String, Refusal> {
    let mut compact = String::with_capacity(text.len());
    let (mut values, mut depth, mut number) = (1_usize, 0_usize, 0_usize);
    let mut rest = text;
    while let Some(first) = rest.bytes().next() {
        let length = match first {
            b'"' => {
                number = 0;
                string(rest)?
            }
            b' ' | b'\n' | b'\r' | b'\t' => {
                number = 0;
                rest = &rest[1..];
                continue;
            }
            _ => {
                match first {
                    b',' | b':' => values += 1,
                    b'[' | b'{' => (values, depth) = (values + 1, depth + 1),
                    b']' | b'}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                number = if b"0123456789+-.eE".contains(&first) { number + 1 } else { 0 };
                rest.chars().next().map_or(1, char::len_utf8)
            }
        };
        if values > MOST_VALUES {
            return Err(Refusal::TooMuch("too many values in one message"));
        }
        if depth > DEEPEST {
            return Err(Refusal::NotJson);
        }
        if number > LONGEST_NUMBER {
            return Err(Refusal::TooMuch("a number is too long"));
        }
        compact.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    Ok(compact)
}

/// Returns the length of the string at the start of a text, with its quotes.
fn string(text: &str) -> Result<usize, Refusal> {
    let bytes = text.as_bytes();
    // A surrogate pair consists of two escapes.
    let mut half = false;
    let mut at = 1;
    loop {
        let (escape, length) = match bytes.get(at) {
            None => return Err(Refusal::NotJson),
            Some(b'"') => return if half { Err(Refusal::NotJson) } else { Ok(at + 1) },
            Some(b'\\') if bytes.get(at + 1) == Some(&b'u') => {
                let digits = text.get(at + 2..at + 6).ok_or(Refusal::NotJson)?;
                (Some(u16::from_str_radix(digits, 16).map_err(|_| Refusal::NotJson)?), 6)
            }
            Some(b'\\') => (None, 2),
            Some(_) => (None, 1),
        };
        half = match (half, escape) {
            (false, Some(0xD800..=0xDBFF)) => true,
            (true, Some(0xDC00..=0xDFFF)) => false,
            (true, _) | (false, Some(0xDC00..=0xDFFF)) => return Err(Refusal::NotJson),
            (false, _) => false,
        };
        at += length;
    }
}

/// The fields of an object, each with the text of its value.
pub struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Parses an object; None if the text is another value, has a duplicate key or too many fields.
    #[must_use]
    pub fn of(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Returns the text of a field's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.get())
    }

    /// Returns a field's value if it is a string.
    #[must_use]
    pub fn string(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?).ok()
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collect)
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object without duplicate keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Vec<(String, &RawValue)> = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
            // A message has five fields. Each key is compared with all others, so their number is limited.
            if fields.len() == MOST_FIELDS || fields.iter().any(|(there, _)| *there == key) {
                return Err(serde::de::Error::custom("duplicate key or too many fields"));
            }
            fields.push((key, value));
        }
        Ok(Fields(fields))
    }
}

/// Largest number of fields of an object that [`Fields`] reads.
const MOST_FIELDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn taken(text: &str) -> Option<String> {
        one_line(text.as_bytes()).ok()
    }

    #[test]
    fn values_keep_their_text() {
        for text in [
            "18446744073709551616",
            "-9223372036854775809",
            "123456789012345678901234567890.125",
            "1e400",
            "1E-999",
            "1.0",
            "-0",
            "1.50",
            "0.1000000000000000055511151231257827",
            r#""\u0041\/\ud83d\ude00""#,
            r#"{"$serde_json::private::Number":"1"}"#,
            r#"{"$serde_json::private::RawValue":"[1]"}"#,
            r#"{"a":1,"a":2}"#,
        ] {
            assert_eq!(taken(text).as_deref(), Some(text));
        }
        assert_eq!(taken(" { \"a b\" :\n[ 1 ,\t2 ] } \r\n").unwrap(), r#"{"a b":[1,2]}"#);
        assert_eq!(taken("\"\u{9b}2J\"").unwrap(), r#""\u009b2J""#);
    }

    #[test]
    fn invalid_json_is_refused() {
        for text in [
            "",
            "{",
            "1 2",
            "1 -2",
            "tr ue",
            "[1 2]",
            "01",
            "1.",
            ".5",
            "+1",
            "NaN",
            "'a'",
            "\"",
            "\"\\",
            "\"\\\"",
            "\"\\u12\"",
            "\"\\u+123\"",
            "\"a\nb\"",
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\ud800""#,
            r#""\ud800x""#,
            "{} {}",
            "[1,]",
            "\u{a0}1",
            "\u{feff}1",
        ] {
            assert_eq!(one_line(text.as_bytes()), Err(Refusal::NotJson), "{text}");
        }
        assert_eq!(one_line(b"\"\xff\""), Err(Refusal::NotJson));
    }

    #[test]
    fn texts_are_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(taken(&nested(DEEPEST)).is_some());
        assert_eq!(one_line(nested(DEEPEST + 1).as_bytes()), Err(Refusal::NotJson));
        assert!(taken(&"7".repeat(LONGEST_NUMBER)).is_some());
        assert!(matches!(one_line("7".repeat(LONGEST_NUMBER + 1).as_bytes()), Err(Refusal::TooMuch(_))));
        // The content of a string is one value, without depth or digits.
        assert!(taken(&format!("{:?}", "[,:{7".repeat(MOST_VALUES))).is_some());
    }

    #[test]
    fn duplicate_fields_are_refused() {
        let fields = Fields::of(r#"{"a":1.0,"\u0062":"x"}"#).unwrap();
        assert_eq!((fields.get("a"), fields.string("b").as_deref(), fields.get("c")), (Some("1.0"), Some("x"), None));
        for text in [r#"{"a":1,"\u0061":2}"#, "[]", "7"] {
            assert!(Fields::of(text).is_none(), "{text}");
        }
    }

    /// Generates any JSON, as text with white space.
    fn json() -> impl Strategy<Value = String> {
        let number = "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?";
        let string = any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap());
        let leaf = prop_oneof![number, string, Just("null".to_owned()), Just("true".to_owned())];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let key = any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap());
            let space = "[ \n\r\t]{0,2}";
            prop_oneof![
                (prop::collection::vec(inner.clone(), 0..4), space)
                    .prop_map(|(items, space)| format!("[{space}{}{space}]", items.join(&format!("{space},{space}")))),
                (prop::collection::vec((key, inner), 0..4), space).prop_map(|(items, space)| {
                    let items: Vec<_> =
                        items.iter().map(|(key, value)| format!("{key}{space}:{space}{value}")).collect();
                    format!("{{{space}{}{space}}}", items.join(","))
                }),
            ]
        })
    }

    /// Returns the text of every number in a text, in order.
    fn numbers(text: &str) -> Vec<String> {
        let mut outside = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let length = if first == '"' { string(rest).unwrap() } else { first.len_utf8() };
            outside.push_str(if first == '"' { " " } else { &rest[..length] });
            rest = &rest[length..];
        }
        let words = outside.split(|c: char| c.is_whitespace() || "[]{},:".contains(c));
        words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit() || c == '-')).map(str::to_owned).collect()
    }

    proptest! {
        #[test]
        fn numbers_are_the_same_and_so_is_all_else(text in json()) {
            let line = one_line(text.as_bytes()).unwrap();
            prop_assert!(!line.chars().any(char::is_control));
            prop_assert_eq!(numbers(&line), numbers(&text));
            // Compare parsed values too, if all numbers fit.
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                prop_assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
            }
            prop_assert_eq!(one_line(line.as_bytes()).unwrap(), line);
        }

        #[test]
        fn accepted_texts_are_json(text in "\\PC{0,20}|[\\[\\]{}:,\"\\\\u0-9dD8eE.+ \n-]{0,20}") {
            let is_json = serde_json::from_str::<IgnoredAny>(&text).is_ok();
            match one_line(text.as_bytes()) {
                Ok(line) => prop_assert!(is_json && serde_json::from_str::<IgnoredAny>(&line).is_ok()),
                // Only invalid JSON and unpaired surrogates are refused.
                Err(_) => prop_assert!(!is_json || serde_json::from_str::<Value>(&text).is_err()),
            }
        }
    }
}
