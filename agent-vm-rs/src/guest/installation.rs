//! Reads facts of the installation: the toolkit that rendered flakes name, the default guest and the helper programs.
//!
//! The Nix package's wrapper sets `AGENT_VM_GUEST` and `AGENT_VM_TOOLKIT`. `make install` puts the
//! toolkit into `share/agent-vm` beside `bin`. A build run from its source tree uses that tree.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;
use sha2::{Digest as _, Sha256};

use crate::guest::manifest::Group;
use crate::host::hex::hex;
use crate::host::programs::prefix;
use crate::machine::settings::GuestKind;
use crate::term::error::Failure;

/// The toolkit: the flake input of every rendered flake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolkit {
    /// Flake reference.
    pub reference: String,
    /// Hash of the contents of a local directory; otherwise the reference itself.
    pub fingerprint: String,
    /// Whether it is a directory of this host, whose contents can change.
    pub is_local: bool,
}

/// The parts of the toolkit that a guest is built from.
const PARTS: [&str; 4] = ["flake.nix", "flake.lock", "lib", "modules"];

/// Returns the guest kind of machines whose settings name none.
///
/// # Errors
/// `AGENT_VM_GUEST` names no guest kind.
pub fn default_guest() -> Result<GuestKind> {
    match std::env::var("AGENT_VM_GUEST") {
        Err(_) => Ok(GuestKind::Debian),
        Ok(name) => GuestKind::from_str(&name, true).map_err(|_| {
            Failure::new(format!("invalid AGENT_VM_GUEST {name:?}: not a guest kind"))
                .with_hint("for the default guest: unset AGENT_VM_GUEST")
                .into()
        }),
    }
}

impl Toolkit {
    /// Returns the toolkit of this installation.
    ///
    /// # Errors
    /// It is missing, or its directory cannot be read.
    pub fn locate() -> Result<Self> {
        if let Ok(named) = std::env::var("AGENT_VM_TOOLKIT")
            && !Path::new(&named).is_absolute()
        {
            return Ok(Self { fingerprint: named.clone(), reference: named, is_local: false });
        }
        match toolkit_directory() {
            Some(dir) => Self::from_directory(&dir),
            None => Err(Failure::new("this installation has no toolkit")
                .with_hint("run make install, or set AGENT_VM_TOOLKIT to a directory or a flake reference")
                .into()),
        }
    }

    fn from_directory(dir: &Path) -> Result<Self> {
        let dir = fs::canonicalize(dir).with_context(|| format!("failed to find the toolkit {}", dir.display()))?;
        let text = dir.to_str().with_context(|| format!("the toolkit's path {} is not valid UTF-8", dir.display()))?;
        let encoded = percent_encoding::utf8_percent_encode(text, crate::git::URL_PATH);
        // In a git checkout, only tracked files are part of the toolkit; build outputs must not be copied.
        let reference = if dir.join(".git").exists() {
            format!("git+file://{encoded}?shallow=1")
        } else {
            format!("path:{encoded}")
        };
        Ok(Self { reference, fingerprint: fingerprint(&dir)?, is_local: true })
    }
}

/// Returns the toolkit's directory; None if there is none, or if the toolkit is a flake reference.
fn toolkit_directory() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("AGENT_VM_TOOLKIT").map(PathBuf::from) {
        return named.is_absolute().then_some(named);
    }
    let source_tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned);
    let installed = prefix().map(|prefix| prefix.join("share/agent-vm"));
    installed.into_iter().chain(source_tree).find(|dir| dir.join("flake.nix").is_file())
}

/// Returns the toolkit's host groups, from the file that its Nix code reads too. None if they are unknown until the
/// guest is built, as with a toolkit that is a flake reference.
#[must_use]
pub fn egress_groups() -> Option<Vec<Group>> {
    let text = fs::read_to_string(toolkit_directory()?.join("lib/policy/egress-groups.json")).ok()?;
    let groups: BTreeMap<String, Vec<String>> = serde_json::from_str(&text).ok()?;
    Some(groups.into_iter().map(|(name, hosts)| Group { name, hosts }).collect())
}

/// Returns the names of a guest's predefined MCP servers, from the file that the toolkit's Nix code reads too. None if they
/// are unknown, like [`egress_groups`].
#[must_use]
pub fn known_servers(guest: GuestKind) -> Option<Vec<String>> {
    let text = fs::read_to_string(toolkit_directory()?.join("lib/policy/known-servers.json")).ok()?;
    let mut servers: BTreeMap<String, Vec<String>> = serde_json::from_str(&text).ok()?;
    servers.remove(&guest.to_string())
}

fn fingerprint(dir: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    for part in PARTS {
        for entry in walkdir::WalkDir::new(dir.join(part)).sort_by_file_name() {
            let Ok(entry) = entry else { continue };
            if entry.file_type().is_file() {
                let contents =
                    fs::read(entry.path()).with_context(|| format!("failed to read {}", entry.path().display()))?;
                let name = entry.path().strip_prefix(dir).unwrap_or(entry.path());
                hasher.update(name.as_os_str().as_encoded_bytes());
                hasher.update([0]);
                hasher.update((contents.len() as u64).to_le_bytes());
                hasher.update(contents);
            }
        }
    }
    Ok(hex(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_follows_names_and_contents() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lib")).unwrap();
        fs::write(dir.path().join("flake.nix"), "{ }").unwrap();
        let empty = fingerprint(dir.path()).unwrap();
        fs::write(dir.path().join("lib/a.nix"), "1").unwrap();
        let one = fingerprint(dir.path()).unwrap();
        fs::rename(dir.path().join("lib/a.nix"), dir.path().join("lib/b.nix")).unwrap();
        let renamed = fingerprint(dir.path()).unwrap();
        fs::write(dir.path().join("README"), "not part of it").unwrap();
        assert_eq!(renamed, fingerprint(dir.path()).unwrap());
        assert!(empty != one && one != renamed);
    }

    #[test]
    fn the_groups_are_those_of_the_toolkit() {
        // The groups of this source tree, unless the environment names another toolkit.
        let groups = egress_groups().unwrap();
        let npm = groups.iter().find(|group| group.name == "npm").unwrap();
        assert!(npm.hosts.contains(&"registry.npmjs.org".to_owned()), "{groups:?}");
    }

    #[test]
    fn the_servers_are_those_of_the_toolkit() {
        for guest in GuestKind::value_variants() {
            assert!(known_servers(*guest).unwrap().contains(&"nixos".to_owned()), "{guest}");
        }
    }

    #[test]
    fn a_directory_becomes_a_flake_reference() {
        let dir = tempfile::Builder::new().prefix("with space%").tempdir().unwrap();
        fs::write(dir.path().join("flake.nix"), "{ }").unwrap();
        let toolkit = Toolkit::from_directory(dir.path()).unwrap();
        assert!(toolkit.reference.starts_with("path:/"), "{}", toolkit.reference);
        assert!(toolkit.reference.contains("with%20space%25"), "{}", toolkit.reference);
    }
}
