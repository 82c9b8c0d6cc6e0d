//! The file from which the forwarders of a run read the limit of the network's rate: see [`crate::confine::forward`].

use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};

use anyhow::{Context as _, Result};

use crate::machine::limits::Limits;
use crate::machine::number::Number;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunDir;

/// Returns whether the forwarders of this run limit the rate.
#[must_use]
pub fn is_limited(run: &RunDir) -> bool {
    run.file(MachinePath::NetworkRate).exists()
}

/// Writes the rate in place: the forwarders see this file and not its directory.
///
/// # Errors
/// The file cannot be written.
pub fn write(run: &RunDir, limits: &Limits) -> Result<()> {
    let file = run.file(MachinePath::NetworkRate);
    let rate = limits.of(Number::NetworkBandwidth).unwrap_or(0);
    // The account of the forwarders reads it.
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&file);
    opened
        .and_then(|mut opened| {
            opened.set_permissions(Permissions::from_mode(0o644))?;
            opened.write_all(format!("{rate}\n").as_bytes())
        })
        .with_context(|| format!("failed to write {}", file.display()))
}
