//! Which guest a machine boots, and which names its packages can have.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::machine::policy::Grammar;

/// The two guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum GuestKind {
    /// A NixOS system built from nixpkgs.
    Nixos,
    /// The embedded Debian system: needs Debian's registries only.
    Debian,
}

impl GuestKind {
    /// Returns whether a package of the guest can have this name: Debian Policy 5.6.7, or an attribute path of nixpkgs.
    #[must_use]
    pub fn may_have_package(self, name: &str) -> bool {
        match self {
            Self::Debian => Grammar::DebianPackage.matches(name),
            Self::Nixos => Grammar::NixpkgsPackage.matches(name),
        }
    }
}

impl std::fmt::Display for GuestKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nixos => "nixos",
            Self::Debian => "debian",
        })
    }
}
