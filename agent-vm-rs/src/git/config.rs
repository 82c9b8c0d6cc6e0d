//! Reads a repository's configuration as data. It never becomes the configuration of a git call.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::call::git;
use super::plain_config;
use crate::host::files::plain;
use crate::term::error::Failure;

/// Largest accepted configuration file, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// Largest number of files that are remembered.
const MOST_KNOWN: usize = 16;

thread_local! {
    /// The entries of files by their text. Most commands look at the same repository twice.
    static KNOWN: RefCell<HashMap<Vec<u8>, Config>> = RefCell::default();
}

/// The entries of a configuration file, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config(Vec<(String, Option<String>)>);

/// The storage formats of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// Hash of its object ids: `sha1` or `sha256`.
    pub objects: String,
    /// Whether its references are in tables (reftable) and not in files.
    pub reftable: bool,
}

impl Config {
    /// Reads a configuration file, without the files that it includes. A missing file is empty.
    ///
    /// # Errors
    /// It is not a plain file, is too large, or is not in git's format.
    pub fn read(file: &Path) -> Result<Self> {
        // Git would block on a fifo.
        let Some(text) = plain::read(file, MAX_FILE)? else { return Ok(Self::default()) };
        let known = KNOWN.with_borrow(|known| known.get(&text).cloned());
        if let Some(config) = known {
            return Ok(config);
        }
        if let Some(entries) = plain_config::parse(&text) {
            return Ok(Self(entries));
        }
        let list = git().args(["config", "--no-includes", "--null", "--list", "--file", "-"]).cwd("/");
        let list = list.stdin(text.clone());
        let output = list.checked().with_context(|| format!("failed to read {}", file.display()))?;
        let config = Self::parse(&output.stdout);
        KNOWN.with_borrow_mut(|known| {
            if known.len() < MOST_KNOWN {
                known.insert(text, config.clone());
            }
        });
        Ok(config)
    }

    /// Returns the configuration with these entries.
    #[cfg(test)]
    pub(super) fn of_entries(entries: Vec<(String, Option<String>)>) -> Self {
        Self(entries)
    }

    /// Returns these entries followed by another file's, which take precedence.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Parses the output of `git config --null --list` and `--get-regexp`.
    #[must_use]
    pub fn parse(printed: &[u8]) -> Self {
        let entries = printed.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
        let split = |entry: &[u8]| {
            let text = String::from_utf8_lossy(entry);
            match text.split_once('\n') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (text.into_owned(), None),
            }
        };
        Self(entries.map(split).collect())
    }

    /// Returns the last value of a key, as git does. `key` has its section and name in lower case.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(name, _)| name == key).and_then(|(_, value)| value.as_deref())
    }

    /// Returns whether a key is set, also without a value.
    #[must_use]
    pub fn sets(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| name == key)
    }

    /// Returns whether a key is set to a true value.
    #[must_use]
    pub fn is_true(&self, key: &str) -> bool {
        let last = self.0.iter().rev().find(|(name, _)| name == key);
        last.is_some_and(|(_, value)| match value.as_deref() {
            // git-config(1): a key without a value is true.
            None => true,
            Some(text) => ["true", "yes", "on"].iter().any(|word| text.eq_ignore_ascii_case(word)) || is_nonzero(text),
        })
    }

    /// Returns the subsections that set `section.SUBSECTION.name`, each once, in the file's order.
    pub fn subsections(&self, section: &str, name: &str) -> Vec<&str> {
        let mut found = Vec::new();
        for (key, _) in &self.0 {
            let middle = key.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'));
            let middle = middle.and_then(|rest| rest.strip_suffix(name)?.strip_suffix('.'));
            if let Some(middle) = middle.filter(|middle| !found.contains(middle)) {
                found.push(middle);
            }
        }
        found
    }

    /// Returns each value of `section.SUBSECTION.name` with its subsection.
    pub fn values<'a>(&'a self, section: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(key, value)| {
            let middle = key.strip_prefix(section)?.strip_prefix('.')?.strip_suffix(name)?.strip_suffix('.')?;
            Some((middle, value.as_deref()?))
        })
    }

    /// Returns whether it includes other files.
    #[must_use]
    pub fn includes(&self) -> bool {
        self.0.iter().any(|(key, _)| key.starts_with("include.") || key.starts_with("includeif."))
    }

    /// Returns the remotes that have the objects which a partial clone lacks, with their URLs; none for other repositories.
    #[must_use]
    pub fn promisors(&self) -> Vec<(&str, &str)> {
        let is_promisor = |remote: &&str| self.is_true(&format!("remote.{remote}.promisor"));
        let named = self.get("extensions.partialclone").filter(|name| !is_promisor(name));
        let others = self.subsections("remote", "promisor").into_iter().filter(is_promisor);
        let url = |remote| (remote, self.get(&format!("remote.{remote}.url")).unwrap_or_default());
        named.into_iter().chain(others).map(url).collect()
    }

    /// Returns the storage formats of the repository that has this configuration.
    ///
    /// # Errors
    /// The repository uses a format version or an extension that agent-vm does not know.
    pub fn format(&self) -> Result<Format> {
        let version: u32 = match self.get("core.repositoryformatversion") {
            None => 0,
            Some(text) => text.parse().context("core.repositoryformatversion is not a number")?,
        };
        let mut format = Format { objects: "sha1".to_owned(), reftable: false };
        for (key, value) in &self.0 {
            let Some(extension) = key.strip_prefix("extensions.") else { continue };
            let value = value.as_deref().unwrap_or_default();
            match (extension, value) {
                ("objectformat", "sha1" | "sha256") => value.clone_into(&mut format.objects),
                ("refstorage", "files" | "reftable") => format.reftable = value == "reftable",
                (
                    "partialclone" | "preciousobjects" | "worktreeconfig" | "relativeworktrees" | "noop" | "noop-v1",
                    _,
                ) => {}
                // Git ignores unknown extensions in repositories of format version 0.
                _ if version == 0 => {}
                _ => return Err(unknown(&format!("{key} = {value}"))),
            }
        }
        if version > 1 { Err(unknown(&format!("core.repositoryFormatVersion = {version}"))) } else { Ok(format) }
    }
}

/// Returns whether a text is a number other than 0, with git's bases and units: `0x10`, `1k`. (git-config(1), "integer")
fn is_nonzero(text: &str) -> bool {
    let text = text.trim_ascii_start();
    let text = text.strip_prefix(['+', '-']).unwrap_or(text).to_ascii_lowercase();
    let digits = text.strip_suffix(['k', 'm', 'g']).unwrap_or(&text);
    let (digits, base) = digits.strip_prefix("0x").map_or((digits, 10), |digits| (digits, 16));
    digits.chars().all(|digit| digit.is_digit(base)) && digits.chars().any(|digit| digit != '0')
}

fn unknown(what: &str) -> anyhow::Error {
    Failure::new(format!("the repository has an unknown format: {}", crate::term::text::one_line(what)))
        .with_hint("clone it and use the clone: git clone --no-local REPOSITORY NEW-DIRECTORY")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::read(file.path())
    }

    #[test]
    fn a_file_is_read_as_git_reads_it_and_nothing_else() {
        let other = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(other.path(), "[user]\n\tname = other\n").unwrap();
        let text = format!(
            "[include]\n\tpath = {}\n[Core]\n\tBARE\n\tfileMode = no\n[remote \"A b\"]\n\turl = x\n\turl = y\n\tpromisor = true\n",
            other.path().display()
        );
        let found = config(&text).unwrap();
        assert!(found.is_true("core.bare") && !found.is_true("core.filemode") && found.includes());
        assert_eq!((found.get("remote.A b.url"), found.get("user.name")), (Some("y"), None));
        assert_eq!(found.subsections("remote", "url"), ["A b"]);
        assert_eq!(found.promisors(), [("A b", "y")]);
        assert!(config("[broken").is_err());
        assert!(!Config::read(Path::new("/nowhere")).unwrap().is_true("core.bare"));
    }

    #[test]
    fn numbers_are_true_as_in_git() {
        for (text, wanted) in
            [("1", true), ("0", false), ("-1", true), ("1k", true), ("0x2M", true), (" 010", true), ("00k", false)]
        {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), format!("[a]\n\tb = \"{text}\"\n")).unwrap();
            let of_git = git().args(["config", "--type=bool", "--file"]).arg(file.path()).arg("a.b").cwd("/");
            assert_eq!(of_git.checked().unwrap().stdout, format!("{wanted}\n").as_bytes(), "{text}");
            assert_eq!(Config::read(file.path()).unwrap().is_true("a.b"), wanted, "{text}");
        }
        for text in ["", "k", "1kk", "x", "0x"] {
            assert!(!is_nonzero(text), "{text}");
        }
    }

    #[test]
    fn known_formats_are_returned_and_others_refused() {
        let format = |text: &str| config(text).unwrap().format().ok().map(|format| (format.objects, format.reftable));
        let version_1 = "[core]\n\trepositoryFormatVersion = 1\n[extensions]\n";
        assert_eq!(format(""), Some(("sha1".to_owned(), false)));
        assert_eq!(
            format(&format!("{version_1}objectFormat = sha256\nrefStorage = reftable\nworktreeConfig = true\n")),
            Some(("sha256".to_owned(), true))
        );
        for wrong in ["new = x\n", "objectFormat = sha512\n", "refStorage = x\n"] {
            assert_eq!(format(&format!("{version_1}{wrong}")), None, "{wrong}");
        }
        assert_eq!(format("[core]\n\trepositoryFormatVersion = 2\n"), None);
        assert_eq!(format("[extensions]\nnew = x\n"), Some(("sha1".to_owned(), false)));
    }
}
