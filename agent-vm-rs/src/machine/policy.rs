//! What the toolkit's policy says before a guest is built: values of `lib/policy/` that Nix and the programs in the guest read, too.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex_lite::Regex;
use serde::Deserialize;

/// What MCP is spoken with.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mcp {
    /// Version of the protocol that we offer.
    pub protocol_version: String,
    /// Bytes of one message, everywhere on its way: a tool's answer may hold a file.
    pub longest_message: usize,
}

/// What settings may let a machine reach.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressMode {
    /// Its name.
    pub name: String,
    /// Whether the machine's list of destinations matters.
    pub goes_by_list: bool,
    /// What it lets through, for people.
    pub reaches: String,
}

// The texts are compiled in, and the tests below read them: what is not understood has no value, and lets nothing through.
static MCP: LazyLock<Mcp> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../lib/policy/mcp.json")).unwrap_or_default());
static EGRESS_MODES: LazyLock<Vec<EgressMode>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../lib/policy/egress-modes.json")).unwrap_or_default());
static PATTERNS: LazyLock<BTreeMap<String, String>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../lib/policy/grammar.json")).unwrap_or_default());

/// Returns what MCP is spoken with.
#[must_use]
pub fn mcp() -> &'static Mcp {
    &MCP
}

/// Returns what settings may let a machine reach.
#[must_use]
pub fn egress_modes() -> &'static [EgressMode] {
    &EGRESS_MODES
}

/// What a text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// Name of an MCP server, a part of its URL.
    ServerName,
    /// Name of a package of Debian's.
    DebianPackage,
    /// Attribute path of a package in nixpkgs.
    NixpkgsPackage,
    /// Name that clients call an endpoint by.
    EndpointName,
    /// A destination as people write it.
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

    /// Checks whether the whole of a text is one.
    #[must_use]
    pub fn matches(self, text: &str) -> bool {
        is(self.name(), text)
    }
}

fn is(name: &str, text: &str) -> bool {
    let whole = expand(name).and_then(|pattern| Regex::new(&format!("^(?:{pattern})$")).ok());
    whole.is_some_and(|whole| whole.is_match(text))
}

/// Returns a pattern with those that it names in their places.
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
    fn patterns_mean_here_what_they_mean_in_nix() {
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
    fn the_values_are_there() {
        assert!(mcp().longest_message > 1 << 20 && mcp().protocol_version.starts_with("20"), "{:?}", mcp());
        assert!(egress_modes().iter().any(|mode| !mode.goes_by_list));
    }
}
