//! Changes TOML files and keeps their order, comments and spaces.

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use toml_edit::{Array, DocumentMut, Item, Table, value};

use crate::term::error::Failure;

/// Returns the file's new text with a server in its section; None if the server is already there.
pub fn merged(section: &str, name: &str, settings: &Map<String, Value>, existing: &str) -> Result<Option<String>> {
    let mut document: DocumentMut =
        existing.parse().context("it is not TOML").context(Failure::new("it is not valid for the client"))?;
    let servers = document.entry(section).or_insert_with(|| {
        let mut table = Table::new();
        // Only the servers' own tables get a heading.
        table.set_implicit(true);
        Item::Table(table)
    });
    let servers = servers.as_table_like_mut().ok_or_else(|| Failure::new(format!("{section} is not a table")))?;
    let mut entry = Table::new();
    for (key, setting) in settings {
        entry.insert(key, item(setting)?);
    }
    let is_there = servers.get(name).and_then(Item::as_table_like).is_some_and(|there| {
        let values = |table: &dyn toml_edit::TableLike| {
            let mut lines: Vec<_> =
                table.iter().map(|(key, item)| format!("{key}={}", item.to_string().trim())).collect();
            lines.sort();
            lines
        };
        values(there) == values(&entry)
    });
    if is_there {
        return Ok(None);
    }
    servers.insert(name, Item::Table(entry));
    Ok(Some(document.to_string()))
}

/// Converts a setting, which is a string, a whole number or a list of strings.
fn item(setting: &Value) -> Result<Item> {
    match setting {
        Value::String(text) => Ok(value(text.as_str())),
        Value::Array(list) => {
            let strings: Option<Array> = list.iter().map(Value::as_str).collect();
            strings.map(value).context("a list has a value that is not a string")
        }
        _ => setting.as_i64().map(value).context("a setting is neither a string nor a whole number nor a list"),
    }
}
