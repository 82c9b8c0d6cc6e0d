//! Names of kept bundles and workspaces: `MACHINE-TIME.bundle`, `MACHINE-TIME.workspace`.

use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::machine::name::VmName;

/// The format of the time in a name, in UTC.
const TIME: &str = "%Y%m%dT%H%M%SZ";
/// The number of its characters.
const TIME_LENGTH: usize = 16;

/// A bundle of a repository, or a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A git bundle.
    Bundle,
    /// A whole workspace.
    Workspace,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Bundle, Self::Workspace];

    /// Returns the end of the names, which is also the word for the kind.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::Workspace => "workspace",
        }
    }
}

/// What the name of a kept bundle or workspace says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name without its end.
    pub stem: String,
    /// What it is.
    pub kind: Kind,
    /// The machine that had it.
    pub machine: VmName,
    /// The time with a number, if the machine's name had another one in that second: what tells it from others of the
    /// machine.
    pub time: String,
    /// When it was kept.
    pub kept: Timestamp,
}

impl Named {
    /// Reads the name of a file or directory; None for another name.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (stem, kind) =
            Kind::ALL.iter().find_map(|kind| Some((name.strip_suffix(kind.word())?.strip_suffix('.')?, *kind)))?;
        // The machine's name may have dashes and digits, too.
        let (at, kept) = stem.match_indices('-').rev().find_map(|(at, _)| Some((at, time(&stem[at + 1..])?)))?;
        let (machine, time) = (stem[..at].parse().ok()?, stem[at + 1..].to_owned());
        Some(Self { stem: stem.to_owned(), kind, machine, time, kept })
    }
}

/// Returns the time that a text begins with; a number may follow.
fn time(text: &str) -> Option<Timestamp> {
    let (start, rest) = text.split_at_checked(TIME_LENGTH)?;
    let is_number = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    if !(rest.is_empty() || rest.strip_prefix('-').is_some_and(is_number)) {
        return None;
    }
    let civil = DateTime::strptime(TIME, start).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Returns the name, without its end, of what is kept of a machine now; `number` tells it from others of the same second.
#[must_use]
pub fn stem(machine: &VmName, number: u32) -> String {
    let time = Timestamp::now().strftime(TIME);
    match number {
        0 => format!("{machine}-{time}"),
        _ => format!("{machine}-{time}-{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_was_kept() {
        let of = |name: &str| Named::of(&Path::new("/x").join(name));
        let found = of("app-20250101T000000Z-2-20260701T120000Z-1.bundle").unwrap();
        assert_eq!((found.machine.as_str(), found.kind), ("app-20250101T000000Z-2", Kind::Bundle));
        assert_eq!(
            (found.time.as_str(), found.kept.to_string().as_str()),
            ("20260701T120000Z-1", "2026-07-01T12:00:00Z")
        );
        let machine: VmName = "app-main".parse().unwrap();
        for number in [0, 3] {
            let stem = stem(&machine, number);
            let found = of(&format!("{stem}.workspace")).unwrap();
            assert_eq!((found.stem, found.machine, found.kind), (stem, machine.clone(), Kind::Workspace));
        }
        for other in [
            "notes.bundle",
            "app-main-20260701T120000Z",
            "app-main-20260701T120000Z.json",
            ".unfinished-a-20260701T120000Z.workspace",
            "a-20261301T120000Z.bundle",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
