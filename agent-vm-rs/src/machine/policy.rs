//! Values of the policy in `lib/policy/`, which Nix and the programs in the guest read too.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use regex_lite::Regex;
use serde::Deserialize;

/// Parameters of MCP.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mcp {
    /// Protocol version that agent-vm offers.
    pub protocol_version: String,
    /// Start of the paths of named servers in URLs.
    pub servers_path: String,
    /// Size limit of one message in bytes, in every program on its way. A tool's answer may contain a file.
    pub longest_message: usize,
}

/// The workspace in the guest.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workspace {
    /// Where it is mounted.
    pub path: PathBuf,
}

/// The agent's account in the guest.
#[derive(Debug, Default, Deserialize)]
pub struct User {
    /// Its name.
    pub name: String,
}

/// Ports in the guest.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestPorts {
    /// Port on the loopback on which MCP answers without a token, to the reverse proxy.
    pub mcp_inner: u16,
    /// Port on the loopback that leads to the egress proxy.
    pub egress: u16,
}

/// An egress mode.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressMode {
    /// Name of the mode.
    pub name: String,
    /// Whether the machine's allow list applies.
    pub goes_by_list: bool,
    /// Human-readable description of what the guest may reach.
    pub reaches: String,
}

// The files are compiled in and the tests below parse them. A value that could not be parsed would allow nothing.
static MCP: LazyLock<Mcp> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../lib/policy/mcp.json")).unwrap_or_default());
static WORKSPACE: LazyLock<Workspace> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../lib/policy/workspace.json")).unwrap_or_default());
static USER: LazyLock<User> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../lib/policy/user.json")).unwrap_or_default());
static PORTS: LazyLock<GuestPorts> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../lib/policy/ports.json")).unwrap_or_default());
static EGRESS_MODES: LazyLock<Vec<EgressMode>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../lib/policy/egress-modes.json")).unwrap_or_default());
static PATTERNS: LazyLock<BTreeMap<String, String>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../lib/policy/grammar.json")).unwrap_or_default());

/// Returns the parameters of MCP.
#[must_use]
pub fn mcp() -> &'static Mcp {
    &MCP
}

/// Returns the agent's account in the guest.
#[must_use]
pub fn user() -> &'static User {
    &USER
}

/// Returns ports in the guest.
#[must_use]
pub fn ports() -> &'static GuestPorts {
    &PORTS
}

/// Returns the workspace in the guest.
#[must_use]
pub fn workspace() -> &'static Workspace {
    &WORKSPACE
}

/// Returns the egress modes.
#[must_use]
pub fn egress_modes() -> &'static [EgressMode] {
    &EGRESS_MODES
}

/// A kind of text with a grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// Name of an MCP server, a part of its URL.
    ServerName,
    /// Name of a Debian package.
    DebianPackage,
    /// Attribute path of a package in nixpkgs.
    NixpkgsPackage,
    /// Host name by which clients call an endpoint.
    EndpointName,
    /// A destination, as a user writes it.
    Destination,
}

impl Grammar {
    fn name(self) -> &'static str {
        match self {
            Self::ServerName => "server_name",
            Self::DebianPackage => "debian_package",
            Self::NixpkgsPackage => "nixpkgs_package",
            Self::EndpointName => "endpoint_name",
            Self::Destination => "destination",
        }
    }

    /// Returns whether the whole text matches the grammar.
    #[must_use]
    pub fn matches(self, text: &str) -> bool {
        is(self.name(), text)
    }
}

fn is(name: &str, text: &str) -> bool {
    let whole = expand(name).and_then(|pattern| Regex::new(&format!("^(?:{pattern})$")).ok());
    whole.is_some_and(|whole| whole.is_match(text))
}

/// Returns a pattern in which the names of other patterns are replaced by these.
fn expand(name: &str) -> Option<String> {
    let mut parts = PATTERNS.get(name)?.split('<');
    let mut pattern = parts.next()?.to_owned();
    for part in parts {
        let (named, rest) = part.split_once('>')?;
        pattern.push_str(&format!("(?:{}){rest}", expand(named)?));
    }
    Some(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_nix() {
        #[derive(Deserialize)]
        struct Examples {
            right: Vec<String>,
            wrong: Vec<String>,
        }
        let examples = include_str!("../../../lib/tests/grammar-examples.json");
        let examples: BTreeMap<String, Examples> = serde_json::from_str(examples).unwrap();
        for (name, Examples { right, wrong }) in &examples {
            for text in right {
                assert!(is(name, text), "{name} {text:?}");
            }
            for text in wrong {
                assert!(!is(name, text), "{name} {text:?}");
            }
        }
        for grammar in [
            Grammar::ServerName,
            Grammar::DebianPackage,
            Grammar::NixpkgsPackage,
            Grammar::EndpointName,
            Grammar::Destination,
        ] {
            assert!(examples.contains_key(grammar.name()), "{grammar:?} has no examples");
        }
    }

    #[test]
    fn the_compiled_values_parse() {
        assert!(mcp().longest_message > 1 << 20 && mcp().protocol_version.starts_with("20"), "{:?}", mcp());
        assert!(workspace().path.is_absolute(), "{:?}", workspace());
        assert!(egress_modes().iter().any(|mode| !mode.goes_by_list));
    }
}
