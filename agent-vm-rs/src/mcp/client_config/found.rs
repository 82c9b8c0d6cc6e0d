//! Finds a machine's servers in the clients' configuration files.

use serde_json::{Map, Value};
use toml_edit::DocumentMut;

use super::{Client, entry_name};
use crate::machine::policy;

/// Returns the names of a machine's servers in a client's file: entries as `mcp-config --write` adds them, with any path of
/// agent-vm. `args` are the arguments that start the bridge to the machine's default server.
#[must_use]
pub fn entries_of(client: Client, machine: &str, args: &[String], text: &str) -> Vec<String> {
    let servers = match client {
        Client::Codex => of_toml(client.section(), text),
        _ => of_json(client.section(), text),
    };
    let is_ours = |name: &str, entry: &Value| {
        server(args, entry).is_some_and(|server| entry_name(machine, server.as_deref()) == *name)
    };
    servers.iter().filter(|(name, entry)| is_ours(name, entry)).map(|(name, _)| name.clone()).collect()
}

/// Returns the named server that an entry is for, which is None for the default one; None if the entry is not for the machine.
fn server(args: &[String], entry: &Value) -> Option<Option<String>> {
    if let Some(url) = entry.get("url").and_then(Value::as_str) {
        let rest = url.split_once(&policy::mcp().servers_path).and_then(|(_, rest)| rest.strip_prefix('/'));
        return Some(rest.and_then(|rest| rest.split('/').next()).map(str::to_owned));
    }
    let words = entry.get("args")?.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?;
    let start = words.get(..args.len()).filter(|start| start.iter().eq(args.iter()))?;
    match words[start.len()..] {
        [] => Some(None),
        ["--server", name] => Some(Some(name.to_owned())),
        _ => None,
    }
}

fn of_json(section: &str, text: &str) -> Map<String, Value> {
    let mut root = serde_json::from_str::<Value>(text).unwrap_or_default();
    match root.get_mut(section).map(Value::take) {
        Some(Value::Object(servers)) => servers,
        _ => Map::new(),
    }
}

/// Returns the servers of a TOML file with their strings and lists of strings.
fn of_toml(section: &str, text: &str) -> Map<String, Value> {
    let document = text.parse::<DocumentMut>().unwrap_or_default();
    let servers = document.get(section).and_then(|servers| servers.as_table_like()).into_iter();
    let servers = servers.flat_map(|servers| servers.iter());
    servers
        .filter_map(|(name, entry)| {
            let settings = entry.as_table_like()?.iter().filter_map(|(key, item)| {
                let list = item.as_array().map(|list| list.iter().map(toml_edit::Value::as_str).collect());
                Some((key.to_owned(), item.as_str().map(Value::from).or(list)?))
            });
            Some((name.to_owned(), Value::Object(settings.collect())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::super::{Entry, Way, merged};
    use super::*;

    #[test]
    fn what_is_written_is_found_and_nothing_else() {
        let args = ["--state-dir", "/state", "mcp", "app-main"].map(str::to_owned);
        for client in Client::value_variants().iter().copied() {
            let mut text = String::new();
            let mut add = |name: &str, way: Way| {
                if let Ok(Some(added)) = merged(client, &Entry { name: name.to_owned(), way }, &text) {
                    text = added;
                }
                text.clone()
            };
            let command = |more: &[&str]| {
                let args = args.iter().cloned().chain(more.iter().map(|word| (*word).to_owned())).collect();
                Way::Command { program: "/bin/agent-vm".to_owned(), args }
            };
            let http = |path: &str| Way::Http { url: format!("https://127.0.0.1:8000{path}"), auth: true };
            add("mine", command(&[]));
            add("app-main-x", command(&["--server", "y"]));
            add("app-main-2", http("/mcp"));
            let other = Way::Command { program: "/bin/agent-vm".to_owned(), args: vec!["mcp".to_owned()] };
            let text = add("app-main", other);
            assert!(text.contains("app-main"), "{text}");
            assert_eq!(entries_of(client, "app-main", &args, &text), [""; 0], "{}", client.name());

            add("app-main", command(&[]));
            add("app-main-a-b", command(&["--server", "a.b"]));
            let text = add("app-main-c", http("/servers/c/mcp"));
            let mut expected = vec!["app-main", "app-main-a-b", "app-main-c"];
            expected.retain(|name| text.contains(*name));
            assert!(expected.len() >= 2, "{text}");
            assert_eq!(entries_of(client, "app-main", &args, &text), expected, "{}", client.name());
        }
    }

    #[test]
    fn other_files_have_no_entry() {
        for text in ["", "{", "[]", "{\"mcpServers\": []}", "{\"mcpServers\": {\"app-main\": 1}}", "mcp_servers = 1"] {
            for client in Client::value_variants().iter().copied() {
                assert_eq!(entries_of(client, "app-main", &[], text), [""; 0], "{text}");
            }
        }
    }
}
