//! Where programs are that are not on PATH.

use std::fs;
use std::path::PathBuf;

/// Returns the directory that this program is installed in: `PREFIX` of `PREFIX/bin/agent-vm`. None if that is not known.
#[must_use]
pub fn prefix() -> Option<PathBuf> {
    let exe = fs::canonicalize(std::env::current_exe().ok()?).ok()?;
    Some(exe.parent()?.parent()?.to_owned())
}

/// Places where virtiofsd may be, best first: the one that `AGENT_VM_VIRTIOFSD` names and no other; else our
/// own, then where distributions put it beside PATH.
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

/// Places where systemd's forwarder of sockets may be: the one that `AGENT_VM_SOCKET_PROXYD` names and no other; else where
/// distributions put it.
#[must_use]
pub fn socket_proxyd_places() -> Vec<PathBuf> {
    if let Some(named) = std::env::var_os("AGENT_VM_SOCKET_PROXYD") {
        return vec![named.into()];
    }
    ["/usr/lib/systemd", "/lib/systemd", "/run/current-system/systemd/lib/systemd"]
        .map(|place| PathBuf::from(place).join("systemd-socket-proxyd"))
        .into()
}

/// Places where mitmproxy's program may be: on PATH, else where set-up puts it on a distribution without a package.
#[must_use]
pub fn mitmdump_places() -> Vec<PathBuf> {
    let prefixes = prefix().into_iter().chain([PathBuf::from("/usr/local")]);
    let own = prefixes.map(|prefix| prefix.join("libexec/agent-vm/mitmproxy/bin/mitmdump"));
    std::iter::once(PathBuf::from("mitmdump")).chain(own).collect()
}
