//! What a machine's settings say about its egress.

mod destination;
mod secret_spec;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use self::destination::Destination;
pub use self::secret_spec::SecretSpec;

/// What the guest may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
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
