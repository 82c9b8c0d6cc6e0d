//! Settings for other programs' ssh, as in ssh_config(5): with them, `ssh`, `scp`, `rsync`, `sftp`, editors and libraries reach a
//! machine by an alias.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::HOST_KEY_ALIAS;
use crate::machine::Machine;
use crate::machine::name::VmName;
use crate::machine::paths::MachinePath;
use crate::machine::policy;
use crate::term::error::Failure;

/// Returns the name under which ssh knows a machine.
#[must_use]
pub fn alias(machine: &VmName) -> String {
    format!("agent-vm-{machine}")
}

/// Returns the block of a machine. The connection is made by `program`, which knows the port of each run.
///
/// # Errors
/// A path cannot be written in ssh's configuration.
pub fn block(machine: &Machine, program: &Path) -> Result<String> {
    let file = |path: MachinePath| quoted(&path.of(&machine.dir));
    let options = [
        // Not an address: every program then looks for the host key under this name, also one without HostKeyAlias.
        ("HostName", HOST_KEY_ALIAS.to_owned()),
        ("HostKeyAlias", HOST_KEY_ALIAS.to_owned()),
        ("User", policy::user().name.clone()),
        ("ProxyCommand", proxy_command(machine, program)?),
        ("IdentityFile", file(MachinePath::LoginKey)?),
        ("IdentitiesOnly", "yes".to_owned()),
        ("IdentityAgent", "none".to_owned()),
        ("PreferredAuthentications", "publickey".to_owned()),
        ("UserKnownHostsFile", file(MachinePath::KnownHosts)?),
        ("GlobalKnownHostsFile", "/dev/null".to_owned()),
        ("StrictHostKeyChecking", "yes".to_owned()),
        ("HostKeyAlgorithms", "ssh-ed25519".to_owned()),
        ("UpdateHostKeys", "no".to_owned()),
        ("CheckHostIP", "no".to_owned()),
        ("CanonicalizeHostname", "no".to_owned()),
        ("ForwardAgent", "no".to_owned()),
        ("ForwardX11", "no".to_owned()),
        ("PermitLocalCommand", "no".to_owned()),
        ("ServerAliveInterval", "15".to_owned()),
    ];
    let lines = options.iter().map(|(key, value)| format!("  {key} {value}\n"));
    Ok(format!("Host {}\n{}", alias(&machine.name), lines.collect::<String>()))
}

/// Returns a path as one word of ssh_config(5). `%` begins a token there, and `${` a variable.
fn quoted(path: &Path) -> Result<String> {
    let text = text(path)?;
    let escaped = text.replace('\\', "\\\\").replace('%', "%%");
    Ok(format!("\"{escaped}\""))
}

/// Returns a path as text without what no quoting expresses.
fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .filter(|text| !text.contains("${") && !text.contains('"') && !text.chars().any(char::is_control))
        .ok_or_else(|| {
            Failure::new(format!("ssh's configuration cannot contain the path {}", path.display()))
                .with_hint(
                    "keep machines in a directory whose name has no quote, control character or ${: --state-dir DIR",
                )
                .into()
        })
}

/// Returns the value of ProxyCommand. ssh replaces its tokens, and the user's shell runs it.
fn proxy_command(machine: &Machine, program: &Path) -> Result<String> {
    let words = [text(program)?, "--state-dir", text(machine.state.path())?, "ssh-proxy", machine.name.as_str()];
    let line = shlex::try_join(words).context("a path contains a NUL byte")?;
    Ok(line.replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_as_ssh_reads_them() {
        assert_eq!(quoted(Path::new("/a b/100%/x\\y#")).unwrap(), "\"/a b/100%%/x\\\\y#\"");
        for wrong in ["/a${HOME}", "/a\"b", "/a\nb"] {
            assert!(quoted(Path::new(wrong)).is_err(), "{wrong:?}");
        }
    }
}
