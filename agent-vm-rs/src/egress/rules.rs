//! The rules file that the proxy reads (`egress/rules.py`): a machine's settings, with groups expanded to hosts and the
//! secrets' values added.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::log::NOT_LISTED;
use super::secrets::{self, Secret};
use super::upstream::{self, Upstream};
use crate::confine::Account;
use crate::guest::manifest::Group;
use crate::host::files::{make_dir_durably, read_if_there, write_file};
use crate::machine::egress_settings::{Destination, Egress, Mode};
use crate::machine::paths::MachinePath;
use crate::term::error::Failure;

#[derive(Debug, PartialEq, Serialize)]
struct Rules<'a> {
    version: u32,
    /// Not read by the proxy, except by running ones of earlier releases: see [`mode_in_force`].
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
    upstream: Option<Upstream>,
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
            Failure::new(format!("the value of the secret {} is missing", spec.name))
                .with_hint(format!("create the machine again with --secret {spec}, after agent-vm destroy {name}"))
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
    // The proxy must let requests to a secret's host through.
    allow.extend(egress.secrets.iter().map(|spec| Entry { host: spec.host.clone(), port: Some(spec.port) }));
    Ok(Rules {
        version: 2,
        mode: egress.mode.as_str(),
        nothing: egress.mode == Mode::None,
        everything: egress.mode == Mode::Open,
        intercept_all: egress.mode == Mode::Monitor,
        not_listed: NOT_LISTED,
        machine: name,
        // The tunnel's ssh runs as this user, so connections to the proxy come from it.
        peer_uid: rustix::process::geteuid().as_raw(),
        allow,
        deny: entries(&egress.deny, groups)?,
        secrets: egress.secrets.iter().map(with_value).collect::<Result<_>>()?,
        upstream: None,
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
    Failure::usage(format!("unknown egress group @{name}")).with_hint(format!("known groups: {}", known.join(", ")))
}

/// Checks that every group in the lists is one of `groups`.
///
/// # Errors
/// The first unknown group; the hint lists the known ones.
pub fn check_groups<'a>(lists: impl IntoIterator<Item = &'a Destination>, groups: &[Group]) -> Result<(), Failure> {
    let unknown_name = |destination: &'a Destination| match destination {
        Destination::Group(name) if groups.iter().all(|group| group.name != *name) => Some(name),
        _ => None,
    };
    lists.into_iter().find_map(unknown_name).map_or(Ok(()), |name| Err(unknown(name, groups)))
}

/// Checks that no host in the lists has the name of a group, which is probably meant. A host with a port is one.
///
/// # Errors
/// The first name of a group. The hint starts with what `instead` returns for it.
pub fn refuse_group_names<'a>(
    lists: impl IntoIterator<Item = &'a Destination>,
    groups: &[Group],
    instead: impl Fn(&str) -> String,
) -> Result<(), Failure> {
    let is_group = |name: &&str| groups.iter().any(|group| group.name == *name);
    let found = lists.into_iter().filter_map(Destination::single_label).find(is_group);
    found.map_or(Ok(()), |name| {
        Err(Failure::usage(format!("{name} is a group of hosts: its name starts with @")).with_hint(instead(name)))
    })
}

/// Returns the mode of a machine's rules file; None if it cannot be read. While the machine runs, this mode is in force, and
/// its settings may have another one for the next start.
#[must_use]
pub fn mode_in_force(machine: &Path) -> Option<Mode> {
    #[derive(Deserialize)]
    struct Written {
        mode: Mode,
    }
    let text = read_if_there(&MachinePath::EgressRules.of(machine)).ok()??;
    serde_json::from_str::<Written>(&text).ok().map(|written| written.mode)
}

/// Writes the rules file of a machine atomically: the proxy reads it at its next decision.
///
/// # Errors
/// A group is unknown, a secret's value is missing, or the file cannot be written.
pub fn write(machine: &Path, name: &str, egress: &Egress, groups: &[Group]) -> Result<()> {
    let secrets = secrets::load(machine)?;
    let account = Account::unless_user(machine)?;
    // The tunnel's ssh runs as this user or as the machine's account, and the proxy accepts connections of that user only.
    let peer = account.as_ref().filter(|account| account.stage.is_some()).map(|account| account.uid);
    let peer_uid = peer.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let rules = Rules { peer_uid, upstream: upstream::of_run(machine), ..rules(name, egress, groups, &secrets)? };
    let dir = MachinePath::EgressRulesDir.of(machine);
    make_dir_durably(&dir, 0o700)?;
    let mode = match &account {
        Some(account) => {
            account.may_read(&dir)?;
            0o640
        }
        None => 0o600,
    };
    let text = serde_json::to_string_pretty(&rules).context("failed to encode the egress rules as JSON")?;
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
            ..Egress::default()
        }
    }

    fn secrets() -> BTreeMap<String, Secret> {
        [("TOKEN".to_owned(), Secret { placeholder: "p".into(), value: "v".into() })].into()
    }

    #[test]
    fn groups_expand_to_hosts_and_the_hosts_of_secrets_are_allowed() {
        let groups = [Group { name: "npm".to_owned(), hosts: vec!["registry.npmjs.org".to_owned()] }];
        let (egress, secrets) = (egress(&["@npm", "a.test:22"]), secrets());
        let rules = rules("app-main", &egress, &groups, &secrets).unwrap();
        let hosts: Vec<_> = rules.allow.iter().map(|entry| (entry.host.as_str(), entry.port)).collect();
        assert_eq!(hosts, [("registry.npmjs.org", None), ("a.test", Some(22)), ("api.test", Some(8443))]);
        assert_eq!((rules.secrets[0].value, rules.secrets[0].port), ("v", 8443));
    }

    #[test]
    fn check_groups_refuses_unknown_groups() {
        let groups = [Group { name: "npm".to_owned(), hosts: Vec::new() }];
        check_groups(&egress(&["@npm", "a.test"]).allow, &groups).unwrap();
        let error = check_groups(&egress(&["@npm", "@nope"]).allow, &groups).unwrap_err();
        assert_eq!(error.to_string(), "unknown egress group @nope");
    }

    #[test]
    fn the_name_of_a_group_is_no_host() {
        let groups = [Group { name: "npm".to_owned(), hosts: Vec::new() }];
        let check = |text: &str| refuse_group_names(&egress(&[text]).allow, &groups, |name| format!("write @{name}"));
        for right in ["@npm", "npm:443", "npm.example.org", "registry", "*", "::1"] {
            check(right).unwrap();
        }
        let error = check("npm").unwrap_err();
        assert_eq!(error.hint(), Some("write @npm"));
    }

    #[test]
    fn the_error_names_the_unknown_group_or_missing_secret() {
        let error = rules("app-main", &egress(&["@nope"]), &[], &secrets()).unwrap_err();
        assert!(error.to_string().contains("@nope"), "{error}");
        let error = rules("app-main", &egress(&[]), &[], &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains("TOKEN"), "{error}");
    }
}
