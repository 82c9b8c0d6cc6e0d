//! What a machine's settings say about its egress.

mod destination;
mod host_proxy;
mod secret_spec;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde::{Deserialize, Serialize};

pub use self::destination::Destination;
pub use self::host_proxy::{HostProxy, NoProxy, ProxyUrl};
pub use self::secret_spec::SecretSpec;
use crate::machine::policy;

/// What the guest may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// No destination.
    None,
    /// The hosts on the machine's allow list; TLS is passed through.
    Allowlist,
    /// The hosts on the machine's allow list; TLS is decrypted and every request is logged.
    Monitor,
    /// Every host on the Internet, but neither this host nor its network.
    Open,
}

impl Mode {
    /// Returns the name that settings and status use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Allowlist => "allowlist",
            Self::Monitor => "monitor",
            Self::Open => "open",
        }
    }
}

impl ValueEnum for Mode {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::None, Self::Allowlist, Self::Monitor, Self::Open]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let policy = policy::egress_modes().iter().find(|mode| mode.name == self.as_str())?;
        Some(PossibleValue::new(self.as_str()).help(policy.reaches.as_str()))
    }
}

/// The egress settings of a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// What the guest may reach.
    pub mode: Mode,
    /// Allowed destinations.
    #[serde(default)]
    pub allow: Vec<Destination>,
    /// Denied destinations; they take precedence over `allow`.
    #[serde(default)]
    pub deny: Vec<Destination>,
    /// Secrets that the proxy puts into requests.
    #[serde(default)]
    pub secrets: Vec<SecretSpec>,
    /// Which proxy of the host the egress proxy goes through. Machines that were made before there was a choice have `auto`.
    #[serde(default, skip_serializing_if = "HostProxy::is_auto")]
    pub host_proxy: HostProxy,
}

impl Default for Egress {
    /// Returns the settings of a machine that was created before egress settings existed: an empty allow list.
    fn default() -> Self {
        Self {
            mode: Mode::Allowlist,
            allow: Vec::new(),
            deny: Vec::new(),
            secrets: Vec::new(),
            host_proxy: HostProxy::Auto,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This program decides on each mode; the policy has its name and its description.
    #[test]
    fn modes_match_the_policy() {
        let ours: Vec<_> = Mode::value_variants().iter().map(|mode| mode.as_str()).collect();
        let policys: Vec<_> = policy::egress_modes().iter().map(|mode| mode.name.as_str()).collect();
        assert_eq!(ours, policys);
        for mode in Mode::value_variants() {
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.as_str());
        }
    }
}
