//! Machine names: one safe path component for each repository and branch.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::host::hex::hex;
use crate::machine::branch::BranchName;
use crate::term::error::Failure;

/// A machine's name: `[A-Za-z0-9][A-Za-z0-9._-]*`, at most 64 bytes. It is one path component, is not an option, and
/// needs no quoting.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VmName(String);

const MAX_BYTES: usize = 64;
const HASH_DIGITS: usize = 8;

impl VmName {
    /// Returns the name of a machine unless another machine has it: `<repo>-<branch>`, with a short hash if characters
    /// had to be replaced.
    #[must_use]
    pub fn plain(source: &Path, branch: &BranchName) -> Self {
        let wanted = format!("{}-{branch}", repo_name(source));
        let safe = safe_component(&wanted);
        if safe == wanted && safe.len() <= MAX_BYTES { Self(safe) } else { Self::hashed(source, branch) }
    }

    /// Returns the name that only this repository (by its path) and branch can have.
    #[must_use]
    pub fn hashed(source: &Path, branch: &BranchName) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(source.as_os_str().as_encoded_bytes());
        hasher.update([0]);
        hasher.update(branch.as_str());
        let hash = hex(&hasher.finalize()[..HASH_DIGITS / 2]);
        let mut stem = safe_component(&format!("{}-{branch}", repo_name(source)));
        stem.truncate(MAX_BYTES - HASH_DIGITS - 1);
        Self(format!("{}-{hash}", stem.trim_end_matches(['-', '.', '_'])))
    }

    /// Returns what the names of this repository's machines begin with, if their branches begin with `typed`. Machines of other
    /// repositories can have such names, too.
    #[must_use]
    pub fn beginning(source: &Path, typed: &str) -> String {
        let mut stem = dashed(&format!("{}-{typed}", repo_name(source)));
        stem.truncate(MAX_BYTES - HASH_DIGITS - 1);
        stem.trim_end_matches(['-', '.', '_']).to_owned()
    }

    /// Returns the name as a path component.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name as a host name (RFC 1123): lower case letters, digits and inner dashes, at most 63 bytes.
    #[must_use]
    pub fn hostname(&self) -> String {
        let label: String = self
            .0
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .take(63)
            .collect();
        label.trim_matches('-').to_owned()
    }
}

/// Returns the repository's name: the last component of its path that does not begin with a dot (as `.bare` does), without
/// `.git`.
fn repo_name(source: &Path) -> String {
    let names = source.ancestors().filter_map(Path::file_name).map(|name| name.to_string_lossy());
    let name = names.into_iter().find(|name| !name.starts_with('.')).unwrap_or_default();
    name.strip_suffix(".git").unwrap_or(&name).to_owned()
}

/// Returns the text with every unsafe character replaced by a dash. The result is ASCII, not empty, and starts with
/// neither a dash nor a dot.
fn safe_component(text: &str) -> String {
    let dashed = dashed(text);
    if dashed.is_empty() { "vm".to_owned() } else { dashed }
}

/// Like [`safe_component`], but can be empty.
fn dashed(text: &str) -> String {
    let dashed: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
    dashed.trim_start_matches(['-', '.', '_']).to_owned()
}

impl FromStr for VmName {
    type Err = Failure;

    fn from_str(name: &str) -> Result<Self, Failure> {
        if name.len() <= MAX_BYTES && name == safe_component(name) {
            Ok(Self(name.to_owned()))
        } else {
            Err(Failure::usage(format!("{:?} is not a machine name", crate::term::text::one_line(name)))
                .with_hint("to list all machines: agent-vm list"))
        }
    }
}

impl TryFrom<String> for VmName {
    type Error = Failure;

    fn try_from(name: String) -> Result<Self, Failure> {
        name.parse()
    }
}

impl From<VmName> for String {
    fn from(name: VmName) -> Self {
        name.0
    }
}

impl fmt::Display for VmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(source: &str, branch: &str) -> String {
        VmName::plain(Path::new(source), &branch.parse().unwrap()).to_string()
    }

    #[test]
    fn safe_names_are_not_changed() {
        assert_eq!(plain("/src/app", "main"), "app-main");
        assert_eq!(plain("/src/app.git", "v1.2_x"), "app-v1.2_x");
    }

    #[test]
    fn similar_names_stay_different() {
        assert_ne!(plain("/src/app", "a/b"), plain("/src/app", "a-b"));
        assert_ne!(plain("/src/app", "é"), plain("/src/app", "è"));
        let (one, two) = ("main".parse().unwrap(), "main".parse().unwrap());
        assert_ne!(VmName::hashed(Path::new("/x/app"), &one), VmName::hashed(Path::new("/y/app"), &two));
    }

    #[test]
    fn host_names_are_labels() {
        let name: VmName = "App-v1.2_x-".parse().unwrap();
        assert_eq!(name.hostname(), "app-v1-2-x");
    }

    #[test]
    fn paths_are_refused_as_names() {
        for name in ["", ".", "..", "../x", "a/b", "-rf", ".locks", "a b", "a\n"] {
            assert!(name.parse::<VmName>().is_err(), "{name:?} was accepted");
        }
    }

    proptest! {
        /// Every directory and branch give one safe path component.
        #[test]
        fn every_name_is_one_safe_component(repo in "\\PC{0,90}", branch in "\\PC{1,90}") {
            if let Ok(branch) = branch.parse::<BranchName>() {
                let source = Path::new("/src").join(repo.replace('/', "_"));
                for name in [VmName::plain(&source, &branch), VmName::hashed(&source, &branch)] {
                    let typed: String = branch.as_str().chars().take(3).collect();
                    prop_assert!(name.as_str().starts_with(&VmName::beginning(&source, &typed)));
                    prop_assert_eq!(name.as_str().parse::<VmName>().unwrap(), name.clone());
                    prop_assert!(!name.hostname().is_empty());
                }
            }
        }
    }
}
