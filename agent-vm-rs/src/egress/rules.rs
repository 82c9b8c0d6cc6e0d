//! The rules as the proxy reads them (`egress/rules.py`): settings with groups replaced by hosts and secrets by values.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::log::NOT_LISTED;
use super::secrets::{self, Secret};
use crate::confine::Account;
use crate::guest::manifest::Group;
use crate::host::files::{make_dir_durably, write_file};
use crate::machine::egress_settings::{Destination, Egress, Mode};
use crate::machine::paths::MachinePath;
use crate::term::error::Failure;

#[derive(Debug, PartialEq, Serialize)]
struct Rules<'a> {
    version: u32,
    /// For proxies of earlier releases that run.
    mode: &'a str,
    nothing: bool,
    everything: bool,
    intercept_all: bool,
    not_listed: &'a str,
    machine: &'a str,
    peer_uid: u32,
    allow: Vec<Entry>,
    deny: Vec<Entry>,
    secrets: Vec<Value<'a>>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Entry {
    host: String,
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Value<'a> {
    name: &'a str,
    host: &'a str,
    port: u16,
    placeholder: &'a str,
    value: &'a str,
}

fn rules<'a>(
    name: &'a str,
    egress: &'a Egress,
    groups: &[Group],
    secrets: &'a BTreeMap<String, Secret>,
) -> Result<Rules<'a>> {
    let with_value = |spec: &'a crate::machine::egress_settings::SecretSpec| {
        let secret = secrets.get(&spec.name).with_context(|| {
            Failure::new(format!("the value of the secret {} is gone", spec.name))
                .with_hint(format!("agent-vm destroy {name}, and create it with --secret {spec} again"))
        })?;
        Ok(Value {
            name: &spec.name,
            host: &spec.host,
            port: spec.port,
            placeholder: &secret.placeholder,
            value: &secret.value,
        })
    };
    let mut allow = entries(&egress.allow, groups)?;
    // A secret that could not be sent anywhere would be of no use.
    allow.extend(egress.secrets.iter().map(|spec| Entry { host: spec.host.clone(), port: Some(spec.port) }));
    Ok(Rules {
        version: 2,
        mode: egress.mode.as_str(),
        nothing: egress.mode == Mode::None,
        everything: egress.mode == Mode::Open,
        intercept_all: egress.mode == Mode::Monitor,
        not_listed: NOT_LISTED,
        machine: name,
        // The tunnel is ours, so what comes out of it is this user's.
        peer_uid: rustix::process::geteuid().as_raw(),
        allow,
        deny: entries(&egress.deny, groups)?,
        secrets: egress.secrets.iter().map(with_value).collect::<Result<_>>()?,
    })
}

fn entries(destinations: &[Destination], groups: &[Group]) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for destination in destinations {
        match destination {
            Destination::Host(host, port) => entries.push(Entry { host: host.clone(), port: *port }),
            Destination::Group(name) => {
                let group = groups.iter().find(|group| group.name == *name).with_context(|| unknown(name, groups))?;
                entries.extend(group.hosts.iter().map(|host| Entry { host: host.clone(), port: None }));
            }
        }
    }
    Ok(entries)
}

fn unknown(name: &str, groups: &[Group]) -> Failure {
    let known: Vec<_> = groups.iter().map(|group| format!("@{}", group.name)).collect();
    Failure::usage(format!("there is no group @{name}")).with_hint(format!("the groups are {}", known.join(", ")))
}

/// Checks that each group which the lists name is one of these.
///
/// # Errors
/// The first that is none; the hint has those that there are.
pub fn check_groups<'a>(lists: impl IntoIterator<Item = &'a Destination>, groups: &[Group]) -> Result<(), Failure> {
    let unknown_name = |destination: &'a Destination| match destination {
        Destination::Group(name) if groups.iter().all(|group| group.name != *name) => Some(name),
        _ => None,
    };
    lists.into_iter().find_map(unknown_name).map_or(Ok(()), |name| Err(unknown(name, groups)))
}

/// Writes the rules of a machine, in one step: the proxy reads them at its next decision.
///
/// # Errors
/// A group or a secret's value is not there, or the file cannot be written.
pub fn write(machine: &Path, name: &str, egress: &Egress, groups: &[Group]) -> Result<()> {
    let secrets = secrets::load(machine)?;
    let account = Account::unless_user(machine)?;
    // The tunnel is ours or the machine's, so what comes out of it is this user's.
    let peer = account.as_ref().filter(|account| account.stage.is_some()).map(|account| account.uid);
    let peer_uid = peer.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let rules = Rules { peer_uid, ..rules(name, egress, groups, &secrets)? };
    let dir = MachinePath::EgressRulesDir.of(machine);
    make_dir_durably(&dir, 0o700)?;
    let mode = match &account {
        Some(account) => {
            account.may_read(&dir)?;
            0o640
        }
        None => 0o600,
    };
    let text = serde_json::to_string_pretty(&rules).context("failed to write the rules as JSON")?;
    write_file(&MachinePath::EgressRules.of(machine), text + "\n", mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(allow: &[&str]) -> Egress {
        Egress {
            mode: Mode::Allowlist,
            allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
            deny: vec!["*.evil.test".parse().unwrap()],
            secrets: vec!["TOKEN=api.test:8443".parse().unwrap()],
        }
    }

    fn secrets() -> BTreeMap<String, Secret> {
        [("TOKEN".to_owned(), Secret { placeholder: "p".into(), value: "v".into() })].into()
    }

    #[test]
    fn groups_become_hosts_and_a_secrets_host_is_let_through() {
        let groups = [Group { name: "npm".to_owned(), hosts: vec!["registry.npmjs.org".to_owned()] }];
        let (egress, secrets) = (egress(&["@npm", "a.test:22"]), secrets());
        let rules = rules("app-main", &egress, &groups, &secrets).unwrap();
        let hosts: Vec<_> = rules.allow.iter().map(|entry| (entry.host.as_str(), entry.port)).collect();
        assert_eq!(hosts, [("registry.npmjs.org", None), ("a.test", Some(22)), ("api.test", Some(8443))]);
        assert_eq!((rules.secrets[0].value, rules.secrets[0].port), ("v", 8443));
    }

    #[test]
    fn groups_are_checked_against_those_there_are() {
        let groups = [Group { name: "npm".to_owned(), hosts: Vec::new() }];
        check_groups(&egress(&["@npm", "a.test"]).allow, &groups).unwrap();
        let error = check_groups(&egress(&["@npm", "@nope"]).allow, &groups).unwrap_err();
        assert_eq!(error.to_string(), "there is no group @nope");
    }

    #[test]
    fn unknown_groups_and_lost_values_are_said() {
        let error = rules("app-main", &egress(&["@nope"]), &[], &secrets()).unwrap_err();
        assert!(error.to_string().contains("@nope"), "{error}");
        let error = rules("app-main", &egress(&[]), &[], &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains("TOKEN"), "{error}");
    }
}
