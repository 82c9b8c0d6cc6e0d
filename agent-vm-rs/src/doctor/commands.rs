//! What mends a fault, for each family of distributions.

use serde::Serialize;

use super::system::System;

/// The command that mends a finding, for each family of distributions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Commands {
    /// For NixOS: usually a line of its configuration.
    pub nixos: String,
    /// For Debian and Ubuntu.
    pub debian: String,
    /// For Fedora.
    pub fedora: String,
    /// For Arch.
    pub arch: String,
}

impl Commands {
    /// Returns the one for a family.
    #[must_use]
    pub fn of(&self, system: System) -> &str {
        match system {
            System::Nixos => &self.nixos,
            System::Debian => &self.debian,
            System::Fedora => &self.fedora,
            System::Arch => &self.arch,
        }
    }

    /// Returns each with a value in place of `{name}`.
    #[must_use]
    pub fn with(self, name: &str, value: &str) -> Self {
        let fill = |text: String| text.replace(&format!("{{{name}}}"), value);
        Self { nixos: fill(self.nixos), debian: fill(self.debian), fedora: fill(self.fedora), arch: fill(self.arch) }
    }
}
