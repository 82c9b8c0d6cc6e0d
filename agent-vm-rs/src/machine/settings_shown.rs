//! The settings of a machine as text for people, without secrets.

use clap::ValueEnum as _;
use serde_json::{Map, Value, json};

use crate::machine::number::Number;
use crate::machine::settings::Settings;
use crate::machine::settings_key::Key;
use crate::term::text::one_line;

/// What is shown in place of a secret.
const HIDDEN: &str = "(hidden)";
/// An argument of Nix with one of these words is about a secret, or is one.
const SECRET_WORDS: [&str; 4] = ["token", "password", "passwd", "secret"];

/// Returns the settings by name, as [`Key::value`] returns them, without secrets.
#[must_use]
pub fn as_json(settings: &Settings) -> Map<String, Value> {
    let shown = |key: &Key| (key.name().to_owned(), without_secrets(*key, key.value(settings)));
    Key::value_variants().iter().map(shown).collect()
}

/// Returns one line for each setting: its name and its value with the unit.
#[must_use]
pub fn as_text(settings: &Settings) -> String {
    let names = Key::value_variants().iter().map(|key| key.name().len());
    let width = names.max().unwrap_or(0);
    let line = |key: &Key| format!("{:<width$}  {}\n", key.name(), value(*key, &key.value(settings)));
    Key::value_variants().iter().map(line).collect()
}

/// Returns the value of a setting as text: a number has its unit, and a list is as `agent-vm set` takes it.
#[must_use]
pub fn value(key: Key, value: &Value) -> String {
    let text = match without_secrets(key, value.clone()) {
        Value::Null if key.limit().is_some() => "no limit".to_owned(),
        Value::Null => "automatic".to_owned(),
        Value::String(text) => text,
        Value::Array(words) if words.is_empty() => "(empty)".to_owned(),
        Value::Array(words) => list(&words),
        value => match Number::of(key.name()).zip(value.as_u64()) {
            Some((number, value)) => number.with_unit(value),
            None => value.to_string(),
        },
    };
    one_line(&text)
}

/// Returns words separated by commas, or as JSON if one has a comma.
fn list(words: &[Value]) -> String {
    let plain: Vec<_> = words.iter().filter_map(Value::as_str).collect();
    if plain.iter().any(|word| word.contains(',')) { json!(words).to_string() } else { plain.join(",") }
}

/// Replaces secrets that arguments of Nix may contain, such as `access-tokens` and the password of a URL. No other setting takes
/// a secret.
fn without_secrets(key: Key, value: Value) -> Value {
    let Value::Array(words) = value else { return value };
    if key != Key::NixArgs {
        return Value::Array(words);
    }
    let mut after_secret = false;
    let shown = words.into_iter().map(|word| {
        let text = word.as_str().unwrap_or_default().to_lowercase();
        let names_secret = SECRET_WORDS.iter().any(|secret| text.contains(secret));
        let has_value = text.contains(['=', ' ', ':']) && names_secret;
        let has_login = text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
        let is_hidden = after_secret || has_value || has_login;
        after_secret = names_secret && !has_value;
        if is_hidden { json!(HIDDEN) } else { word }
    });
    Value::Array(shown.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::settings::tests::sample;

    #[test]
    fn values_have_units_and_lists_are_as_set_takes_them() {
        let shown = |key, json| value(key, &json);
        assert_eq!(shown(Key::Memory, json!(4096)), "4096 MiB");
        assert_eq!(shown(Key::NetworkBandwidth, json!(65_536)), "65536 bytes a second");
        assert_eq!(shown(Key::CpuQuota, json!(150)), "150 percent");
        assert_eq!(shown(Key::Port, json!(8000)), "8000");
        assert_eq!(
            (shown(Key::Port, json!(null)), shown(Key::Pids, json!(null))),
            ("automatic".into(), "no limit".into())
        );
        assert_eq!(shown(Key::Servers, json!(["filesystem", "time"])), "filesystem,time");
        assert_eq!((shown(Key::Servers, json!([])), shown(Key::Tls, json!(true))), ("(empty)".into(), "true".into()));
        assert_eq!(shown(Key::NixArgs, json!(["a,b", "c"])), "[\"a,b\",\"c\"]");
        assert_eq!(as_text(&sample()).lines().count(), Key::value_variants().len());
    }

    #[test]
    fn secrets_in_arguments_of_nix_are_hidden() {
        for secret in [
            &["--option", "access-tokens", "github.com=hunter2"][..],
            &["--access-tokens", "github.com=hunter2"],
            &["--extra-access-tokens=github.com=hunter2"],
            &["--option", "substituters", "https://me:hunter2@cache.example.org"],
        ] {
            let mut settings = sample();
            settings.nix_args =
                [&["--offline"], secret, &["--impure"]].concat().into_iter().map(str::to_owned).collect();
            for shown in [as_text(&settings), json!(as_json(&settings)).to_string()] {
                assert!(!shown.contains("hunter2"), "{shown}");
                // Control.
                assert!(shown.contains("--offline") && shown.contains("--impure") && shown.contains(HIDDEN), "{shown}");
            }
        }
    }
}
