//! Errors about values of a `--config` file, in words of this program and not of its JSON parser.

use serde_json::Value;

use crate::machine::number::Number;
use crate::machine::time_limit;
use crate::term::error::Failure;
use crate::term::text::one_line;

/// Starts of the JSON parser's own messages, which name types of Rust. Others are of this program.
const PARSERS_WORDS: [&str; 4] = ["invalid type", "invalid value", "invalid length", "unknown variant"];

/// A value that a setting may refuse.
pub struct WrongValue<'a> {
    name: &'a str,
    described: String,
}

impl<'a> WrongValue<'a> {
    /// Returns the value of the setting `name`.
    #[must_use]
    pub fn of(name: &'a str, value: &Value) -> Self {
        Self { name, described: described(value) }
    }

    /// Returns the failure for an error of the parser.
    #[must_use]
    pub fn failure(self, error: &serde_json::Error) -> Failure {
        let Self { name, described } = self;
        let why = error.to_string();
        let why = if PARSERS_WORDS.iter().any(|words| why.starts_with(words)) { described } else { why };
        Failure::usage(format!("the setting {name} has a wrong value: {why}"))
            .with_hint(format!("{name} takes {}", takes(name)))
    }
}

/// Describes a value of JSON, without the words of a text in a list or an object.
fn described(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        value => one_line(&value.to_string()),
    }
}

/// Describes the JSON values of a setting.
fn takes(name: &str) -> String {
    match (Number::of(name), name) {
        (Some(number), _) => number.takes(),
        (None, "all_branches" | "tls" | "auth") => "true or false".to_owned(),
        (None, "idle_timeout" | "ttl") => time_limit::TAKES.to_owned(),
        (None, "guest") => "debian or nixos".to_owned(),
        (None, "proxy") => "gateway or mcp-proxy".to_owned(),
        (None, "egress") => "none, allowlist, monitor or open".to_owned(),
        (None, "branch" | "host" | "host_proxy") => "a text".to_owned(),
        (None, _) => "a list of texts, such as [\"NAME\"]".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::settings::SettingsPatch;

    #[test]
    fn wrong_values_are_described_without_types_of_rust() {
        for (text, says, takes) in [
            (r#"{"memory": "x"}"#, "\"x\"", "a number of MiB from 256"),
            (r#"{"pids": -1}"#, "-1", "a number of processes"),
            (r#"{"port": 70000}"#, "70000", "a port from 1"),
            (r#"{"tls": 1}"#, "1", "true or false"),
            (r#"{"packages": "jq"}"#, "\"jq\"", "a list of texts"),
            (r#"{"servers": [1]}"#, "a list", "a list of texts"),
            (r#"{"egress": "all"}"#, "\"all\"", "none, allowlist, monitor or open"),
            (r#"{"guest": {}}"#, "an object", "debian or nixos"),
            // A message of our own.
            (r#"{"ttl": "soon"}"#, "\"soon\" is not a time limit", "a time such as 30m"),
        ] {
            let error = SettingsPatch::parse(text).unwrap_err();
            let failure = error.downcast_ref::<Failure>().unwrap();
            let (shown, hint) = (failure.to_string(), failure.hint().unwrap());
            assert!(shown.ends_with(&format!("has a wrong value: {says}")), "{text}: {shown}");
            assert!(hint.contains(&format!("takes {takes}")), "{text}: {hint}");
            assert!(!["expected", "u32", "u16", "invalid"].iter().any(|word| shown.contains(word)), "{shown}");
        }
    }
}
