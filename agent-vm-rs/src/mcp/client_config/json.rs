//! Changes JSON files: parses the whole file and rewrites it with all its values.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context as _, Result};
use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize as _};
use serde_json::ser::PrettyFormatter;
use serde_json::{Map, Value};

use crate::term::error::Failure;

/// Returns the file's new text with a server in its section; None if the server is already there.
pub fn merged(section: &str, name: &str, settings: &Map<String, Value>, existing: &str) -> Result<Option<String>> {
    let mut root = if existing.trim().is_empty() { Map::new() } else { parse(existing)? };
    let servers = root.entry(section).or_insert_with(|| Map::new().into());
    let Value::Object(servers) = servers else {
        return Err(Failure::new(format!("\"{section}\" is not a JSON object")).into());
    };
    let settings = Value::Object(settings.clone());
    if servers.get(name) == Some(&settings) {
        return Ok(None);
    }
    servers.insert(name.to_owned(), settings);
    let mut text = Vec::new();
    let indentation = indentation(existing);
    let formatter = PrettyFormatter::with_indent(indentation.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    root.serialize(&mut serializer).context("failed to write JSON")?;
    text.push(b'\n');
    Ok(Some(String::from_utf8(text).context("failed to write JSON")?))
}

fn parse(text: &str) -> Result<Map<String, Value>> {
    let not_plain = || {
        Failure::new("it is not plain JSON, or rewriting it would lose comments or duplicate keys")
            .with_hint("run the command without --write, and add the printed server to the file yourself")
    };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_any(Lossless).map_err(anyhow::Error::from).with_context(not_plain)?;
    deserializer.end().map_err(anyhow::Error::from).with_context(not_plain)?;
    match serde_json::from_str(text).map_err(anyhow::Error::from).with_context(not_plain)? {
        Value::Object(root) => Ok(root),
        _ => Err(not_plain().into()),
    }
}

/// Returns the file's indentation: the white space before its first indented line.
fn indentation(text: &str) -> String {
    let mut spaces = text.lines().skip(1).map(|line| line[..line.len() - line.trim_start().len()].to_owned());
    spaces.find(|space| !space.is_empty()).unwrap_or_else(|| "  ".to_owned())
}

/// Accepts JSON that survives rewriting: no duplicate keys, and no number that `f64` would change.
struct Lossless;

impl<'de> Visitor<'de> for Lossless {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate keys and without very large numbers")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        // Above this, f64 cannot represent every integer.
        if number.abs() < 9_007_199_254_740_992.0 { Ok(()) } else { Err(E::custom("a number is too large to keep")) }
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<Checked>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !seen.insert(key) {
                return Err(serde::de::Error::custom("duplicate key"));
            }
            map.next_value::<Checked>()?;
        }
        Ok(())
    }
}

struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Lossless).map(|()| Self)
    }
}
