//! What mends a fault, for each family of distributions.

use serde::Serialize;

use super::system::System;

/// Start of a command that adds a kernel parameter to GRUB's file; the parameter and a space follow.
pub const GRUB: &str = "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&";
/// GRUB's file.
pub const GRUB_FILE: &str = "/etc/default/grub";

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

    /// Returns each without a change of GRUB's file, for a host that has none: another boot loader has a file of its own.
    #[must_use]
    pub fn without_grub(self) -> Self {
        let other = |text: String| match text.strip_prefix(GRUB).and_then(|rest| rest.split_once(' ')) {
            Some((parameter, _)) => {
                format!(
                    "add {parameter} to the kernel's command line in the configuration of the boot loader, and reboot"
                )
            }
            None => text,
        };
        Self {
            nixos: other(self.nixos),
            debian: other(self.debian),
            fedora: other(self.fedora),
            arch: other(self.arch),
        }
    }

    /// Returns each with a value in place of `{name}`.
    #[must_use]
    pub fn with(self, name: &str, value: &str) -> Self {
        let fill = |text: String| text.replace(&format!("{{{name}}}"), value);
        Self { nixos: fill(self.nixos), debian: fill(self.debian), fedora: fill(self.fedora), arch: fill(self.arch) }
    }
}

#[cfg(test)]
mod tests {
    use crate::doctor::fault::Fault;

    #[test]
    fn without_grub_no_command_changes_its_file() {
        let mut changed = 0;
        for fault in Fault::ALL {
            let (with, without) = (fault.commands(), fault.commands().without_grub());
            for (with, without) in [(&with.debian, &without.debian), (&with.arch, &without.arch)] {
                assert!(!without.contains(super::GRUB_FILE), "{without}");
                if with.contains(super::GRUB_FILE) {
                    changed += 1;
                    assert!(
                        without.starts_with("add lsm=landlock,") || without.starts_with("add systemd."),
                        "{without}"
                    );
                } else {
                    assert_eq!(with, without);
                }
            }
        }
        assert_eq!(changed, 4);
    }
}
