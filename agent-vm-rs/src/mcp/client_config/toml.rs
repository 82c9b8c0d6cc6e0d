//! Files in TOML: what is there keeps its place, its comments and its spaces.

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use toml_edit::{Array, DocumentMut, Item, Table, value};

use crate::term::error::Failure;

/// The file with a server in its section; None if it is there already.
pub fn merged(section: &str, name: &str, settings: &Map<String, Value>, existing: &str) -> Result<Option<String>> {
    let mut document: DocumentMut =
        existing.parse().context("it is no TOML").context(Failure::new("it is not what the client would read"))?;
    let servers = document.entry(section).or_insert_with(|| {
        let mut table = Table::new();
        // Only its servers have a heading.
        table.set_implicit(true);
        Item::Table(table)
    });
    let servers = servers.as_table_like_mut().ok_or_else(|| Failure::new(format!("{section} in it is no table")))?;
    let mut entry = Table::new();
    for (key, setting) in settings {
        entry.insert(key, item(setting)?);
    }
    let is_there = servers.get(name).and_then(Item::as_table_like).is_some_and(|there| {
        let said = |table: &dyn toml_edit::TableLike| {
            let mut lines: Vec<_> =
                table.iter().map(|(key, item)| format!("{key}={}", item.to_string().trim())).collect();
            lines.sort();
            lines
        };
        said(there) == said(&entry)
    });
    if is_there {
        return Ok(None);
    }
    servers.insert(name, Item::Table(entry));
    Ok(Some(document.to_string()))
}

/// The only values there are: strings, and lists of them.
fn item(setting: &Value) -> Result<Item> {
    match setting {
        Value::String(text) => Ok(value(text.as_str())),
        Value::Array(list) => {
            let strings: Option<Array> = list.iter().map(Value::as_str).collect();
            strings.map(value).context("a list holds something that is no string")
        }
        _ => Err(anyhow::anyhow!("a setting is neither a string nor a list")),
    }
}
