//! Secrets that never reach the guest: it has placeholders, and the proxy puts the values in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::host::files::{make_private_dir, read_if_there, write_file};
use crate::host::hex;
use crate::machine::egress_settings::SecretSpec;
use crate::machine::paths::MachinePath;
use crate::term::error::Failure;

/// A value and what the guest has instead of it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// What the guest has.
    pub placeholder: String,
    /// What it stands for.
    pub value: String,
}

fn file(machine: &Path) -> PathBuf {
    MachinePath::EgressSecrets.of(machine)
}

/// Takes the values of a new machine's secrets from our environment and keeps them where only this user reads them.
///
/// # Errors
/// A variable is not set, or has a value that no header can have.
pub fn keep(machine: &Path, specs: &[SecretSpec]) -> Result<()> {
    if specs.is_empty() {
        return Ok(());
    }
    let mut secrets = BTreeMap::new();
    for spec in specs {
        let value = std::env::var(&spec.name).map_err(|_| {
            Failure::usage(format!(
                "the value of the secret {0} is taken from the variable {0}, which is not set",
                spec.name
            ))
            .with_hint(format!("read -rs {0} && export {0}, then try again", spec.name))
        })?;
        let usable = value.len() >= 4 && value.chars().all(|c| c.is_ascii_graphic() || c == ' ');
        if !usable {
            return Err(Failure::usage(format!(
                "the value of {} is no token: 4 or more characters of ASCII on one line are needed",
                spec.name
            ))
            .into());
        }
        secrets.insert(spec.name.clone(), Secret { placeholder: placeholder(&spec.name)?, value });
    }
    make_private_dir(&MachinePath::Egress.of(machine))?;
    let text = serde_json::to_string(&secrets).context("failed to write the secrets as JSON")?;
    write_file(&file(machine), text, 0o600)
}

/// Its form is that of a token, as programs may look at it before they send it.
fn placeholder(name: &str) -> Result<String> {
    Ok(format!("agent-vm-{}-{}", name.to_ascii_lowercase().replace('_', "-"), hex::random(16)?))
}

/// The secrets of a machine, by name.
///
/// # Errors
/// Their file is there and cannot be read.
pub fn load(machine: &Path) -> Result<BTreeMap<String, Secret>> {
    let path = file(machine);
    match read_if_there(&path)? {
        Some(text) => serde_json::from_str(&text).with_context(|| format!("{} is not usable", path.display())),
        None => Ok(BTreeMap::new()),
    }
}

/// The guest's variables that hold placeholders, a line each.
#[must_use]
pub fn environment(secrets: &BTreeMap<String, Secret>) -> String {
    let lines = secrets.iter().map(|(name, secret)| format!("{name}={}\n", secret.placeholder));
    // Never empty: QEMU takes no empty file.
    std::iter::once("# Placeholders; the proxy puts the values in.\n".to_owned()).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn values_are_kept_for_this_user_alone_and_the_guest_gets_none() {
        let dir = tempfile::tempdir().unwrap();
        // PATH is set for sure.
        keep(dir.path(), &["PATH=api.test".parse().unwrap()]).unwrap();
        let mode = fs::metadata(dir.path().join("egress/secrets.json")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let secrets = load(dir.path()).unwrap();
        let value = std::env::var("PATH").unwrap();
        assert_eq!(secrets["PATH"].value, value);
        let given = environment(&secrets);
        assert!(given.contains("PATH=agent-vm-path-") && !given.contains(&value), "{given}");
        assert!(load(&dir.path().join("none")).unwrap().is_empty());
    }

    #[test]
    fn a_variable_that_is_not_set_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let error = keep(dir.path(), &["NOT_SET_ANYWHERE=api.test".parse().unwrap()]).unwrap_err();
        assert!(format!("{error:#}").contains("NOT_SET_ANYWHERE"), "{error:#}");
        assert!(!dir.path().join("egress").exists());
    }
}
