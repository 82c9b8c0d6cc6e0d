//! The settings that can change once a machine exists, and their values on the command line.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::machine::agents;
use crate::machine::branch::BranchName;
use crate::machine::egress_settings::HostProxy;
use crate::machine::name::VmName;
use crate::machine::number::Number;
use crate::machine::policy;
use crate::machine::settings::{Settings, SettingsPatch};
use crate::machine::time_limit;
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
    CpuQuota,
    Pids,
    DiskIops,
    DiskBandwidth,
    NetworkBandwidth,
    WorkspaceSize,
    KeepFree,
    Packages,
    Servers,
    Proxy,
    Agents,
    NixArgs,
    Egress,
    Allow,
    Deny,
    HostProxy,
    IdleTimeout,
    Ttl,
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
            Self::CpuQuota => "cpu_quota",
            Self::Pids => "pids",
            Self::DiskIops => "disk_iops",
            Self::DiskBandwidth => "disk_bandwidth",
            Self::NetworkBandwidth => "network_bandwidth",
            Self::WorkspaceSize => "workspace_size",
            Self::KeepFree => "keep_free",
            Self::Packages => "packages",
            Self::Servers => "servers",
            Self::Proxy => "proxy",
            Self::Agents => "agents",
            Self::NixArgs => "nix_args",
            Self::Egress => "egress",
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::HostProxy => "host_proxy",
            Self::IdleTimeout => "idle_timeout",
            Self::Ttl => "ttl",
        }
    }

    /// Returns the limit that it is; None if it is another setting.
    #[must_use]
    pub fn limit(self) -> Option<Number> {
        Number::LIMITS.into_iter().find(|limit| limit.name() == self.name())
    }

    /// Returns the setting's value as JSON; null for a port that each start can choose, and for no limit.
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
            Self::CpuQuota
            | Self::Pids
            | Self::DiskIops
            | Self::DiskBandwidth
            | Self::NetworkBandwidth
            | Self::WorkspaceSize
            | Self::KeepFree => json!(self.limit().and_then(|limit| settings.limits.of(limit))),
            Self::Packages => json!(settings.packages),
            Self::Servers => json!(settings.servers),
            Self::Proxy => json!(settings.proxy),
            Self::Agents => json!(settings.agents),
            Self::NixArgs => json!(settings.nix_args),
            Self::Egress => json!(settings.egress.mode),
            Self::Allow => json!(settings.egress.allow),
            Self::Deny => json!(settings.egress.deny),
            Self::HostProxy => json!(settings.egress.host_proxy),
            Self::IdleTimeout => json!(settings.idle_timeout),
            Self::Ttl => json!(settings.ttl),
        }
    }

    /// Returns whether its values can be neither secret nor a part of a secret: they may be recorded.
    #[must_use]
    pub const fn is_public(self) -> bool {
        // A proxy's URL and an argument for Nix may name a password or a token.
        !matches!(self, Self::HostProxy | Self::NixArgs)
    }

    /// Parses a value of the command line. A list is separated by commas, or is JSON.
    ///
    /// # Errors
    /// It is not a value of this setting.
    pub fn parse(self, text: &str) -> Result<SettingsPatch, Failure> {
        if let Some(number) = Number::of(self.name()) {
            let value = match number {
                Number::Port | Number::SshPort => number.parse_port(text)?.into(),
                _ => number.parse(text)?,
            };
            return Ok(self.patch(json!(value)).unwrap_or_default());
        }
        let value = match self {
            // Its error must not repeat the text, which may have a password.
            Self::HostProxy => Some(json!(text.parse::<HostProxy>()?)),
            Self::Host | Self::Egress | Self::Proxy | Self::IdleTimeout | Self::Ttl => Some(json!(text)),
            Self::Packages | Self::Servers | Self::Agents | Self::NixArgs | Self::Allow | Self::Deny => {
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
        if let Some(number) = Number::of(self.name()) {
            return number.takes();
        }
        let text = match self {
            Self::Host => "localhost or an IPv4 address of this host",
            Self::Tls | Self::Auth => "true or false",
            Self::IdleTimeout | Self::Ttl => time_limit::TAKES,
            Self::HostProxy => "auto, none or the URL of an HTTP proxy",
            Self::Packages | Self::Servers => "names, separated by commas",
            Self::Proxy => "gateway or mcp-proxy",
            Self::Agents => {
                return agents::all().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
                    + ", or several, separated by commas";
            }
            Self::NixArgs => "arguments, separated by commas or as a JSON list",
            Self::Egress => return one_of(policy::egress_modes().iter().map(|mode| mode.name.as_str())),
            Self::Allow | Self::Deny => "destinations (HOST, HOST:PORT, *.DOMAIN, @GROUP, *), separated by commas",
            // A number.
            _ => "",
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

/// Returns the error for `KEY` or `KEY=VALUE` if this setting cannot change. Its hint is about this machine and its branch.
#[must_use]
pub fn fixed(word: &str, machine: Option<(&VmName, &BranchName)>) -> Option<Failure> {
    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    let plain = name.replace('-', "_");
    let key = FIXED.into_iter().find(|key| *key == plain)?;
    let quoted = |text: &str| shlex::try_quote(text).map_or_else(|_| "VALUE".to_owned(), std::borrow::Cow::into_owned);
    let given = value.filter(|value| !value.is_empty()).map(quoted);
    let (of, branch) = machine.map_or_else(
        || ("MACHINE".to_owned(), "BRANCH".to_owned()),
        |(name, branch)| (name.to_string(), quoted(branch.as_str())),
    );
    let flags = match (key, given) {
        ("branch", given) => {
            let branch = given.unwrap_or_else(|| "BRANCH".to_owned());
            return Some(
                Failure::usage(format!("the branch of {of} cannot change: each branch has its own machine"))
                    .with_hint(format!("agent-vm create --branch {branch}")),
            );
        }
        ("guest", Some(value)) => format!(" --guest {value}"),
        ("all_branches", value) if value.as_deref() != Some("false") => " --all-branches".to_owned(),
        ("secrets", Some(value)) => format!(" --secret {value}"),
        _ => String::new(),
    };
    Some(Failure::usage(format!("{key} cannot change after the machine's creation")).with_hint(format!(
        "create the machine again; this keeps its commits: agent-vm destroy {of}\nthen: agent-vm create --branch {branch}{flags}"
    )))
}

/// Parses a key of the command line.
///
/// # Errors
/// It is not a setting, or cannot change after the machine's creation.
pub fn parse_key(name: &str) -> Result<Key, Failure> {
    if let Some(fixed) = fixed(name, None) {
        return Err(fixed);
    }
    let plain = name.replace('-', "_");
    Key::from_str(&plain, false).map_err(|_| {
        let names: Vec<_> = Key::value_variants().iter().map(|key| key.name()).collect();
        let hint = match did_you_mean::suggestion(Kind::Setting, &plain.to_lowercase(), &names) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("settings: {}", names.join(", ")),
        };
        Failure::usage(format!("{:?} is not a setting", one_line(name))).with_hint(hint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_settings_has_each_one_and_no_other() {
        let page = include_str!("../../../docs/reference/settings.md");
        let rows = page.lines().filter(|line| line.starts_with("| `"));
        let cells = rows.filter_map(|row| row.split('|').nth(1));
        let mut described: Vec<_> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        let mut names: Vec<_> = Key::value_variants().iter().map(|key| key.name()).collect();
        described.sort_unstable();
        names.sort_unstable();
        assert_eq!(described, names);
    }
}
