//! What one agent-vm asks another one on its command line: JSON in hexadecimal digits.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::host::hex::hex;
use crate::machine::settings::Settings;
use crate::remote::ssh::CopyAsk;
use crate::term::error::Failure;

/// Version of what is asked and answered.
pub const PROTOCOL: u32 = 1;
/// Exit code if a task did not run. It is that of ssh without a connection: then, too, nothing may be concluded from it.
pub const NOT_RUN: u8 = 255;
/// Longest request, in bytes. The kernel allows arguments of 128 KiB, of which the digits need two for a byte.
const LONGEST: usize = 60 << 10;

/// A request. Only the version is read of one of another version.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    protocol: u32,
    ask: Value,
}

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Which version this is: [`Hello`].
    Hello {},
    /// Make the mirror of a repository, if it does not exist: [`Made`].
    Mirror {
        /// The repository.
        repository: Repository,
        /// Settings of its remotes and of its current branch.
        settings: Vec<(String, String)>,
    },
    /// Run a command line.
    Run {
        /// The words after the program's name.
        words: Vec<String>,
        /// The repository of the directory in which the user is.
        repository: Option<Repository>,
        /// Files: the index of the word that names each, and its content.
        files: Vec<(usize, String)>,
    },
    /// Run the command line of a task, as [`Ask::Run`] does. The exit code is [`NOT_RUN`] if the task did not run.
    Task {
        /// The words after the program's name.
        words: Vec<String>,
        /// The repository of the directory in which the user is.
        repository: Option<Repository>,
        /// Files: the index of the word that names each, and its content.
        files: Vec<(usize, String)>,
    },
    /// Fetch from a machine into its repository there: [`FetchedThere`].
    Fetch {
        /// The branch or machine.
        named: Option<String>,
        /// The repository of the directory in which the user is.
        repository: Option<Repository>,
        /// Whether to fetch uncommitted changes.
        uncommitted: bool,
        /// Largest size of the new commits' files, in bytes.
        most: u64,
    },
    /// Which machine is meant: [`Meant`].
    Which {
        /// The branch or machine.
        named: Option<String>,
        /// The repository of the directory in which the user is.
        repository: Option<Repository>,
    },
    /// Copy between standard input or output and a machine.
    Copy {
        /// The branch or machine.
        named: Option<String>,
        /// The repository of the directory in which the user is.
        repository: Option<Repository>,
        /// What to copy.
        copy: CopyAsk,
    },
}

/// A repository of the asking host.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// Name of its directory.
    pub name: String,
    /// A name that no other repository has.
    pub id: String,
    /// Its HEAD: a full reference name, or a commit.
    pub head: String,
    /// The format of its objects.
    pub objects: String,
}

/// The answer to [`Ask::Hello`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Version of the program.
    pub version: String,
}

/// The answer to [`Ask::Mirror`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Made {
    /// Path of the mirror.
    pub path: String,
}

/// The answer to [`Ask::Which`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Meant {
    /// Name of the machine.
    pub name: String,
    /// Its settings.
    pub settings: Settings,
}

/// The answer to [`Ask::Fetch`].
#[derive(Debug, Serialize, Deserialize)]
pub struct FetchedThere {
    /// Name of the machine.
    pub name: String,
    /// Path of its repository.
    pub path: String,
    /// Start of the names of its references there.
    pub prefix: String,
    /// Its settings.
    pub settings: Settings,
    /// What the machine has and was not fetched.
    pub left_out: Vec<String>,
    /// Whether the uncommitted changes are those of now.
    pub has_looked_at_files: bool,
}

impl Ask {
    /// Returns the request as a word of a command line.
    ///
    /// # Errors
    /// It is too long.
    pub fn word(&self) -> Result<String> {
        let request = Request { protocol: PROTOCOL, ask: serde_json::to_value(self)? };
        let text = serde_json::to_vec(&request)?;
        if text.len() > LONGEST {
            return Err(Failure::usage("the command line is too long for another host")
                .with_hint("write what is long into a file there: agent-vm cp FILE MACHINE:PATH")
                .into());
        }
        Ok(hex(&text))
    }

    /// Reads a request.
    ///
    /// # Errors
    /// It is damaged, or of another version.
    pub fn of_word(word: &str) -> Result<Self> {
        let damaged = "the request is damaged";
        let digits = word.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        let text = digits.collect::<Option<Vec<u8>>>().context(damaged)?;
        let request: Request = serde_json::from_slice(&text).context(damaged)?;
        if request.protocol != PROTOCOL {
            return Err(Failure::new(format!(
                "the asking agent-vm speaks version {} of the protocol, and this one version {PROTOCOL}",
                request.protocol
            ))
            .with_hint("install the same version on both hosts")
            .into());
        }
        serde_json::from_value(request.ask).context(damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_words_are_letters_and_digits_on_the_way() {
        let words = ["exec", "--", "a b", "'\"$(id)`\\\n!", "ünï", ""].map(str::to_owned).to_vec();
        let ask = Ask::Run { words, repository: None, files: Vec::new() };
        let word = ask.word().unwrap();
        assert!(word.chars().all(|c| c.is_ascii_alphanumeric()));
        assert_eq!(Ask::of_word(&word).unwrap(), ask);
        for damaged in ["", "zz", "7b", &word[2..], "7b7d"] {
            assert!(Ask::of_word(damaged).is_err(), "{damaged}");
        }
        let other = hex(br#"{"protocol":99,"ask":{"dance":{}}}"#);
        assert!(Ask::of_word(&other).unwrap_err().to_string().contains("version 99"));
        let long = Ask::Run { words: vec!["x".repeat(LONGEST)], repository: None, files: Vec::new() };
        assert!(long.word().is_err());
    }
}
