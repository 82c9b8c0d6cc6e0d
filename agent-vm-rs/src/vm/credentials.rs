//! Makes a machine's keys, and writes the credentials that QEMU passes to the guest.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::egress;
use crate::guest::manifest::Manifest;
use crate::host::files::{make_private_dir, read_text, remove_file, write_unsynced};
use crate::host::process::Invocation;
use crate::machine::paths::MachinePath;
use crate::mcp::endpoint::Handover;
use crate::remote::ssh::HOST_KEY_ALIAS;

/// Makes a new machine's login key and the guest's host key, and pins the host key in known_hosts. The caller syncs
/// the files.
///
/// # Errors
/// ssh-keygen is missing or fails.
pub fn make_keys(machine: &Path, marker: &Path) -> Result<()> {
    let ssh = MachinePath::Ssh.of(machine);
    make_private_dir(&ssh)?;
    for (key, comment) in [(MachinePath::LoginKey, "agent-vm login"), (MachinePath::HostKey, "agent-vm host")] {
        make_key(&ssh, key.file_name(), comment, marker)?;
    }
    let host_key = read_text(&MachinePath::HostKeyPublic.of(machine)).context("failed to read the guest's host key")?;
    let key = host_key.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    write_unsynced(&MachinePath::KnownHosts.of(machine), format!("{HOST_KEY_ALIAS} {key}\n"), 0o600)
}

fn make_key(dir: &Path, name: &str, comment: &str, marker: &Path) -> Result<()> {
    Invocation::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", name])
        .cwd(dir)
        .of_machine(marker)
        .checked()
        .context("failed to create an ssh key")?;
    // The umask affects the files of ssh-keygen.
    for (file, mode) in [(name.to_owned(), 0o600), (format!("{name}.pub"), 0o644)] {
        let path = dir.join(file);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("failed to set the mode of {}", path.display()))?;
    }
    Ok(())
}

/// Makes this run's key of root, which replaces that of the last run. Returns its line for sshd: without forwarding.
fn root_keys(machine: &Path) -> Result<String> {
    for file in [MachinePath::RootKey, MachinePath::RootKeyPublic] {
        remove_file(&file.of(machine))?;
    }
    make_key(&MachinePath::Run.of(machine), MachinePath::RootKey.file_name(), "root", machine)?;
    Ok(format!("restrict,pty {}", read_text(&MachinePath::RootKeyPublic.of(machine))?))
}

/// Values that differ between runs.
pub struct Run<'a> {
    /// The guest's host name.
    pub hostname: &'a str,
    /// Name of the guest's time zone.
    pub time_zone: String,
    /// Log level of the guest's service.
    pub log_level: &'a str,
    /// For the reverse proxy in front of MCP.
    pub endpoint: Handover,
}

/// Writes the credentials into `run/`, where QEMU reads them as files, so that none is in a command line.
///
/// # Errors
/// A key is missing, or a file cannot be written.
pub fn hand_over(machine: &Path, run: Run<'_>, manifest: &Manifest) -> Result<()> {
    let dir = MachinePath::Credentials.of(machine);
    make_private_dir(&dir)?;
    write(&dir, machine, run, manifest)?;
    if let Some(name) = &manifest.credentials.root_keys {
        write_unsynced(&dir.join(name), root_keys(machine)?, 0o600)?;
    }
    Ok(())
}

/// Writes the credentials into a directory, without root's key, and returns their names.
///
/// # Errors
/// A key is missing, or a file cannot be written.
pub fn write(dir: &Path, machine: &Path, run: Run<'_>, manifest: &Manifest) -> Result<Vec<String>> {
    let key = |file: MachinePath| read_text(&file.of(machine));
    let names = &manifest.credentials;
    let values = [
        (&names.ssh_host_key, key(MachinePath::HostKey)?),
        (&names.authorized_keys, key(MachinePath::LoginKeyPublic)?),
        (&names.hostname, run.hostname.to_owned()),
        (&names.log_level, run.log_level.to_owned()),
        (&names.mcp_certificate, run.endpoint.certificate),
        (&names.mcp_key, run.endpoint.key),
        (&names.mcp_token, run.endpoint.token),
        (&names.mcp_endpoint, run.endpoint.settings),
        (&names.egress_authority, egress::authority::certificate(machine)?),
        (&names.egress_environment, egress::secrets::environment(&egress::secrets::load(machine)?)),
    ];
    let time_zone = names.time_zone.as_ref().map(|name| (name, run.time_zone));
    let mut written = Vec::new();
    for (name, value) in values.into_iter().chain(time_zone) {
        write_unsynced(&dir.join(name), value, 0o600)?;
        written.push(name.clone());
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_modes_and_the_host_key_is_pinned() {
        let dir = tempfile::tempdir().unwrap();
        make_keys(dir.path(), dir.path()).unwrap();
        let mode = |name: &str| fs::metadata(dir.path().join("ssh").join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("id_ed25519"), mode("id_ed25519.pub"), mode("host_ed25519_key")), (0o600, 0o644, 0o600));
        let pinned = fs::read_to_string(dir.path().join("ssh/known_hosts")).unwrap();
        assert!(pinned.starts_with("agent-vm ssh-ed25519 ") && !pinned.contains("agent-vm host"), "{pinned}");
    }
}
