//! Paths of programs that may not be on PATH.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// What the kernel appends to the path of a program whose file was removed or replaced (proc_pid_exe(5)).
const DELETED: &[u8] = b" (deleted)";

/// Returns the path of agent-vm. After an upgrade, it is that of the new one: processes of a running machine are older.
///
/// # Errors
/// The kernel does not report it.
pub fn own_path() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("failed to find the path of agent-vm")?;
    let replaced = replaced(exe.as_os_str()).map(PathBuf::from);
    Ok(replaced.filter(|path| path.is_file() && !exe.exists()).unwrap_or(exe))
}

/// Returns the former path or name of a program whose file was removed or replaced, from what the kernel reports; None for
/// another program.
#[must_use]
pub fn replaced(exe: &OsStr) -> Option<&OsStr> {
    exe.as_bytes().strip_suffix(DELETED).map(OsStr::from_bytes)
}

/// Returns the installation prefix: `PREFIX` of `PREFIX/bin/agent-vm`. None if it is unknown.
#[must_use]
pub fn prefix() -> Option<PathBuf> {
    let exe = fs::canonicalize(own_path().ok()?).ok()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_path_is_found_after_an_upgrade() {
        const COPY: &str = "AGENT_VM_TEST_COPY";
        let Some(copy) = std::env::var_os(COPY).map(PathBuf::from) else {
            let dir = tempfile::tempdir().unwrap();
            let copy = dir.path().join("copy");
            fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
            let name = format!("{}::our_path_is_found_after_an_upgrade", module_path!().split_once("::").unwrap().1);
            let done = std::process::Command::new(&copy).args(["--exact", &name]).env(COPY, &copy).output().unwrap();
            let output = String::from_utf8_lossy(&done.stdout);
            assert!(done.status.success() && output.contains("1 passed"), "{output}");
            return;
        };
        assert_eq!(own_path().unwrap(), copy);
        let new = copy.with_extension("new");
        fs::write(&new, "").unwrap();
        fs::rename(&new, &copy).unwrap();
        // Control: the kernel's own answer is no path.
        assert!(!std::env::current_exe().unwrap().exists());
        assert_eq!(own_path().unwrap(), copy);
        fs::remove_file(&copy).unwrap();
        assert!(!own_path().unwrap().exists());
    }
}
