//! Facts about the host.

use std::fs;

use anyhow::{Context as _, Result};

/// Returns the number of processors that this process may use.
#[must_use]
pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

/// Returns the kernel's identifier of this boot: a pid file of another boot is stale.
///
/// # Errors
/// `/proc` is not mounted.
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(path).with_context(|| format!("failed to read {path}"))?.trim().to_owned())
}

/// Returns the command that installs a Debian package, or its nixpkgs attribute, on this host.
#[must_use]
pub fn install_hint(debian: &str, nixpkgs: &str) -> String {
    if fs::exists("/etc/debian_version").unwrap_or(false) {
        format!("sudo apt-get install {debian}")
    } else {
        format!("nix shell nixpkgs#{nixpkgs}")
    }
}
