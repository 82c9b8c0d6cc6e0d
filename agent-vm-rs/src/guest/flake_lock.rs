//! Reads a `flake.lock`: what each input is pinned to. Inputs are named by paths such as `toolkit/nixpkgs`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::Value;

use crate::host::files::read_text;

/// A parsed `flake.lock`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlakeLock(Value);

/// The pin of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Revision, or the hash of the contents if the input has no revision.
    pub revision: String,
    /// Date of that revision.
    pub date: Option<Timestamp>,
}

impl Pin {
    /// Returns the short revision and its date.
    #[must_use]
    pub fn describe(&self) -> String {
        let short: String =
            self.revision.chars().take(if self.revision.starts_with("sha256-") { 15 } else { 10 }).collect();
        match self.date {
            Some(date) => format!("{short} ({})", date.strftime("%Y-%m-%d")),
            None => short,
        }
    }
}

impl FlakeLock {
    /// Reads a lock file. A missing file is an empty lock.
    ///
    /// # Errors
    /// The file cannot be read or is not JSON.
    pub fn read(path: &Path) -> Result<Self> {
        if path.symlink_metadata().is_err() {
            return Ok(Self::default());
        }
        let text = read_text(path)?;
        let value =
            serde_json::from_str(&text).with_context(|| format!("{} is not a valid flake.lock", path.display()))?;
        Ok(Self(value))
    }

    /// Returns the pin of every input, by the input's path. An input that follows another has the other's pin.
    #[must_use]
    pub fn pins(&self) -> BTreeMap<String, Pin> {
        let mut pins = BTreeMap::new();
        self.collect(&mut vec![self.0["root"].as_str().unwrap_or_default()], "", &mut pins);
        pins
    }

    /// Collects the pins of the last node of `above`, the nodes on the way from the root. None of them is entered
    /// again, so cycles end.
    fn collect<'a>(&'a self, above: &mut Vec<&'a str>, path: &str, pins: &mut BTreeMap<String, Pin>) {
        let node = above.last().copied().unwrap_or_default();
        let Some(inputs) = self.0["nodes"][node]["inputs"].as_object() else { return };
        for (name, key) in inputs {
            let Some(key) = key.as_str().filter(|key| !above.contains(key)) else { continue };
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            let locked = &self.0["nodes"][key]["locked"];
            let revision = locked["rev"].as_str().or_else(|| locked["narHash"].as_str());
            if let Some(revision) = revision {
                let date = locked["lastModified"].as_i64().and_then(|second| Timestamp::from_second(second).ok());
                pins.insert(path.clone(), Pin { revision: revision.to_owned(), date });
            }
            above.push(key);
            self.collect(above, &path, pins);
            above.pop();
        }
    }

    /// Returns the flake reference that an update of the input follows, such as a branch. None if the input is missing
    /// or of an unknown type.
    #[must_use]
    pub fn asked(&self, path: &str) -> Option<String> {
        reference(&self.node(path)?["original"])
    }

    /// Returns the flake reference that the input is pinned to.
    #[must_use]
    pub fn pinned(&self, path: &str) -> Option<String> {
        reference(&self.node(path)?["locked"])
    }

    fn node(&self, path: &str) -> Option<&Value> {
        let nodes = &self.0["nodes"];
        let mut key = self.0["root"].as_str()?;
        for name in path.split('/') {
            key = nodes[key]["inputs"][name].as_str()?;
        }
        nodes.get(key)
    }
}

/// Returns the flake reference of some attributes (nix3-flake(1), "Types").
fn reference(attributes: &Value) -> Option<String> {
    let text = |name: &str| attributes[name].as_str().filter(|value| value.chars().all(|c| c.is_ascii_graphic()));
    let or_rev = || text("rev").or_else(|| text("ref"));
    let kind = text("type")?;
    let base = match kind {
        "github" | "gitlab" | "sourcehut" => {
            let end = or_rev().map_or_else(String::new, |end| format!("/{end}"));
            let host = text("host").map_or_else(String::new, |host| format!("?host={host}"));
            return Some(format!("{kind}:{}/{}{end}{host}", text("owner")?, text("repo")?));
        }
        "indirect" => {
            let end: String = ["ref", "rev"].into_iter().filter_map(text).map(|part| format!("/{part}")).collect();
            return Some(format!("flake:{}{end}", text("id")?));
        }
        "git" => format!("git+{}", text("url")?),
        "tarball" | "file" => return text("url").map(str::to_owned),
        "path" => return Some(format!("path:{}", text("path")?)),
        _ => return None,
    };
    let query: Vec<_> =
        ["ref", "rev", "dir"].into_iter().filter_map(|name| Some(format!("{name}={}", text(name)?))).collect();
    let separator = if base.contains('?') { '&' } else { '?' };
    Some(if query.is_empty() { base } else { format!("{base}{separator}{}", query.join("&")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lock() -> FlakeLock {
        FlakeLock(json!({
            "nodes": {
                "root": { "inputs": { "toolkit": "toolkit", "same": ["toolkit", "nixpkgs"] } },
                "toolkit": {
                    "inputs": { "nixpkgs": "nixpkgs_2", "self": "toolkit" },
                    "locked": { "type": "path", "path": "/t", "narHash": "sha256-AAAAAAAAAAAAAAAA" },
                    "original": { "type": "path", "path": "/t" },
                },
                "nixpkgs_2": {
                    "locked": { "type": "github", "owner": "NixOS", "repo": "nixpkgs", "rev": "0123456789abcdef", "lastModified": 86_400 },
                    "original": { "type": "github", "owner": "NixOS", "repo": "nixpkgs", "ref": "nixos-26.05" },
                },
            },
            "root": "root",
            "version": 7,
        }))
    }

    #[test]
    fn pins_are_found_by_their_paths() {
        let pins = lock().pins();
        assert_eq!(pins["toolkit/nixpkgs"].describe(), "0123456789 (1970-01-02)");
        assert_eq!(pins["toolkit"].describe(), "sha256-AAAAAAAA");
        // An input that follows another has no pin of its own, and a cycle ends.
        assert_eq!(pins.len(), 2, "{:?}", pins.keys());
        assert_eq!(FlakeLock::default().pins(), BTreeMap::new());
    }

    #[test]
    fn attributes_become_references() {
        let lock = lock();
        assert_eq!(lock.asked("toolkit/nixpkgs").unwrap(), "github:NixOS/nixpkgs/nixos-26.05");
        assert_eq!(lock.pinned("toolkit/nixpkgs").unwrap(), "github:NixOS/nixpkgs/0123456789abcdef");
        assert_eq!((lock.asked("toolkit/x"), lock.asked("same"), FlakeLock::default().asked("a")), (None, None, None));
        for (attributes, expected) in [
            (
                json!({ "type": "git", "url": "file:///np?x=1", "ref": "main", "rev": "ab" }),
                Some("git+file:///np?x=1&ref=main&rev=ab"),
            ),
            (json!({ "type": "git", "url": "https://h/np" }), Some("git+https://h/np")),
            (json!({ "type": "indirect", "id": "nixpkgs", "ref": "u" }), Some("flake:nixpkgs/u")),
            (json!({ "type": "gitlab", "owner": "o", "repo": "r", "host": "h" }), Some("gitlab:o/r?host=h")),
            (json!({ "type": "tarball", "url": "https://h/a.tar.gz" }), Some("https://h/a.tar.gz")),
            (json!({ "type": "github", "owner": "o o", "repo": "r" }), None),
            (json!({ "type": "mercurial" }), None),
        ] {
            assert_eq!(reference(&attributes).as_deref(), expected, "{attributes}");
        }
    }
}
