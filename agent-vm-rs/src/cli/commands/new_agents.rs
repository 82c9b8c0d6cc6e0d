//! What a machine's coding agents need beside their programs: hosts to reach, and secrets that stay on this host.

use crate::machine::agents::{self, Preset, Secret};
use crate::machine::egress_settings::{Destination, Mode};
use crate::machine::settings::{Settings, SettingsPatch};

/// What agents add to egress settings.
#[derive(Debug, Default)]
pub struct Needs {
    /// Groups of hosts.
    pub allow: Vec<Destination>,
    /// Secrets whose variables have a value.
    pub secrets: Vec<&'static Secret>,
}

impl Needs {
    /// Returns what these agents add. `has` says whether a variable has a value here.
    pub fn of<'a>(names: impl Iterator<Item = &'a String>, has: impl Fn(&str) -> bool) -> Self {
        let mut needs = Self::default();
        for preset in names.filter_map(|name| agents::find(name)) {
            let set: Vec<_> = preset.secrets_set(&has).collect();
            for destination in preset.destinations(&set) {
                if !needs.allow.contains(&destination) {
                    needs.allow.push(destination);
                }
            }
            for secret in set {
                if !needs.secrets.iter().any(|other| other.name == secret.name) {
                    needs.secrets.push(secret);
                }
            }
        }
        needs
    }
}

/// Returns whether a variable of our environment has a value.
#[must_use]
pub fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// Adds to a new machine's settings what its agents need. What they already have stays.
#[must_use]
pub fn complete(patch: SettingsPatch, has: impl Fn(&str) -> bool) -> SettingsPatch {
    let needs = Needs::of(patch.agents.iter().flatten(), has);
    let mut patch = patch;
    for destination in needs.allow {
        let list = patch.allow.get_or_insert_default();
        if !list.contains(&destination) {
            list.push(destination);
        }
    }
    for spec in needs.secrets.iter().filter_map(|secret| secret.spec().ok()) {
        let list = patch.secrets.get_or_insert_default();
        if !list.iter().any(|other| other.name == spec.name) {
            list.push(spec);
        }
    }
    patch
}

/// Returns settings with one more agent and what it needs.
#[must_use]
pub fn added(settings: &Settings, name: &str, has: impl Fn(&str) -> bool) -> Settings {
    let mut after = settings.clone();
    after.agents.push(name.to_owned());
    let egress = &settings.egress;
    let alone = SettingsPatch {
        agents: Some(vec![name.to_owned()]),
        allow: Some(egress.allow.clone()),
        secrets: Some(egress.secrets.clone()),
        ..SettingsPatch::default()
    };
    let patch = complete(alone, has);
    after.egress.allow = patch.allow.unwrap_or_default();
    after.egress.secrets = patch.secrets.unwrap_or_default();
    after
}

/// Returns the agents that a change adds and that the allow list does not let reach their hosts, with the groups to allow.
#[must_use]
pub fn unreachable(before: &Settings, after: &Settings) -> Vec<(String, Vec<String>)> {
    let listed = |group: &&String| !after.egress.allow.contains(&Destination::Group((*group).clone()));
    let new = after.agents.iter().filter(|name| !before.agents.contains(name));
    let missing = new.filter_map(|name| {
        let groups = agents::find(name)?.groups.iter().filter(listed);
        Some((name.clone(), groups.map(|group| format!("@{group}")).collect::<Vec<_>>()))
    });
    let by_list = [Mode::Allowlist, Mode::Monitor].contains(&after.egress.mode);
    missing.filter(|(_, groups)| by_list && !groups.is_empty()).collect()
}

/// Describes what an agent of a machine may reach, and which secrets it can use.
#[must_use]
pub fn notice(preset: &Preset, settings: &Settings) -> String {
    let has = |secret: &&Secret| settings.egress.secrets.iter().any(|spec| spec.name == secret.name);
    let brokered: Vec<_> = preset.secrets.iter().filter(has).map(|secret| secret.name.as_str()).collect();
    let groups: Vec<_> = settings
        .egress
        .allow
        .iter()
        .filter(|allowed| matches!(allowed, Destination::Group(group) if preset.groups.contains(group) || preset.secrets.iter().any(|secret| secret.group.as_ref() == Some(group))))
        .map(ToString::to_string)
        .collect();
    let reach = if groups.is_empty() { String::new() } else { format!("may reach {}; ", groups.join(", ")) };
    let login = if brokered.is_empty() {
        let names: Vec<_> = preset.secrets.iter().map(|secret| secret.name.as_str()).collect();
        let log_in = if preset.has_login() { "log in within the machine, or " } else { "" };
        format!("{log_in}set {} before the machine is created", one_of(&names))
    } else {
        format!("uses {} through the egress proxy; the value stays on this host", brokered.join(", "))
    };
    format!("{}: {reach}{login}", preset.title)
}

/// Names one variable, or several of which one is enough.
pub fn one_of(names: &[&str]) -> String {
    if let [name] = names { (*name).to_owned() } else { format!("one of {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::settings::tests::sample;

    fn texts<T: ToString>(list: &[T]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_agent_brings_its_hosts_and_the_secrets_that_are_set() {
        let patch = |agents: &[&str]| SettingsPatch {
            agents: Some(agents.iter().map(|name| (*name).to_owned()).collect()),
            ..SettingsPatch::default()
        };
        let has = |name: &str| ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"].contains(&name);
        let after = complete(patch(&["claude", "opencode"]), has);
        assert_eq!(texts(&after.allow.unwrap()), ["@anthropic", "@opencode", "@openai"]);
        let secrets = ["ANTHROPIC_API_KEY=api.anthropic.com", "OPENAI_API_KEY=api.openai.com"];
        assert_eq!(texts(&after.secrets.unwrap()), secrets);
        // What the user chose stays.
        let chosen = SettingsPatch {
            allow: Some(vec!["@anthropic".parse().unwrap(), "a.test".parse().unwrap()]),
            secrets: Some(vec!["ANTHROPIC_API_KEY=gateway.test".parse().unwrap()]),
            ..patch(&["claude"])
        };
        let after = complete(chosen, has);
        assert_eq!(texts(&after.allow.unwrap()), ["@anthropic", "a.test"]);
        assert_eq!(texts(&after.secrets.unwrap()), ["ANTHROPIC_API_KEY=gateway.test"]);
        // Control: without agents, nothing is added.
        assert_eq!(complete(SettingsPatch::default(), |_| true), SettingsPatch::default());
        assert!(complete(patch(&["claude"]), |_| false).secrets.is_none());
    }

    #[test]
    fn an_added_agent_may_need_hosts() {
        let before = Settings { agents: vec!["codex".to_owned()], ..sample() };
        let mut after = before.clone();
        after.agents.push("claude".to_owned());
        after.egress.mode = Mode::Allowlist;
        assert_eq!(unreachable(&before, &after), [("claude".to_owned(), vec!["@anthropic".to_owned()])]);
        // Control: with the group, in the mode `open`, and for an agent that it had, there is nothing to allow.
        let mut listed = after.clone();
        listed.egress.allow.push("@anthropic".parse().unwrap());
        let mut open = after.clone();
        open.egress.mode = Mode::Open;
        assert!([&listed, &open, &before].iter().all(|after| unreachable(&before, after).is_empty()));
    }

    #[test]
    fn the_notice_says_how_the_agent_logs_in() {
        let settings =
            added(&Settings { agents: Vec::new(), ..sample() }, "claude", |name| name == "ANTHROPIC_API_KEY");
        assert_eq!(settings.agents, ["claude"]);
        assert_eq!(
            notice(agents::find("claude").unwrap(), &settings),
            "Claude Code: may reach @anthropic; uses ANTHROPIC_API_KEY through the egress proxy; the value stays on this host"
        );
        let settings = added(&Settings { agents: Vec::new(), ..sample() }, "codex", |_| false);
        assert_eq!(
            notice(agents::find("codex").unwrap(), &settings),
            "Codex: may reach @openai; log in within the machine, or set OPENAI_API_KEY before the machine is created"
        );
    }
}
