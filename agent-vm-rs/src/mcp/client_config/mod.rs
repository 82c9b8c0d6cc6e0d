//! Formats of MCP clients' configuration files. These functions are pure; `place` finds the files.

mod found;
mod json;
mod place;
mod toml;

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Map, Value, json};

pub use self::found::entries_of;
pub use self::place::{Place, place, read, write};
use crate::host::files::quoted;
use crate::term::error::Failure;

/// Environment variable with the token, for clients that connect over HTTP.
pub const TOKEN_VARIABLE: &str = "AGENT_VM_TOKEN";

/// Seconds that a client waits for the server, if it has such a setting. A machine that `restart` has stopped comes back within
/// them; Codex waits ten seconds by default, and tells its users to write `startup_timeout_sec`.
const STARTUP_SECONDS: u32 = 120;

/// The supported MCP clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Client {
    /// Claude Code: `.mcp.json` of the project
    ClaudeCode,
    /// Claude Desktop: its own file in the user's settings
    ClaudeDesktop,
    /// Cursor: `.cursor/mcp.json` of the project
    Cursor,
    /// Visual Studio Code: `.vscode/mcp.json` of the project
    Vscode,
    /// Zed: the user's `settings.json`
    Zed,
    /// Codex: the user's `config.toml`
    Codex,
}

/// How a client reaches the server.
#[derive(Clone, Debug)]
pub enum Way {
    /// The client starts a command.
    Command {
        /// The program.
        program: String,
        /// Its arguments.
        args: Vec<String>,
    },
    /// The client connects over HTTP.
    Http {
        /// URL of the endpoint.
        url: String,
        /// Whether the endpoint requires a token.
        auth: bool,
    },
}

/// A server's entry in a client's file.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The server's name in the file.
    pub name: String,
    /// How the client reaches it.
    pub way: Way,
}

impl Client {
    /// Returns the client's name on the command line.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Returns the client's own command that removes a server; `project` is the one whose file has it.
    #[must_use]
    pub fn removal(self, name: &str, project: Option<&Path>) -> Option<String> {
        match (self, project) {
            (Self::ClaudeCode, Some(project)) => {
                Some(format!("cd {} && claude mcp remove --scope project {name}", quoted(project)))
            }
            (Self::Codex, _) => Some(format!("codex mcp remove {name}")),
            _ => None,
        }
    }

    /// Returns the environment variable with a file of certificate authorities that the client trusts. In programs that
    /// are not written for Node.js, it replaces those of the system.
    #[must_use]
    pub fn authority_variable(self) -> &'static str {
        match self {
            Self::Codex | Self::Zed => "SSL_CERT_FILE",
            Self::ClaudeCode | Self::ClaudeDesktop | Self::Cursor | Self::Vscode => "NODE_EXTRA_CA_CERTS",
        }
    }

    /// Returns whether the file of [`Self::authority_variable`] replaces the system's authorities.
    #[must_use]
    pub fn trusts_nothing_else(self) -> bool {
        self.authority_variable() == "SSL_CERT_FILE"
    }

    /// Checks that the client can connect over HTTP without the token in its file.
    ///
    /// # Errors
    /// It cannot.
    pub fn check_http(self) -> Result<(), Failure> {
        if !matches!(self, Self::ClaudeDesktop | Self::Zed) {
            return Ok(());
        }
        let name = self.name();
        Err(Failure::usage(format!(
            "{name} would store the token in its configuration file, so --http is not supported"
        ))
        .with_hint(format!("leave out --http: {name} then starts agent-vm, which reads the token itself")))
    }

    /// Returns the key of the section that holds the servers.
    fn section(self) -> &'static str {
        match self {
            Self::ClaudeCode | Self::ClaudeDesktop | Self::Cursor => "mcpServers",
            Self::Vscode => "servers",
            Self::Zed => "context_servers",
            Self::Codex => "mcp_servers",
        }
    }

    /// Returns the settings of a server's entry.
    fn settings(self, way: &Way) -> Result<Map<String, Value>> {
        if matches!(way, Way::Http { .. }) {
            self.check_http()?;
        }
        let value = match (way, self) {
            (Way::Command { program, args }, Self::Vscode) => {
                json!({ "type": "stdio", "command": program, "args": args })
            }
            (Way::Command { program, args }, Self::Codex) => {
                json!({ "command": program, "args": args, "startup_timeout_sec": STARTUP_SECONDS })
            }
            (Way::Command { program, args }, _) => json!({ "command": program, "args": args }),
            (Way::Http { url, auth: true }, Self::Codex) => {
                json!({ "url": url, "bearer_token_env_var": TOKEN_VARIABLE })
            }
            (Way::Http { url, .. }, Self::Codex) => json!({ "url": url }),
            (Way::Http { url, auth }, _) => {
                let mut settings = Map::new();
                // Cursor derives the type from the URL.
                if self != Self::Cursor {
                    settings.insert("type".to_owned(), "http".into());
                }
                settings.insert("url".to_owned(), url.as_str().into());
                if *auth {
                    let variable = if self == Self::ClaudeCode { "" } else { "env:" };
                    let value = format!("Bearer ${{{variable}{TOKEN_VARIABLE}}}");
                    settings.insert("headers".to_owned(), json!({ "Authorization": value }));
                }
                settings.into()
            }
        };
        match value {
            Value::Object(settings) => Ok(settings),
            _ => Ok(Map::new()),
        }
    }
}

/// Returns a client's file with only this server in it.
///
/// # Errors
/// The client cannot reach a server in this way.
pub fn fragment(client: Client, entry: &Entry) -> Result<String> {
    Ok(merged(client, entry, "")?.unwrap_or_default())
}

/// Returns what [`fragment`] has, as JSON for every client.
///
/// # Errors
/// As [`fragment`].
pub fn value(client: Client, entry: &Entry) -> Result<Value> {
    Ok(json!({ client.section(): { &entry.name: client.settings(&entry.way)? } }))
}

/// Returns a client's existing file with this server added; None if it is already there.
///
/// # Errors
/// The file is not valid for the client, or rewriting it would lose something.
pub fn merged(client: Client, entry: &Entry, existing: &str) -> Result<Option<String>> {
    let settings = client.settings(&entry.way)?;
    match client {
        Client::Codex => toml::merged(client.section(), &entry.name, &settings, existing),
        _ => json::merged(client.section(), &entry.name, &settings, existing),
    }
}

/// Returns a name for a machine's server that every client accepts.
#[must_use]
pub fn entry_name(machine: &str, server: Option<&str>) -> String {
    let whole = server.map_or_else(|| machine.to_owned(), |server| format!("{machine}-{server}"));
    whole.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Client; 6] =
        [Client::ClaudeCode, Client::ClaudeDesktop, Client::Cursor, Client::Vscode, Client::Zed, Client::Codex];

    fn entry() -> Entry {
        let args = ["mcp", "app-main"].map(str::to_owned).to_vec();
        Entry { name: "app-main".to_owned(), way: Way::Command { program: "/bin/agent-vm".to_owned(), args } }
    }

    fn http() -> Entry {
        Entry { way: Way::Http { url: "https://127.0.0.1:8000/mcp".to_owned(), auth: true }, ..entry() }
    }

    #[test]
    fn every_client_has_its_format() {
        let mut all = String::new();
        for client in ALL {
            all += &format!("==== {}\n{}", client.name(), fragment(client, &entry()).unwrap());
            match fragment(client, &http()) {
                Ok(text) => all += &format!("---- http\n{text}"),
                Err(error) => all += &format!("---- http: {error}\n"),
            }
        }
        insta::assert_snapshot!(all);
    }

    #[test]
    fn other_entries_stay_and_a_second_write_changes_nothing() {
        for client in ALL {
            let existing = if client == Client::Codex {
                "# mine\nmodel = \"x\"  # really\n\n[mcp_servers.other]\ncommand = \"o\"\n".to_owned()
            } else {
                format!(
                    "{{\n\t\"z\": [1, 2.50],\n\t\"{}\": {{\"other\": {{\"command\": \"o\"}}}},\n\t\"a\": null\n}}\n",
                    client.section()
                )
            };
            let once = merged(client, &entry(), &existing).unwrap().unwrap();
            assert!(once.contains("other") && once.contains("app-main"), "{once}");
            if client == Client::Codex {
                assert!(once.starts_with(&existing), "{once}");
            } else {
                let (before, mut after): (Value, Value) =
                    (serde_json::from_str(&existing).unwrap(), serde_json::from_str(&once).unwrap());
                after[client.section()].as_object_mut().unwrap().remove("app-main").unwrap();
                assert_eq!(before, after);
                assert!(
                    once.starts_with("{\n\t\"z\"") && once.ends_with("}\n"),
                    "order or indentation is lost: {once}"
                );
            }
            assert_eq!(merged(client, &entry(), &once).unwrap(), None);
            // An entry of the same name is replaced.
            let mut moved = entry();
            moved.way = Way::Command {
                program: "/opt/agent-vm".to_owned(),
                args: vec!["mcp".to_owned(), "app-main".to_owned()],
            };
            let twice = merged(client, &moved, &once).unwrap().unwrap();
            assert!(
                twice.contains("/opt/agent-vm") && !twice.contains("/bin/agent-vm") && twice.contains("other"),
                "{twice}"
            );
        }
    }

    #[test]
    fn files_that_would_lose_something_are_refused() {
        for client in ALL {
            let section = client.section();
            let broken: Vec<String> = if client == Client::Codex {
                vec!["x = ".to_owned(), "mcp_servers = 7\n".to_owned(), "[[mcp_servers]]\na = 1\n".to_owned()]
            } else {
                vec![
                    "{".to_owned(),
                    "[]".to_owned(),
                    "// a comment\n{}".to_owned(),
                    "{\"a\": 1,}".to_owned(),
                    format!("{{\"{section}\": []}}"),
                    format!("{{\"{section}\": \"x\"}}"),
                    // A number that f64 would change.
                    "{\"a\": 123456789012345678901234567890}".to_owned(),
                    "{\"a\": 1, \"a\": 2}".to_owned(),
                ]
            };
            for text in broken {
                assert!(merged(client, &entry(), &text).is_err(), "{} took {text}", client.name());
            }
        }
    }

    #[test]
    fn names_are_valid_for_every_client() {
        assert_eq!(entry_name("app-1.2", None), "app-1-2");
        assert_eq!(entry_name("app-main", Some("a.b")), "app-main-a-b");
    }
}
