//! What the user asked for: `config.json` of a machine, and the file that `create --config` takes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::host::files::read_text;
use crate::machine::branch::BranchName;
use crate::machine::egress_settings::Egress;
use crate::machine::forward::Forward;
pub use crate::machine::guest_kind::GuestKind;
use crate::machine::limits::Limits;
use crate::machine::mcp_proxy::McpProxy;
pub use crate::machine::settings_patch::SettingsPatch;
use crate::machine::time_limit::TimeLimit;
use crate::term::error::Failure;

/// Version of `config.json` that this program writes, and the newest it reads. It grows with each release that has new
/// settings, so that an older agent-vm refuses the file instead of losing them. Version 2 has limits and times.
pub const VERSION: u32 = 2;

/// Settings of one machine. Every field is what was asked for or, once, at creation, a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Version of this file.
    pub version: u32,
    /// Directory of the repository that the machine belongs to.
    pub source: PathBuf,
    /// Where the file system of that directory was mounted. Older machines do not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_mount: Option<PathBuf>,
    /// Branch the machine is for.
    pub branch: BranchName,
    /// Whether it got all branches of the repository. Older machines do not know it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub all_branches: bool,
    /// When it was created.
    pub created: Timestamp,
    /// Which guest it boots.
    pub guest: GuestKind,
    /// Host address of the machine's ports: `localhost`, or an IPv4 address of this host.
    pub host: String,
    /// Host port of MCP.
    pub port: u16,
    /// Whether `port` was asked for; if not, a start may take the next free one.
    pub port_asked: bool,
    /// Host port of ssh.
    pub ssh_port: u16,
    /// Whether `ssh_port` was asked for.
    pub ssh_port_asked: bool,
    /// Whether MCP is reached over TLS only. Machines that were made before there was a choice have it, too.
    #[serde(default = "on")]
    pub tls: bool,
    /// Whether MCP asks for the machine's token.
    #[serde(default = "on")]
    pub auth: bool,
    /// Guest memory, MiB.
    pub memory: u32,
    /// Virtual CPUs.
    pub cores: u32,
    /// Size of the machine's own disk, MiB.
    pub disk: u32,
    /// Further limits of what it may use of this host.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// Packages the guest has beside its own.
    pub packages: Vec<String>,
    /// MCP servers it has beside its own, by name.
    #[serde(default)]
    pub servers: Vec<String>,
    /// What serves MCP.
    #[serde(default, skip_serializing_if = "is_default")]
    pub proxy: McpProxy,
    /// Coding agents that are installed in it, by name.
    #[serde(default)]
    pub agents: Vec<String>,
    /// Arguments for every call of Nix.
    #[serde(default)]
    pub nix_args: Vec<String>,
    /// What it may reach.
    #[serde(default)]
    pub egress: Egress,
    /// Ports of this host that each start forwards to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<Forward>,
    /// Time without use after which the machine is stopped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub idle_timeout: TimeLimit,
    /// Time after its start at which the machine is stopped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ttl: TimeLimit,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn on() -> bool {
    true
}

/// Settings that a newer agent-vm wrote.
#[derive(Debug)]
struct Newer(u32);

impl std::fmt::Display for Newer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it has version {}; this agent-vm reads up to {VERSION}", self.0)
    }
}

impl std::error::Error for Newer {}

impl Settings {
    /// Reads a machine's `config.json`.
    ///
    /// # Errors
    /// The file is missing, corrupt, has an unknown field, or is of a newer version.
    pub fn read(path: &Path) -> Result<Self> {
        read_text(path).and_then(|text| Self::parse(&text)).map_err(|error| {
            let unusable = Failure::new(format!("the settings in {} are not usable", path.display()));
            if error.is::<Newer>() {
                return error.context(unusable.with_hint("use the agent-vm that wrote them, or a newer one"));
            }
            let name = path.parent().and_then(Path::file_name).unwrap_or_default().display();
            error.context(unusable.with_hint(format!(
                "fix the file, or remove the machine and keep its commits: agent-vm destroy {name} --yes"
            )))
        })
    }

    fn parse(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        // What an older file lacks has a default that is what the machine had then. The next change of the settings writes all.
        let settings = serde_json::from_str::<Self>(text);
        // A newer one may have fields that are not known here.
        let version = match &settings {
            Ok(settings) => settings.version,
            Err(_) => serde_json::from_str::<Versioned>(text)?.version,
        };
        if version > VERSION {
            return Err(Newer(version).into());
        }
        Ok(Self { version: VERSION, ..settings? })
    }

    /// Returns a warning if TLS or the token is switched off; None if both are on.
    #[must_use]
    pub fn endpoint_warning(&self) -> Option<String> {
        let who = if self.host == "localhost" {
            "every user and web page of this host"
        } else {
            "everyone who can connect to it"
        };
        match (self.tls, self.auth) {
            (true, true) => None,
            (true, false) => {
                Some(format!("warning: MCP requires no token (--no-auth): {who} can use the machine's tools"))
            }
            (false, true) => Some(
                "warning: MCP is not encrypted (--no-tls): programs on the network path can read the token and all data"
                    .to_owned(),
            ),
            (false, false) => Some(format!(
                "warning: MCP is neither encrypted (--no-tls) nor requires a token (--no-auth): {who} can use the machine's tools"
            )),
        }
    }

    /// The text of `config.json`.
    ///
    /// # Errors
    /// A path that is no UTF-8.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self).context("failed to write the settings as JSON")? + "\n")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Settings as `config.json` holds them.
    pub(crate) const SAMPLE: &str = include_str!("../../tests/data/config.json");

    pub(crate) fn sample() -> Settings {
        Settings::parse(SAMPLE).unwrap()
    }

    #[test]
    fn settings_survive_the_file() {
        assert_eq!(Settings::parse(&sample().to_json().unwrap()).unwrap(), sample());
        assert_eq!(serde_json::to_value(sample()).unwrap(), serde_json::from_str::<serde_json::Value>(SAMPLE).unwrap());
    }

    #[test]
    fn newer_versions_unknown_fields_and_hostile_branches_are_refused() {
        let text = sample().to_json().unwrap();
        let error = |text: &str| format!("{:#}", Settings::parse(text).unwrap_err());
        let newer = text.replace("\"version\": 2", "\"version\": 3");
        assert!(error(&newer).contains("it has version 3; this agent-vm reads up to 2"));
        assert!(error(&text.replace("\"memory\"", "\"memroy\"")).contains("memroy"));
        assert!(error(&text.replace("\"main\"", "\"../../etc\"")).contains("not a branch name"));
        assert!(error("{").contains("EOF"));
    }
}
