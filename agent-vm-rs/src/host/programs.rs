//! Paths of programs that may not be on PATH.

use std::fs;
use std::path::PathBuf;

/// Returns the installation prefix: `PREFIX` of `PREFIX/bin/agent-vm`. None if it is unknown.
#[must_use]
pub fn prefix() -> Option<PathBuf> {
    let exe = fs::canonicalize(std::env::current_exe().ok()?).ok()?;
    Some(exe.parent()?.parent()?.to_owned())
}

/// Returns the paths to try for virtiofsd, best first: only `AGENT_VM_VIRTIOFSD` if it is set; else our own build, PATH,
/// then where distributions install it.
#[must_use]
pub fn virtiofsd_places() -> Vec<PathBuf> {
    if let Some(named) = std::env::var_os("AGENT_VM_VIRTIOFSD") {
        return vec![named.into()];
    }
    let own = prefix().map(|prefix| prefix.join("libexec/agent-vm/virtiofsd"));
    own.into_iter()
        .chain(["virtiofsd", "/usr/local/libexec/agent-vm/virtiofsd", "/usr/libexec/virtiofsd"].map(PathBuf::from))
        .collect()
}

/// Returns the paths to try for systemd-socket-proxyd: only `AGENT_VM_SOCKET_PROXYD` if it is set; else where distributions
/// install it.
#[must_use]
pub fn socket_proxyd_places() -> Vec<PathBuf> {
    if let Some(named) = std::env::var_os("AGENT_VM_SOCKET_PROXYD") {
        return vec![named.into()];
    }
    ["/usr/lib/systemd", "/lib/systemd", "/run/current-system/systemd/lib/systemd"]
        .map(|place| PathBuf::from(place).join("systemd-socket-proxyd"))
        .into()
}

/// Returns the paths to try for mitmdump: PATH, then where our set-up installs it if the distribution has no package.
#[must_use]
pub fn mitmdump_places() -> Vec<PathBuf> {
    let prefixes = prefix().into_iter().chain([PathBuf::from("/usr/local")]);
    let own = prefixes.map(|prefix| prefix.join("libexec/agent-vm/mitmproxy/bin/mitmdump"));
    std::iter::once(PathBuf::from("mitmdump")).chain(own).collect()
}
