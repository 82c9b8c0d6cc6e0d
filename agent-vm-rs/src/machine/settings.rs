//! What the user asked for: `config.json` of a machine, and the file that `create --config` takes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::host::files::read_text;
use crate::machine::branch::BranchName;
use crate::machine::defaults::{Defaults, Range};
use crate::machine::egress_settings::{Destination, Egress, Mode, SecretSpec};
pub use crate::machine::guest_kind::GuestKind;
use crate::machine::policy::Grammar;
use crate::term::error::Failure;

/// Version of `config.json` that this program writes, and the newest it reads.
pub const VERSION: u32 = 1;

/// Settings of one machine. Every field is what was asked for or, once, at creation, a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Version of this file.
    pub version: u32,
    /// Directory of the repository that the machine belongs to.
    pub source: PathBuf,
    /// Branch the machine is for.
    pub branch: BranchName,
    /// When it was created.
    pub created: Timestamp,
    /// Which guest it boots.
    pub guest: GuestKind,
    /// Address of the host's forwards: `localhost`, or an IPv4 address of the host.
    pub host: String,
    /// Host port of MCP.
    pub port: u16,
    /// Whether `port` was asked for; if not, a start may take the next free one.
    pub port_asked: bool,
    /// Host port of ssh.
    pub ssh_port: u16,
    /// Whether `ssh_port` was asked for.
    pub ssh_port_asked: bool,
    /// Whether MCP is reached over TLS only. Machines that were made before there was a choice have it, too.
    #[serde(default = "on")]
    pub tls: bool,
    /// Whether MCP asks for the machine's token.
    #[serde(default = "on")]
    pub auth: bool,
    /// Guest memory, MiB.
    pub memory: u32,
    /// Virtual CPUs.
    pub cores: u32,
    /// Size of the machine's own disk, MiB.
    pub disk: u32,
    /// Packages the guest has beside its own.
    pub packages: Vec<String>,
    /// MCP servers it has beside its own, by name.
    #[serde(default)]
    pub servers: Vec<String>,
    /// Arguments for every call of Nix.
    #[serde(default)]
    pub nix_args: Vec<String>,
    /// What it may reach.
    #[serde(default)]
    pub egress: Egress,
}

fn on() -> bool {
    true
}

/// What flags and a `--config` file may set; `None` means "not said".
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsPatch {
    /// See [`Settings::branch`].
    pub branch: Option<BranchName>,
    /// Whether the machine gets every branch and tag.
    pub all_branches: Option<bool>,
    /// See [`Settings::guest`].
    pub guest: Option<GuestKind>,
    /// See [`Settings::host`].
    pub host: Option<String>,
    /// See [`Settings::port`].
    pub port: Option<u16>,
    /// See [`Settings::ssh_port`].
    pub ssh_port: Option<u16>,
    /// See [`Settings::tls`].
    pub tls: Option<bool>,
    /// See [`Settings::auth`].
    pub auth: Option<bool>,
    /// See [`Settings::memory`].
    pub memory: Option<u32>,
    /// See [`Settings::cores`].
    pub cores: Option<u32>,
    /// See [`Settings::disk`].
    pub disk: Option<u32>,
    /// See [`Settings::packages`].
    pub packages: Option<Vec<String>>,
    /// See [`Settings::servers`].
    pub servers: Option<Vec<String>>,
    /// See [`Settings::nix_args`].
    pub nix_args: Option<Vec<String>>,
    /// See [`Egress::mode`].
    pub egress: Option<Mode>,
    /// See [`Egress::allow`].
    pub allow: Option<Vec<Destination>>,
    /// See [`Egress::deny`].
    pub deny: Option<Vec<Destination>>,
    /// See [`Egress::secrets`].
    pub secrets: Option<Vec<SecretSpec>>,
}

/// Bytes of a `--config` file.
const MAX_WISHES: u64 = 4 << 20;

/// Names of the settings in it.
const FIELDS: [&str; 18] = [
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
    "packages",
    "servers",
    "nix_args",
    "egress",
    "allow",
    "deny",
    "secrets",
];
/// Likeness of a mistyped name, of 0 to 1.
const NEARLY: f64 = 0.85;

impl SettingsPatch {
    /// Reads a `--config` file.
    ///
    /// # Errors
    /// The file cannot be read, is no JSON, or says something no setting is called.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = crate::host::files::plain::read(path, MAX_WISHES)
            .and_then(|bytes| bytes.context("there is no such file"))
            .with_context(|| {
                Failure::new(format!("failed to read the settings in {}", path.display()))
                    .with_hint("name a file: --config FILE")
            })?;
        let text = String::from_utf8(bytes)
            .with_context(|| Failure::usage(format!("the settings in {} are not valid UTF-8", path.display())))?;
        Self::parse(&text).map_err(|error| error.context(format!("the settings in {} are not usable", path.display())))
    }

    fn parse(text: &str) -> Result<Self> {
        let all: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).with_context(|| {
            Failure::usage("it is not a JSON object")
                .with_hint("an example is {\"memory\": 8192, \"allow\": [\"example.org\"]}")
        })?;
        for (name, value) in all {
            let shown = crate::term::text::one_line(&name);
            if !FIELDS.contains(&name.as_str()) {
                let near = FIELDS.iter().max_by(|one, other| {
                    strsim::jaro_winkler(one, &name).total_cmp(&strsim::jaro_winkler(other, &name))
                });
                let near = near.filter(|near| strsim::jaro_winkler(near, &name) > NEARLY);
                let all = format!("the settings are: {}", FIELDS.join(", "));
                let hint = near.map_or(all, |near| format!("did you mean {near}?"));
                return Err(Failure::usage(format!("there is no setting {shown}")).with_hint(hint).into());
            }
            let alone = serde_json::Map::from_iter([(name, value)]);
            serde_json::from_value::<Self>(alone.into()).map_err(|error| {
                Failure::usage(format!("the setting {shown} has a wrong value: {error}"))
                    .with_hint(format!("give {shown} a value of that kind, or leave it out"))
            })?;
        }
        // Once more as a whole: of a name that is there twice both count.
        serde_json::from_str(text)
            .with_context(|| Failure::usage("a setting is there twice").with_hint("leave one of the two out"))
    }

    /// These patch, with `other`'s where these say nothing.
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
            nix_args: self.nix_args.or(other.nix_args),
            egress: self.egress.or(other.egress),
            allow: self.allow.or(other.allow),
            deny: self.deny.or(other.deny),
            secrets: self.secrets.or(other.secrets),
        }
    }

    /// Refuses sizes no guest can boot with, and names that are no server's.
    ///
    /// # Errors
    /// The first wrong value.
    pub fn validate(&self) -> Result<(), Failure> {
        let at_least = |what: &str, flag: &str, value: Option<u32>, Range { least, most }: Range| match value {
            Some(value) if !(least..=most).contains(&value) => {
                Err(Failure::usage(format!("{what} of {value} is outside {least} to {most}"))
                    .with_hint(format!("give {flag} a value in between")))
            }
            _ => Ok(()),
        };
        let bounds = Defaults::load().map_err(|error| Failure::new(format!("{error:#}")))?.bounds;
        at_least("memory (MiB)", "--memory", self.memory, bounds.memory)?;
        at_least("a number of cores", "--cores", self.cores, bounds.cores)?;
        at_least("a disk (MiB)", "--disk", self.disk, bounds.disk)?;
        if let Some(name) = self.servers.iter().flatten().find(|name| !Grammar::ServerName.matches(name)) {
            return Err(Failure::usage(format!("{:?} is no name of a server", crate::term::text::one_line(name)))
                .with_hint("names are letters, digits, ., _ and -, such as nixos"));
        }
        Ok(())
    }

    /// Refuses names that are no package's of this guest.
    ///
    /// # Errors
    /// The first wrong one.
    pub fn validate_packages(&self, guest: GuestKind) -> Result<(), Failure> {
        match self.packages.iter().flatten().find(|name| !guest.may_have_package(name)) {
            Some(name) => Err(Failure::usage(format!("{:?} is no package name", crate::term::text::one_line(name)))
                .with_hint(match guest {
                    GuestKind::Debian => "Debian's package names are lower case letters, digits, +, - and .",
                    GuestKind::Nixos => {
                        "packages of nixpkgs are attributes, such as nodejs_22 or python3Packages.numpy"
                    }
                })),
            None => Ok(()),
        }
    }
}

/// Settings that a newer agent-vm wrote.
#[derive(Debug)]
struct Newer(u32);

impl std::fmt::Display for Newer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it has version {}; this agent-vm reads up to {VERSION}", self.0)
    }
}

impl std::error::Error for Newer {}

impl Settings {
    /// Reads a machine's `config.json`.
    ///
    /// # Errors
    /// The file is missing, corrupt, has an unknown field, or is of a newer version.
    pub fn read(path: &Path) -> Result<Self> {
        read_text(path).and_then(|text| Self::parse(&text)).map_err(|error| {
            let unusable = format!("the settings in {} are not usable", path.display());
            if error.is::<Newer>() {
                return error.context(Failure::new(unusable).with_hint("use the agent-vm that wrote them, or a newer one"));
            }
            let name = path.parent().and_then(Path::file_name).unwrap_or_default().display();
            error.context(Failure::new(unusable).with_hint(format!(
                "mend the file, or remove the machine: agent-vm destroy {name} --yes (commits only it has are kept in a bundle)"
            )))
        })
    }

    fn parse(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_str(text)?;
        if version > VERSION {
            return Err(Newer(version).into());
        }
        Ok(serde_json::from_str(text)?)
    }

    /// What the machine's endpoint does without, as a warning of what that means; None if nothing is off.
    #[must_use]
    pub fn endpoint_warning(&self) -> Option<String> {
        let who = if self.host == "localhost" { "every user and web page of this host" } else { "whoever reaches it" };
        match (self.tls, self.auth) {
            (true, true) => None,
            (true, false) => {
                Some(format!("warning: MCP asks for no token (--no-auth): {who} can use the machine's tools"))
            }
            (false, true) => Some(
                "warning: MCP is not encrypted (--no-tls): what listens on the way reads the token and everything else"
                    .to_owned(),
            ),
            (false, false) => Some(format!(
                "warning: MCP is neither encrypted (--no-tls) nor asks for a token (--no-auth): {who} can use the machine's tools"
            )),
        }
    }

    /// The text of `config.json`.
    ///
    /// # Errors
    /// A path that is no UTF-8.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self).context("failed to write the settings as JSON")? + "\n")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Settings as `config.json` holds them.
    pub(crate) const SAMPLE: &str = include_str!("../../tests/data/config.json");

    pub(crate) fn sample() -> Settings {
        Settings::parse(SAMPLE).unwrap()
    }

    #[test]
    fn settings_survive_the_file() {
        assert_eq!(Settings::parse(&sample().to_json().unwrap()).unwrap(), sample());
        assert_eq!(serde_json::to_value(sample()).unwrap(), serde_json::from_str::<serde_json::Value>(SAMPLE).unwrap());
    }

    #[test]
    fn newer_versions_unknown_fields_and_hostile_branches_are_refused() {
        let text = sample().to_json().unwrap();
        let error = |text: &str| format!("{:#}", Settings::parse(text).unwrap_err());
        assert!(error(&text.replace("\"version\": 1", "\"version\": 2")).contains("version 2"));
        assert!(error(&text.replace("\"memory\"", "\"memroy\"")).contains("memroy"));
        assert!(error(&text.replace("\"main\"", "\"../../etc\"")).contains("not a branch name"));
        assert!(error("{").contains("EOF"));
    }

    #[test]
    fn wishes_are_checked_and_flags_win() {
        let file = SettingsPatch { memory: Some(1024), cores: Some(1), ..SettingsPatch::default() };
        let flags = SettingsPatch { memory: Some(2048), ..SettingsPatch::default() };
        let both = flags.or(file);
        assert_eq!((both.memory, both.cores), (Some(2048), Some(1)));
        assert!(both.validate().is_ok());
        for wrong in [
            SettingsPatch { memory: Some(16), ..SettingsPatch::default() },
            SettingsPatch { cores: Some(0), ..SettingsPatch::default() },
            SettingsPatch { disk: Some(1), ..SettingsPatch::default() },
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
