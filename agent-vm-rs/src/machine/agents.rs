//! The coding agents that a machine can have: presets of the policy in `lib/policy/agents/`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use clap::builder::PossibleValuesParser;
use serde::Deserialize;

use crate::machine::egress_settings::{Destination, SecretSpec};
use crate::term::did_you_mean::nearest;
use crate::term::error::Failure;
use crate::term::text::one_line;

/// A coding agent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Name for people.
    pub title: String,
    /// Its program.
    pub command: String,
    /// Arguments that it always gets.
    pub arguments: Vec<String>,
    /// Arguments with which it asks nothing.
    pub unattended: Vec<String>,
    /// How it gets a task.
    pub task: Task,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// Shell commands that run before it.
    pub prepare: Vec<String>,
    /// How it learns the machine's MCP servers; None if it knows no MCP.
    pub mcp: Option<Mcp>,
    /// Groups of hosts that it needs.
    pub groups: Vec<String>,
    /// Variables whose values the egress proxy inserts.
    pub secrets: Vec<Secret>,
    /// Its files below the home directory.
    pub state: Vec<String>,
    /// The guests' parts, which only Nix reads.
    pub debian: serde::de::IgnoredAny,
    /// See [`Self::debian`].
    pub nixos: serde::de::IgnoredAny,
}

/// How an agent gets a task. `{task}` stands for its text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Words after the program.
    pub command: Vec<String>,
    /// Last words.
    pub text: Vec<String>,
}

/// How an agent learns the MCP servers: a jq filter of a list of `{name, url}`, and where its output goes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mcp {
    /// The filter.
    pub filter: String,
    /// An argument for each line; `{}` stands for the line.
    pub argument: Option<String>,
    /// A variable that has the output.
    pub environment: Option<String>,
    /// A JSON file below the home directory, into which the output is merged.
    pub file: Option<String>,
}

/// A variable whose value the egress proxy inserts in requests to one host.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// Name of the variable, on the host and in the guest.
    pub name: String,
    /// The host.
    pub host: String,
    /// Group of hosts to allow with it.
    pub group: Option<String>,
}

impl Secret {
    /// Returns it as a setting of a machine.
    ///
    /// # Errors
    /// Never for a preset that passed the tests.
    pub fn spec(&self) -> Result<SecretSpec, Failure> {
        format!("{}={}", self.name, self.host).parse()
    }
}

const TEXTS: [(&str, &str); 5] = [
    ("aider", include_str!("../../../lib/policy/agents/aider.json")),
    ("claude", include_str!("../../../lib/policy/agents/claude.json")),
    ("codex", include_str!("../../../lib/policy/agents/codex.json")),
    ("gemini", include_str!("../../../lib/policy/agents/gemini.json")),
    ("opencode", include_str!("../../../lib/policy/agents/opencode.json")),
];

// The files are compiled in and the tests below parse them.
static PRESETS: LazyLock<BTreeMap<&'static str, Preset>> =
    LazyLock::new(|| TEXTS.iter().filter_map(|(name, text)| Some((*name, serde_json::from_str(text).ok()?))).collect());

/// Returns all agents by name.
pub fn all() -> impl Iterator<Item = (&'static str, &'static Preset)> {
    PRESETS.iter().map(|(name, preset)| (*name, preset))
}

/// Returns the agent with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.get(name)
}

/// Returns a parser of an agent's name.
#[must_use]
pub fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(TEXTS.map(|(name, _)| name))
}

/// Checks that all of these agents exist.
///
/// # Errors
/// The first unknown name, as [`unknown`].
pub fn check<'a>(mut asked: impl Iterator<Item = &'a String>) -> Result<(), Failure> {
    asked.find(|name| find(name).is_none()).map_or(Ok(()), |name| Err(unknown(name)))
}

/// Returns the error for an unknown name, with the most similar one and all known ones as a hint.
#[must_use]
pub fn unknown(unknown: &str) -> Failure {
    let known = TEXTS.map(|(name, _)| name);
    let meant = nearest(unknown, &known).map_or_else(String::new, |name| format!("did you mean {name}? "));
    Failure::usage(format!("there is no agent {}", one_line(unknown)))
        .with_hint(format!("{meant}known agents: {}", known.join(", ")))
}

impl Preset {
    /// Returns the secrets whose variables `has` has.
    pub fn secrets_set(&self, has: impl Fn(&str) -> bool) -> impl Iterator<Item = &Secret> {
        self.secrets.iter().filter(move |secret| has(&secret.name))
    }

    /// Returns whether its user can log in within the machine: it has a service of its own.
    #[must_use]
    pub fn has_login(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Returns the groups to allow with these secrets, each once.
    #[must_use]
    pub fn destinations(&self, secrets: &[&Secret]) -> Vec<Destination> {
        let groups = self.groups.iter().chain(secrets.iter().filter_map(|secret| secret.group.as_ref()));
        groups.map(|group| Destination::Group(group.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn is_below_home(path: &str) -> bool {
        path.starts_with('.') && !path.contains("..")
    }

    #[test]
    fn every_preset_of_the_policy_is_complete() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lib/policy/agents");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<_> = files.collect();
        files.sort();
        assert_eq!(files, TEXTS.map(|(name, _)| format!("{name}.json")));
        let groups: BTreeMap<String, Vec<Destination>> =
            serde_json::from_str(include_str!("../../../lib/policy/egress-groups.json")).unwrap();
        for (name, text) in TEXTS {
            let preset: Preset = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!preset.unattended.is_empty() && !preset.secrets.is_empty() && !preset.state.is_empty(), "{name}");
            assert_eq!(preset.task.text.iter().filter(|word| word.contains("{task}")).count(), 1, "{name}");
            assert!(preset.state.iter().all(|path| is_below_home(path)), "{name}");
            if let Some(Mcp { argument, environment, file, .. }) = &preset.mcp {
                assert_eq!([argument, environment, file].into_iter().flatten().count(), 1, "{name}");
                assert!(argument.as_ref().is_none_or(|argument| argument.contains("{}")), "{name}");
                assert!(file.as_deref().is_none_or(is_below_home), "{name}");
            }
            let all: Vec<_> = preset.secrets.iter().collect();
            // The host of each secret is allowed with it.
            for secret in &all {
                let spec = secret.spec().unwrap();
                let allowed = preset.destinations(&[secret]);
                let allowed =
                    allowed.iter().filter_map(|group| groups.get(group.to_string().strip_prefix('@')?)).flatten();
                assert!(allowed.into_iter().any(|host| host.to_string() == spec.host), "{name}: {}", spec.host);
            }
        }
    }

    #[test]
    fn an_unknown_agent_is_refused_with_the_known_ones() {
        let check = |names: &[&str]| check(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>().iter());
        assert!(check(&[]).is_ok() && check(&["claude", "codex"]).is_ok());
        let error = check(&["claude", "cladue"]).unwrap_err();
        assert_eq!(error.to_string(), "there is no agent cladue");
        assert_eq!(error.hint(), Some("did you mean claude? known agents: aider, claude, codex, gemini, opencode"));
    }

    #[test]
    fn a_secret_that_is_set_brings_its_group() {
        let preset = find("opencode").unwrap();
        let set: Vec<_> = preset.secrets_set(|name| name == "OPENAI_API_KEY").collect();
        let groups: Vec<_> = preset.destinations(&set).iter().map(ToString::to_string).collect();
        assert_eq!(groups, ["@opencode", "@openai"]);
        assert_eq!(preset.destinations(&[]).len(), 1);
    }
}
