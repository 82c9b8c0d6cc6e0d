//! The snapshot of Debian that images are built from: the toolkit's own, or a newer one that `agent-vm image update` chose for all
//! machines of the user.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::host::files::{make_dir_durably, read_if_there, write_file};
use crate::host::user_dirs::config_home;
use crate::term::error::Failure;

/// The snapshot of the toolkit.
const BUILT_IN: &str = include_str!("../../../lib/debian/snapshot.json");
/// Its form, as snapshot.debian.org writes it.
const FORM: &str = "%Y%m%dT%H%M%SZ";

/// A snapshot of Debian.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    date: String,
}

impl Snapshot {
    /// Returns the snapshot of a moment.
    #[must_use]
    pub fn of(time: Timestamp) -> Self {
        Self { date: time.strftime(FORM).to_string() }
    }

    fn parse(text: &str) -> Result<Self> {
        let snapshot: Self = serde_json::from_str(text).context("it is not a snapshot")?;
        snapshot.time().context("it has no valid date")?;
        Ok(snapshot)
    }

    /// Returns its name in the archive, such as `20261101T000000Z`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.date
    }

    /// Returns its time; None if its date is not valid.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        let time = jiff::civil::DateTime::strptime(FORM, &self.date).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
        (Self::of(time) == *self).then_some(time)
    }
}

/// Returns the snapshot of the toolkit.
///
/// # Errors
/// Never in a program whose tests passed: the file is compiled in.
pub fn built_in() -> Result<Snapshot> {
    Snapshot::parse(BUILT_IN).context("failed to read the built-in snapshot of Debian")
}

/// Returns the file with the user's choice.
///
/// # Errors
/// Neither `XDG_CONFIG_HOME` nor `HOME` is set.
pub fn file() -> Result<PathBuf> {
    Ok(config_home()?.join("agent-vm/debian-snapshot.json"))
}

/// Returns the user's choice; None if there is none, or the toolkit's is as new.
///
/// # Errors
/// The file cannot be read, or has no snapshot.
pub fn chosen() -> Result<Option<Snapshot>> {
    // Without a home there is no choice.
    file().map_or(Ok(None), |file| chosen_in(&file))
}

fn chosen_in(file: &Path) -> Result<Option<Snapshot>> {
    let Some(text) = read_if_there(file)? else { return Ok(None) };
    let chosen = Snapshot::parse(&text).with_context(|| {
        Failure::new(format!("{} has no snapshot of Debian", file.display()))
            .with_hint("to replace it: agent-vm image update")
    })?;
    Ok(Some(chosen).filter(|chosen| built_in().is_ok_and(|own| *chosen > own)))
}

/// Returns the snapshot that new images are built from.
///
/// # Errors
/// See [`chosen`].
pub fn current() -> Result<Snapshot> {
    chosen()?.map_or_else(built_in, Ok)
}

/// Writes the user's choice.
///
/// # Errors
/// The file cannot be written.
pub fn choose(snapshot: &Snapshot) -> Result<()> {
    let file = file()?;
    if let Some(dir) = file.parent() {
        make_dir_durably(dir, 0o755)?;
    }
    let text = serde_json::to_string(snapshot).context("failed to write a snapshot as JSON")?;
    write_file(&file, text + "\n", 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_newer_valid_snapshot_replaces_the_built_in_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("snapshot.json");
        assert_eq!(chosen_in(&file).unwrap(), None);
        let own = built_in().unwrap();
        assert_eq!(Snapshot::of(own.time().unwrap()), own);
        let write = |date: &str| std::fs::write(&file, format!("{{\"date\": \"{date}\"}}")).unwrap();
        for (date, is_newer) in [("20250101T000000Z", false), (own.name(), false), ("29990101T000000Z", true)] {
            write(date);
            assert_eq!(chosen_in(&file).unwrap().is_some(), is_newer, "{date}");
        }
        for wrong in ["", "2026", "20261301T000000Z", "20261101T000000", "\\\"; x = \\\""] {
            write(wrong);
            assert!(chosen_in(&file).is_err(), "{wrong} was accepted");
        }
    }
}
