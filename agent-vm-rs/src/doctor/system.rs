//! The distribution of this host, which decides the command that mends something.

use std::fs;

use serde::Serialize;

/// A family of distributions with the same commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// NixOS.
    Nixos,
    /// Debian, Ubuntu and what descends from them.
    Debian,
    /// Fedora and Red Hat's.
    Fedora,
    /// Arch Linux and what descends from it.
    Arch,
}

impl System {
    /// Returns this host's family; None if it is another one.
    #[must_use]
    pub fn here() -> Option<Self> {
        ["/etc/os-release", "/usr/lib/os-release"]
            .into_iter()
            .find_map(|path| fs::read_to_string(path).ok())
            .and_then(|text| Self::of_os_release(&text))
    }

    /// Returns the family that os-release(5) names: by `ID`, else by the first known word of `ID_LIKE`.
    #[must_use]
    pub fn of_os_release(text: &str) -> Option<Self> {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches(['"', '\'']).to_lowercase()
        };
        let (id, like) = (value("ID"), value("ID_LIKE"));
        std::iter::once(id.as_str()).chain(like.split_whitespace()).find_map(Self::of_id)
    }

    fn of_id(id: &str) -> Option<Self> {
        match id {
            "nixos" => Some(Self::Nixos),
            "debian" | "ubuntu" => Some(Self::Debian),
            "fedora" | "rhel" | "centos" => Some(Self::Fedora),
            "arch" | "archlinux" => Some(Self::Arch),
            _ => None,
        }
    }

    /// Returns its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nixos => "NixOS",
            Self::Debian => "Debian/Ubuntu",
            Self::Fedora => "Fedora",
            Self::Arch => "Arch",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_family_is_found_by_id_and_by_what_it_is_like() {
        for (text, family) in [
            ("NAME=NixOS\nID=nixos\nVERSION_ID=\"26.05\"\n", Some(System::Nixos)),
            ("PRETTY_NAME=\"Debian GNU/Linux 13\"\nID=debian\n", Some(System::Debian)),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Some(System::Debian)),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Some(System::Fedora)),
            ("ID=manjaro\nID_LIKE=arch\n", Some(System::Arch)),
            ("ID=alpine\n", None),
            ("", None),
        ] {
            assert_eq!(System::of_os_release(text), family, "{text}");
        }
    }
}
