//! What a machine's settings say about its egress.

mod destination;
mod secret_spec;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde::{Deserialize, Serialize};

pub use self::destination::Destination;
pub use self::secret_spec::SecretSpec;
use crate::machine::policy;

/// What the guest may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing.
    None,
    /// What is on the machine's list, passed through unread.
    Allowlist,
    /// What is on the machine's list, with TLS looked into and every request logged.
    Monitor,
    /// Everything on the Internet, but neither this host nor its network.
    Open,
}

impl Mode {
    /// The name that settings and status use.
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
        let said = policy::egress_modes().iter().find(|mode| mode.name == self.as_str())?;
        Some(PossibleValue::new(self.as_str()).help(said.reaches.as_str()))
    }
}

/// What a machine's settings say of its way out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// What it may reach.
    pub mode: Mode,
    /// Destinations that are let through.
    #[serde(default)]
    pub allow: Vec<Destination>,
    /// Destinations that are not, whatever `allow` says.
    #[serde(default)]
    pub deny: Vec<Destination>,
    /// Secrets that the proxy puts into requests.
    #[serde(default)]
    pub secrets: Vec<SecretSpec>,
}

impl Default for Egress {
    /// Of a machine whose settings are older than this: nothing.
    fn default() -> Self {
        Self { mode: Mode::Allowlist, allow: Vec::new(), deny: Vec::new(), secrets: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each mode is decided on here; what it is called and reaches, the policy says.
    #[test]
    fn the_modes_are_the_policys() {
        let ours: Vec<_> = Mode::value_variants().iter().map(|mode| mode.as_str()).collect();
        let policys: Vec<_> = policy::egress_modes().iter().map(|mode| mode.name.as_str()).collect();
        assert_eq!(ours, policys);
        for mode in Mode::value_variants() {
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.as_str());
        }
    }
}
