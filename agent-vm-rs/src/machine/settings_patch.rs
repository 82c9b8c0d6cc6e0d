//! What flags, assignments and a `--config` file may set.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::machine::branch::BranchName;
use crate::machine::egress_settings::{Destination, HostProxy, Mode, SecretSpec};
use crate::machine::guest_kind::GuestKind;
use crate::machine::limits::Limits;
use crate::machine::mcp_proxy::McpProxy;
use crate::machine::number::Number;
use crate::machine::policy::Grammar;
use crate::machine::time_limit::TimeLimit;
use crate::machine::wrong_value::WrongValue;
use crate::term::did_you_mean::{self, Kind};
use crate::term::error::Failure;
use crate::term::text::one_line;

/// Values that flags and a `--config` file may set; `None` is one that they do not set.
// [`SettingsPatch::read`] refuses unknown fields: serde's attribute does not work with flattened ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SettingsPatch {
    /// See [`crate::machine::settings::Settings::branch`].
    pub branch: Option<BranchName>,
    /// Whether the machine gets every branch and tag.
    pub all_branches: Option<bool>,
    /// See [`crate::machine::settings::Settings::guest`].
    pub guest: Option<GuestKind>,
    /// See [`crate::machine::settings::Settings::host`].
    pub host: Option<String>,
    /// See [`crate::machine::settings::Settings::port`].
    pub port: Option<u16>,
    /// See [`crate::machine::settings::Settings::ssh_port`].
    pub ssh_port: Option<u16>,
    /// See [`crate::machine::settings::Settings::tls`].
    pub tls: Option<bool>,
    /// See [`crate::machine::settings::Settings::auth`].
    pub auth: Option<bool>,
    /// See [`crate::machine::settings::Settings::memory`].
    pub memory: Option<u32>,
    /// See [`crate::machine::settings::Settings::cores`].
    pub cores: Option<u32>,
    /// See [`crate::machine::settings::Settings::disk`].
    pub disk: Option<u32>,
    /// See [`crate::machine::settings::Settings::packages`].
    pub packages: Option<Vec<String>>,
    /// See [`crate::machine::settings::Settings::servers`].
    pub servers: Option<Vec<String>>,
    /// See [`crate::machine::settings::Settings::proxy`].
    pub proxy: Option<McpProxy>,
    /// See [`crate::machine::settings::Settings::agents`].
    pub agents: Option<Vec<String>>,
    /// See [`crate::machine::settings::Settings::nix_args`].
    pub nix_args: Option<Vec<String>>,
    /// See [`crate::machine::egress_settings::Egress::mode`].
    pub egress: Option<Mode>,
    /// See [`crate::machine::egress_settings::Egress::allow`].
    pub allow: Option<Vec<Destination>>,
    /// See [`crate::machine::egress_settings::Egress::deny`].
    pub deny: Option<Vec<Destination>>,
    /// See [`crate::machine::egress_settings::Egress::secrets`].
    pub secrets: Option<Vec<SecretSpec>>,
    /// See [`crate::machine::egress_settings::Egress::host_proxy`].
    pub host_proxy: Option<HostProxy>,
    /// See [`crate::machine::settings::Settings::idle_timeout`].
    pub idle_timeout: Option<TimeLimit>,
    /// See [`crate::machine::settings::Settings::ttl`].
    pub ttl: Option<TimeLimit>,
    /// See [`crate::machine::settings::Settings::limits`].
    #[serde(flatten)]
    pub limits: Limits,
}

/// Largest `--config` file, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Names of the settings in it.
const FIELDS: [&str; 30] = [
    "branch",
    "all_branches",
    "guest",
    "host",
    "port",
    "ssh_port",
    "tls",
    "auth",
    "memory",
    "cores",
    "disk",
    "cpu_quota",
    "pids",
    "disk_iops",
    "disk_bandwidth",
    "network_bandwidth",
    "workspace_size",
    "keep_free",
    "packages",
    "servers",
    "proxy",
    "agents",
    "nix_args",
    "egress",
    "allow",
    "deny",
    "secrets",
    "host_proxy",
    "idle_timeout",
    "ttl",
];

impl SettingsPatch {
    /// Reads a `--config` file.
    ///
    /// # Errors
    /// The file cannot be read, is not a JSON object, or has an unknown setting or a wrong value.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = crate::host::files::plain::read(path, MAX_FILE)
            .and_then(|bytes| bytes.context("there is no such file"))
            .with_context(|| {
                Failure::new(format!("failed to read the settings in {}", path.display()))
                    .with_hint("name a file: --config FILE")
            })?;
        let text = String::from_utf8(bytes)
            .with_context(|| Failure::usage(format!("the settings in {} are not valid UTF-8", path.display())))?;
        Self::parse(&text).map_err(|error| error.context(format!("the settings in {} are not usable", path.display())))
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// A setting is unknown, or has a wrong value.
    pub fn parse(text: &str) -> Result<Self> {
        let all: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).with_context(|| {
            Failure::usage("it is not a JSON object")
                .with_hint("an example is {\"memory\": 8192, \"allow\": [\"example.org\"]}")
        })?;
        for (name, value) in all {
            let shown = one_line(&name);
            if !FIELDS.contains(&name.as_str()) {
                return Err(Failure::usage(format!("there is no setting {shown}")).with_hint(suggestion(&name)).into());
            }
            let wrong = WrongValue::of(&shown, &value);
            let alone = serde_json::Map::from_iter([(name, value)]);
            serde_json::from_value::<Self>(alone.into()).map_err(|error| wrong.failure(&error))?;
        }
        // Parsed again as a whole, since the map above keeps only the last of two equal names.
        serde_json::from_str(text)
            .with_context(|| Failure::usage("a setting appears twice").with_hint("remove one of them"))
    }

    /// Returns this patch, with `other`'s values where this one has none.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            branch: self.branch.or(other.branch),
            all_branches: self.all_branches.or(other.all_branches),
            guest: self.guest.or(other.guest),
            host: self.host.or(other.host),
            port: self.port.or(other.port),
            ssh_port: self.ssh_port.or(other.ssh_port),
            tls: self.tls.or(other.tls),
            auth: self.auth.or(other.auth),
            memory: self.memory.or(other.memory),
            cores: self.cores.or(other.cores),
            disk: self.disk.or(other.disk),
            packages: self.packages.or(other.packages),
            servers: self.servers.or(other.servers),
            proxy: self.proxy.or(other.proxy),
            agents: self.agents.or(other.agents),
            nix_args: self.nix_args.or(other.nix_args),
            egress: self.egress.or(other.egress),
            allow: self.allow.or(other.allow),
            deny: self.deny.or(other.deny),
            secrets: self.secrets.or(other.secrets),
            host_proxy: self.host_proxy.or(other.host_proxy),
            idle_timeout: self.idle_timeout.or(other.idle_timeout),
            ttl: self.ttl.or(other.ttl),
            limits: self.limits.or(&other.limits),
        }
    }

    /// Checks sizes against their bounds, and the form of server names.
    ///
    /// # Errors
    /// The first wrong value.
    pub fn validate(&self) -> Result<(), Failure> {
        let sizes = [(Number::Memory, self.memory), (Number::Cores, self.cores), (Number::Disk, self.disk)];
        for (number, value) in sizes {
            value.map_or(Ok(()), |value| number.check(value))?;
        }
        self.limits.all_asked().try_for_each(|(limit, value)| limit.check(value))?;
        if let Some(name) = self.servers.iter().flatten().find(|name| !Grammar::ServerName.matches(name)) {
            return Err(Failure::usage(format!("{:?} is not a server name", one_line(name)))
                .with_hint("names are letters, digits, ., _ and -, such as nixos"));
        }
        Ok(())
    }

    /// Checks the form of package names for this guest.
    ///
    /// # Errors
    /// The first wrong value.
    pub fn validate_packages(&self, guest: GuestKind) -> Result<(), Failure> {
        match self.packages.iter().flatten().find(|name| !guest.may_have_package(name)) {
            Some(name) => {
                Err(Failure::usage(format!("{:?} is not a package name", one_line(name))).with_hint(match guest {
                    GuestKind::Debian => "Debian's package names are lower case letters, digits, +, - and .",
                    GuestKind::Nixos => {
                        "packages of nixpkgs are attributes, such as nodejs_22 or python3Packages.numpy"
                    }
                }))
            }
            None => Ok(()),
        }
    }
}

/// Returns a hint for an unknown setting: the most similar name, or all of them.
fn suggestion(name: &str) -> String {
    match did_you_mean::suggestion(Kind::Setting, name, &FIELDS) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => format!("the settings are: {}", FIELDS.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_checked_and_flags_win() {
        let file = SettingsPatch { memory: Some(1024), cores: Some(1), ..SettingsPatch::default() };
        let flags = SettingsPatch { memory: Some(2048), ..SettingsPatch::default() };
        let both = flags.or(file);
        assert_eq!((both.memory, both.cores), (Some(2048), Some(1)));
        assert!(both.validate().is_ok());
        for wrong in [
            SettingsPatch { memory: Some(16), ..SettingsPatch::default() },
            SettingsPatch { cores: Some(0), ..SettingsPatch::default() },
            SettingsPatch { disk: Some(1), ..SettingsPatch::default() },
            SettingsPatch { limits: Limits { pids: Some(1), ..Limits::default() }, ..SettingsPatch::default() },
            SettingsPatch { servers: Some(vec!["$(id)".into()]), ..SettingsPatch::default() },
            SettingsPatch { servers: Some(vec![String::new()]), ..SettingsPatch::default() },
        ] {
            assert!(wrong.validate().is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn packages_are_named_as_the_guests_collection_does() {
        let taken = |name: &str, guest| {
            SettingsPatch { packages: Some(vec![name.into()]), ..SettingsPatch::default() }
                .validate_packages(guest)
                .is_ok()
        };
        for (name, debian, nixos) in [
            ("g++", true, true),
            ("nodejs_22", false, true),
            ("python3Packages.numpy", false, true),
            ("a b", false, false),
            ("-x", false, false),
            ("\"", false, false),
            ("${x}", false, false),
            ("", false, false),
        ] {
            assert_eq!((taken(name, GuestKind::Debian), taken(name, GuestKind::Nixos)), (debian, nixos), "{name}");
        }
    }
}
