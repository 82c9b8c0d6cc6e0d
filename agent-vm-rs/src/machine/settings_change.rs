//! A change of a machine's settings: new values, and keys to reset to their defaults.

use std::collections::BTreeSet;
use std::str::FromStr;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::machine::defaults::Defaults;
use crate::machine::number::Number;
use crate::machine::policy;
use crate::machine::settings::{Settings, SettingsPatch};
use crate::term::did_you_mean::{self, Kind};
use crate::term::error::Failure;
use crate::term::text::one_line;

/// A setting that can change once the machine exists, by its name in `--config` files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the field of Settings of the same name")]
pub enum Key {
    Host,
    Port,
    SshPort,
    Tls,
    Auth,
    Memory,
    Cores,
    Disk,
    Packages,
    Servers,
    NixArgs,
    Egress,
    Allow,
    Deny,
}

/// Keys of a `--config` file whose values cannot change after the machine's creation.
const FIXED: [&str; 4] = ["branch", "all_branches", "guest", "secrets"];

impl Key {
    /// Returns its name in files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Port => "port",
            Self::SshPort => "ssh_port",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Memory => "memory",
            Self::Cores => "cores",
            Self::Disk => "disk",
            Self::Packages => "packages",
            Self::Servers => "servers",
            Self::NixArgs => "nix_args",
            Self::Egress => "egress",
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }

    /// Returns the setting's value as JSON; null for a port that each start can choose.
    #[must_use]
    pub fn value(self, settings: &Settings) -> Value {
        match self {
            Self::Host => json!(settings.host),
            Self::Port if settings.port_asked => json!(settings.port),
            Self::SshPort if settings.ssh_port_asked => json!(settings.ssh_port),
            Self::Port | Self::SshPort => Value::Null,
            Self::Tls => json!(settings.tls),
            Self::Auth => json!(settings.auth),
            Self::Memory => json!(settings.memory),
            Self::Cores => json!(settings.cores),
            Self::Disk => json!(settings.disk),
            Self::Packages => json!(settings.packages),
            Self::Servers => json!(settings.servers),
            Self::NixArgs => json!(settings.nix_args),
            Self::Egress => json!(settings.egress.mode),
            Self::Allow => json!(settings.egress.allow),
            Self::Deny => json!(settings.egress.deny),
        }
    }

    /// Parses a value of the command line. A list is separated by commas, or is JSON.
    fn parse(self, text: &str) -> Result<SettingsPatch, Failure> {
        if let Some(number) = Number::of(self.name()) {
            let value = match number {
                Number::Port | Number::SshPort => number.parse_port(text)?.into(),
                _ => number.parse(text)?,
            };
            return Ok(self.patch(json!(value)).unwrap_or_default());
        }
        let value = match self {
            Self::Host | Self::Egress => Some(json!(text)),
            Self::Packages | Self::Servers | Self::NixArgs | Self::Allow | Self::Deny => {
                let separated = || json!(text.split(',').filter(|word| !word.is_empty()).collect::<Vec<_>>());
                if text.starts_with('[') { serde_json::from_str(text).ok() } else { Some(separated()) }
            }
            _ => text.parse::<bool>().ok().map(|value| json!(value)),
        };
        value.and_then(|value| self.patch(value)).ok_or_else(|| {
            let meant = did_you_mean::own_word(Kind::EgressMode, text).filter(|_| self == Self::Egress);
            let meant = meant.map_or_else(String::new, |mode| format!("did you mean egress={mode}? "));
            Failure::usage(format!("{}={:?} is not valid", self.name(), one_line(text))).with_hint(format!(
                "{meant}{} takes {}",
                self.name(),
                self.takes()
            ))
        })
    }

    fn patch(self, value: Value) -> Option<SettingsPatch> {
        serde_json::from_value(json!({ self.name(): value })).ok()
    }

    /// Describes its values.
    fn takes(self) -> String {
        let text = match self {
            Self::Host => "localhost or an IPv4 address of this host",
            Self::Port | Self::SshPort | Self::Memory | Self::Disk | Self::Cores => {
                return Number::of(self.name()).map_or_else(String::new, Number::takes);
            }
            Self::Tls | Self::Auth => "true or false",
            Self::Packages | Self::Servers => "names, separated by commas",
            Self::NixArgs => "arguments, separated by commas or as a JSON list",
            Self::Egress => return one_of(policy::egress_modes().iter().map(|mode| mode.name.as_str())),
            Self::Allow | Self::Deny => "destinations (HOST, HOST:PORT, *.DOMAIN, @GROUP), separated by commas",
        };
        text.to_owned()
    }
}

/// Returns words as a list for people: `a, b or c`.
fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.collect();
    words.split_last().map_or_else(String::new, |(last, others)| match others {
        [] => (*last).to_owned(),
        _ => format!("{} or {last}", others.join(", ")),
    })
}

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

/// Parses a key of the command line.
///
/// # Errors
/// It is not a setting, or cannot change after the machine's creation.
pub fn parse_key(name: &str) -> Result<Key, Failure> {
    Key::from_str(&name.replace('-', "_"), false).map_err(|_| {
        if FIXED.contains(&name) {
            return Failure::usage(format!("{name} cannot change after the machine's creation")).with_hint(
                "create the machine again; this keeps its commits: agent-vm destroy MACHINE\nthen: agent-vm create",
            );
        }
        let names: Vec<_> = Key::value_variants().iter().map(|key| key.name()).collect();
        let hint = match did_you_mean::suggestion(Kind::Setting, &name.replace('-', "_"), &names) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("settings: {}", names.join(", ")),
        };
        Failure::usage(format!("{:?} is not a setting", one_line(name))).with_hint(hint)
    })
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
    /// Returns the change of a command line. The last value of a key counts.
    ///
    /// # Errors
    /// There is no change, or a key is both set and unset.
    pub fn parse(assignments: &[Assignment], unset: &[Key]) -> Result<Self, Failure> {
        if assignments.is_empty() && unset.is_empty() {
            return Err(Failure::usage("no setting given").with_hint("for example: agent-vm set memory=8192"));
        }
        if let Some(both) = assignments.iter().find(|one| unset.contains(&one.key)) {
            return Err(Failure::usage(format!("{} is both set and unset", both.key.name()))
                .with_hint("give the key once: KEY=VALUE or --unset KEY"));
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
                Key::NixArgs => after.nix_args.clear(),
                Key::Egress => after.egress.mode = defaults.egress,
                Key::Allow => after.egress.allow.clear(),
                Key::Deny => after.egress.deny.clear(),
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
        after.packages = set.packages.unwrap_or(after.packages);
        after.servers = set.servers.unwrap_or(after.servers);
        after.nix_args = set.nix_args.unwrap_or(after.nix_args);
        after.egress.mode = set.egress.unwrap_or(after.egress.mode);
        after.egress.allow = set.allow.unwrap_or(after.egress.allow);
        after.egress.deny = set.deny.unwrap_or(after.egress.deny);
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

    #[test]
    fn values_are_parsed_by_their_key() {
        let change = |words: &[&str]| {
            let words: Vec<Assignment> = words.iter().map(|word| word.parse().unwrap()).collect();
            Change::parse(&words, &[]).unwrap()
        };
        let defaults = Defaults::load().unwrap();
        let after =
            change(&["memory=1024", "memory=2048", "port=8005", "packages=a,b", "nix_args=[\"a,b\"]", "tls=false"])
                .apply_to(&sample(), &defaults);
        assert_eq!((after.memory, after.port, after.port_asked, after.tls), (2048, 8005, true, false));
        assert_eq!((after.packages, after.nix_args), (vec!["a".to_owned(), "b".to_owned()], vec!["a,b".to_owned()]));
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
            "x=1",
            "packages=[1]",
        ] {
            assert!(wrong.parse::<Assignment>().is_err(), "{wrong} was accepted");
        }
        let takes = |text: &str| text.parse::<Assignment>().unwrap_err().hint().unwrap().to_owned();
        assert_eq!(takes("egress=x"), "egress takes none, allowlist, monitor or open");
        assert_eq!(takes("egress=all"), format!("did you mean egress=open? {}", takes("egress=x")));
        for (typed, meant) in [("memroy=1", "memory"), ("egress.mode=open", "egress"), ("cpus=2", "cores")] {
            assert_eq!(takes(typed), format!("did you mean {meant}?"));
        }
        assert!(takes("xyzzy=1").starts_with("settings: host, port"));
        assert_eq!(takes("cores=many"), "cores takes a number from 1 to 255");
        assert!(parse_key("guest").unwrap_err().to_string().contains("cannot change"));
        assert!(Change::parse(&["memory=1".parse().unwrap()], &[Key::Memory]).is_err());
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
