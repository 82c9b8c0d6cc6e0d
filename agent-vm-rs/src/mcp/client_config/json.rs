//! Files in JSON: read whole, and written anew with everything that was in them.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context as _, Result};
use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize as _};
use serde_json::ser::PrettyFormatter;
use serde_json::{Map, Value};

use crate::term::error::Failure;

/// The file with a server in its section; None if it is there already.
pub fn merged(section: &str, name: &str, settings: &Map<String, Value>, existing: &str) -> Result<Option<String>> {
    let mut root = if existing.trim().is_empty() { Map::new() } else { parse(existing)? };
    let servers = root.entry(section).or_insert_with(|| Map::new().into());
    let Value::Object(servers) = servers else {
        return Err(Failure::new(format!("\"{section}\" in it is no object")).into());
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
        Failure::new("it is no plain JSON, or holds what would be lost in writing it anew")
            .with_hint("put the server there by hand; without --write it is printed")
    };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_any(Lossless).map_err(anyhow::Error::from).with_context(not_plain)?;
    deserializer.end().map_err(anyhow::Error::from).with_context(not_plain)?;
    match serde_json::from_str(text).map_err(anyhow::Error::from).with_context(not_plain)? {
        Value::Object(root) => Ok(root),
        _ => Err(not_plain().into()),
    }
}

/// The white space before the first thing in it that is indented.
fn indentation(text: &str) -> String {
    let mut spaces = text.lines().skip(1).map(|line| line[..line.len() - line.trim_start().len()].to_owned());
    spaces.find(|space| !space.is_empty()).unwrap_or_else(|| "  ".to_owned())
}

/// Takes any value that comes out as it went in: no key twice, no number that a `f64` has no room for.
struct Lossless;

impl<'de> Visitor<'de> for Lossless {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON whose keys are there once and whose numbers are of ordinary size")
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
        // From here on neighbouring numbers are more than one apart.
        if number.abs() < 9_007_199_254_740_992.0 { Ok(()) } else { Err(E::custom("a number is too large to be kept")) }
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
                return Err(serde::de::Error::custom("a key is there twice"));
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
