//! A change of a machine's settings: new values, and keys to reset to their defaults.

use std::collections::BTreeSet;
use std::str::FromStr;

use clap::ValueEnum as _;
use serde_json::Value;

use crate::machine::defaults::Defaults;
use crate::machine::egress_settings::HostProxy;
use crate::machine::mcp_proxy::McpProxy;
use crate::machine::settings::{Settings, SettingsPatch};
use crate::machine::settings_key::{Key, parse_key};
use crate::machine::time_limit::TimeLimit;
use crate::term::error::Failure;
use crate::term::text::one_line;

/// `KEY=VALUE` of a command line.
#[derive(Clone, Debug)]
pub struct Assignment {
    key: Key,
    patch: SettingsPatch,
}

impl FromStr for Assignment {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            Failure::usage(format!("{:?} has no =", one_line(text)))
                .with_hint("write KEY=VALUE, such as memory=8192; the machine's name comes before it")
        })?;
        let key = parse_key(name)?;
        Ok(Self { key, patch: key.parse(value)? })
    }
}

/// A change of settings.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// New values.
    pub set: SettingsPatch,
    /// Keys to reset to their defaults.
    pub unset: BTreeSet<Key>,
}

impl Change {
    /// Returns the change of a command line.
    ///
    /// # Errors
    /// A key is set twice, or both set and unset.
    pub fn parse(assignments: &[Assignment], unset: &[Key]) -> Result<Self, Failure> {
        if let Some(both) = assignments.iter().find(|one| unset.contains(&one.key)) {
            return Err(Failure::usage(format!("{} is both set and unset", both.key.name()))
                .with_hint("give the key once: KEY=VALUE or --unset KEY"));
        }
        let mut keys = BTreeSet::new();
        if let Some(twice) = assignments.iter().find(|one| !keys.insert(one.key)) {
            let key = twice.key.name();
            return Err(Failure::usage(format!("{key} is set twice")).with_hint(format!("give it once: {key}=VALUE")));
        }
        let set = assignments.iter().fold(SettingsPatch::default(), |all, one| one.patch.clone().or(all));
        Ok(Self { set, unset: unset.iter().copied().collect() })
    }

    /// Returns the settings after this change.
    #[must_use]
    pub fn apply_to(&self, settings: &Settings, defaults: &Defaults) -> Settings {
        let mut after = settings.clone();
        for key in &self.unset {
            match key {
                Key::Host => after.host.clone_from(&defaults.host),
                Key::Port => after.port_asked = false,
                Key::SshPort => after.ssh_port_asked = false,
                Key::Tls => after.tls = true,
                Key::Auth => after.auth = true,
                Key::Memory => after.memory = defaults.memory,
                Key::Cores => after.cores = defaults.cores,
                Key::Disk => after.disk = defaults.disk,
                Key::Packages => after.packages.clear(),
                Key::Servers => after.servers.clear(),
                Key::Proxy => after.proxy = McpProxy::default(),
                Key::Agents => after.agents.clear(),
                Key::NixArgs => after.nix_args.clear(),
                Key::Egress => after.egress.mode = defaults.egress,
                Key::Allow => after.egress.allow.clear(),
                Key::Deny => after.egress.deny.clear(),
                Key::HostProxy => after.egress.host_proxy = HostProxy::default(),
                Key::IdleTimeout => after.idle_timeout = TimeLimit::default(),
                Key::Ttl => after.ttl = TimeLimit::default(),
                // A limit.
                key => key.limit().into_iter().for_each(|limit| after.limits.set(limit, None)),
            }
        }
        let set = self.set.clone();
        if let Some(port) = set.port {
            (after.port, after.port_asked) = (port, true);
        }
        if let Some(port) = set.ssh_port {
            (after.ssh_port, after.ssh_port_asked) = (port, true);
        }
        after.host = set.host.unwrap_or(after.host);
        after.tls = set.tls.unwrap_or(after.tls);
        after.auth = set.auth.unwrap_or(after.auth);
        after.memory = set.memory.unwrap_or(after.memory);
        after.cores = set.cores.unwrap_or(after.cores);
        after.disk = set.disk.unwrap_or(after.disk);
        after.limits = set.limits.or(&after.limits);
        after.packages = set.packages.unwrap_or(after.packages);
        after.servers = set.servers.unwrap_or(after.servers);
        after.proxy = set.proxy.unwrap_or(after.proxy);
        after.agents = set.agents.unwrap_or(after.agents);
        after.nix_args = set.nix_args.unwrap_or(after.nix_args);
        after.egress.mode = set.egress.unwrap_or(after.egress.mode);
        after.egress.allow = set.allow.unwrap_or(after.egress.allow);
        after.egress.deny = set.deny.unwrap_or(after.egress.deny);
        after.egress.host_proxy = set.host_proxy.unwrap_or(after.egress.host_proxy);
        after.idle_timeout = set.idle_timeout.unwrap_or(after.idle_timeout);
        after.ttl = set.ttl.unwrap_or(after.ttl);
        after
    }
}

/// Returns the keys whose values differ, with both values.
#[must_use]
pub fn differences(before: &Settings, after: &Settings) -> Vec<(Key, Value, Value)> {
    let values = Key::value_variants().iter().map(|key| (*key, key.value(before), key.value(after)));
    values.filter(|(_, before, after)| before != after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::settings::tests::sample;

    fn after_limits() -> Settings {
        Settings { ttl: "8h".parse().unwrap(), ..sample() }
    }

    #[test]
    fn values_are_parsed_by_their_key() {
        let change = |words: &[&str]| {
            let words: Vec<Assignment> = words.iter().map(|word| word.parse().unwrap()).collect();
            Change::parse(&words, &[]).unwrap()
        };
        let defaults = Defaults::load().unwrap();
        let after = change(&[
            "memory=2048",
            "port=8005",
            "packages=a,b",
            "nix_args=[\"a,b\"]",
            "tls=false",
            "idle-timeout=30m",
            "ttl=8h",
        ])
        .apply_to(&sample(), &defaults);
        assert_eq!((after.memory, after.port, after.port_asked, after.tls), (2048, 8005, true, false));
        assert_eq!((after.packages, after.nix_args), (vec!["a".to_owned(), "b".to_owned()], vec!["a,b".to_owned()]));
        assert_eq!((after.idle_timeout.to_string(), after.ttl.to_string()), ("30m".to_owned(), "8h".to_owned()));
        assert_eq!(change(&["ttl=none"]).apply_to(&after_limits(), &defaults).ttl, TimeLimit::default());
        assert!(change(&["packages="]).apply_to(&sample(), &defaults).packages.is_empty());
        for wrong in [
            "memory",
            "memory=",
            "memory=many",
            "port=0",
            "port=70000",
            "tls=maybe",
            "egress=all",
            "allow=a b",
            "idle_timeout=30",
            "ttl=soon",
            "x=1",
            "packages=[1]",
        ] {
            assert!(wrong.parse::<Assignment>().is_err(), "{wrong} was accepted");
        }
        let takes = |text: &str| text.parse::<Assignment>().unwrap_err().hint().unwrap().to_owned();
        assert_eq!(takes("egress=x"), "egress takes none, allowlist, monitor or open");
        assert_eq!(takes("egress=all"), format!("did you mean egress=open? {}", takes("egress=x")));
        for (typed, meant) in [
            ("memroy=1", "memory"),
            ("egress.mode=open", "egress"),
            ("cpus=2", "cores"),
            ("MEMORY=1", "memory"),
            ("Memory=1", "memory"),
        ] {
            assert_eq!(takes(typed), format!("did you mean {meant}?"));
        }
        assert!(takes("xyzzy=1").starts_with("settings: host, port"));
        assert_eq!(takes("cores=many"), "cores takes a number from 1 to 255");
        assert!(parse_key("guest").unwrap_err().to_string().contains("cannot change"));
        assert!(Change::parse(&["memory=1".parse().unwrap()], &[Key::Memory]).is_err());
        for (first, second) in [("memory=1", "memory=1"), ("ssh_port=1", "ssh-port=2")] {
            let twice = [first.parse().unwrap(), "cores=1".parse().unwrap(), second.parse().unwrap()];
            assert!(Change::parse(&twice, &[]).unwrap_err().to_string().ends_with("is set twice"), "{first}");
        }
    }

    #[test]
    fn every_key_can_be_reset() {
        let defaults = Defaults::load().unwrap();
        let unset = Key::value_variants().iter().copied().collect();
        let after = Change { set: SettingsPatch::default(), unset }.apply_to(&sample(), &defaults);
        assert_eq!((after.memory, after.cores, after.disk), (defaults.memory, defaults.cores, defaults.disk));
        assert!(!after.port_asked && !after.ssh_port_asked && after.tls && after.auth && after.egress.allow.is_empty());
    }
}
