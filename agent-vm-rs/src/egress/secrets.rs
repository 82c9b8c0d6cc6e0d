//! Secrets that the guest never gets: it has placeholders, which the proxy replaces by the values.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::host::files::{make_private_dir, read_if_there, write_file};
use crate::host::hex;
use crate::machine::egress_settings::SecretSpec;
use crate::machine::paths::MachinePath;
use crate::term::error::Failure;

/// The value of a secret, and its placeholder.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// The placeholder, which the guest has.
    pub placeholder: String,
    /// The secret value, which only the host has.
    pub value: String,
}

fn file(machine: &Path) -> PathBuf {
    MachinePath::EgressSecrets.of(machine)
}

/// Reads the values of a machine's new secrets from our environment and stores them in a file of mode 0600. Those that it already
/// has keep their values and placeholders.
///
/// # Errors
/// A variable is not set, or its value cannot be part of a header.
pub fn keep(machine: &Path, specs: &[SecretSpec]) -> Result<()> {
    if specs.is_empty() {
        return Ok(());
    }
    let mut secrets = load(machine)?;
    for spec in specs.iter().filter(|spec| !secrets.contains_key(&spec.name)).collect::<Vec<_>>() {
        let value = value(spec)?;
        secrets.insert(spec.name.clone(), Secret { placeholder: placeholder(&spec.name)?, value });
    }
    make_private_dir(&MachinePath::Egress.of(machine))?;
    let text = serde_json::to_string(&secrets).context("failed to encode the secrets as JSON")?;
    write_file(&file(machine), text, 0o600)
}

/// Returns the value of a secret, which is in our environment.
///
/// # Errors
/// The variable is not set, or its value cannot be part of a header.
pub fn value(spec: &SecretSpec) -> Result<String> {
    let value = std::env::var(&spec.name).map_err(|_| {
        Failure::usage(format!("cannot read the secret {0}: the environment variable {0} is not set", spec.name))
            .with_hint(format!("read -rs {0} && export {0}, then repeat the command", spec.name))
    })?;
    let usable = value.len() >= 4 && value.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    if !usable {
        return Err(Failure::usage(format!(
            "the secret {} is not usable: it must be at least 4 ASCII characters on one line",
            spec.name
        ))
        .into());
    }
    Ok(value)
}

/// Returns a new placeholder, which looks like a token: programs may check the format before they send it.
fn placeholder(name: &str) -> Result<String> {
    Ok(format!("agent-vm-{}-{}", name.to_ascii_lowercase().replace('_', "-"), hex::random(16)?))
}

/// Returns the secrets of a machine, by name.
///
/// # Errors
/// Their file exists and cannot be read.
pub fn load(machine: &Path) -> Result<BTreeMap<String, Secret>> {
    let path = file(machine);
    match read_if_there(&path)? {
        Some(text) => {
            serde_json::from_str(&text).with_context(|| format!("{} is not a valid secrets file", path.display()))
        }
        None => Ok(BTreeMap::new()),
    }
}

/// Returns the guest's environment file: a line `NAME=PLACEHOLDER` for each secret.
#[must_use]
pub fn environment(secrets: &BTreeMap<String, Secret>) -> String {
    let lines = secrets.iter().map(|(name, secret)| format!("{name}={}\n", secret.placeholder));
    // The comment keeps the file from being empty, which QEMU does not accept.
    std::iter::once("# Placeholders: the egress proxy replaces them with the values.\n".to_owned())
        .chain(lines)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn values_are_stored_privately_and_the_guest_gets_placeholders() {
        let dir = tempfile::tempdir().unwrap();
        // PATH is always set.
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
    fn the_error_names_a_variable_that_is_not_set() {
        let dir = tempfile::tempdir().unwrap();
        let error = keep(dir.path(), &["NOT_SET_ANYWHERE=api.test".parse().unwrap()]).unwrap_err();
        assert!(format!("{error:#}").contains("NOT_SET_ANYWHERE"), "{error:#}");
        assert!(!dir.path().join("egress").exists());
    }
}
