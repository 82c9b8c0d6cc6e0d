//! The command line for another host.

use std::fs;
use std::io::{IsTerminal as _, stderr, stdin, stdout};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::cli::verb::Verb;
use crate::remote::other_host::Terminal;
use crate::term::error::Failure;

/// Flags about this host, with their values.
const OF_THIS_HOST: [&str; 2] = ["--remote", "--state-dir"];
/// Flag that names a file of this host, which the other one needs.
const FILE: &str = "--config";

/// Words of a command line, and the files that it names.
pub struct Words {
    /// The words after the program's name.
    pub words: Vec<String>,
    /// The index of each word that names a file, and the file's content.
    pub files: Vec<(usize, String)>,
}

impl Words {
    /// Returns the words of this process for another host.
    ///
    /// # Errors
    /// A word is not valid UTF-8, or a file cannot be read.
    pub fn of_process() -> Result<Self> {
        let words = std::env::args_os().skip(1).map(|word| {
            word.into_string().map_err(|word| {
                Failure::usage(format!("{word:?} is not valid UTF-8, as arguments for another host must be")).into()
            })
        });
        Self::of(words.collect::<Result<Vec<_>>>()?, |path| {
            fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
        })
    }

    fn of(all: Vec<String>, read: impl Fn(&Path) -> Result<String>) -> Result<Self> {
        let mut found = Self { words: Vec::new(), files: Vec::new() };
        let mut rest = all.into_iter();
        while let Some(word) = rest.next() {
            if word == "--" {
                found.words.push(word);
                found.words.extend(rest);
                break;
            }
            let (flag, value) = word.split_once('=').map_or((word.as_str(), None), |(flag, value)| (flag, Some(value)));
            if OF_THIS_HOST.contains(&flag) {
                if value.is_none() {
                    drop(rest.next());
                }
            } else if flag == FILE {
                let Some(path) = value.map(str::to_owned).or_else(|| rest.next()) else { continue };
                found.words.push(FILE.to_owned());
                found.files.push((found.words.len(), read(Path::new(&path))?));
                found.words.push(path);
            } else {
                found.words.push(word);
            }
        }
        Ok(found)
    }

    /// Removes flags without values.
    #[must_use]
    pub fn without(mut self, flags: &[&str]) -> Self {
        let end = self.words.iter().position(|word| word == "--").unwrap_or(self.words.len());
        let mut at = 0;
        self.words.retain(|word| {
            at += 1;
            at > end || !flags.contains(&word.as_str())
        });
        self
    }
}

/// Returns whether a verb needs a terminal there.
pub fn terminal(verb: Option<&Verb>) -> Terminal {
    let (input, output) = (stdin().is_terminal(), stdout().is_terminal());
    let needs = match verb {
        Some(Verb::Mcp(_) | Verb::SshProxy(_)) => false,
        Some(Verb::Shell(_) | Verb::Exec(_) | Verb::Run(_) | Verb::Attach(_)) => input && output,
        // A terminal there has one output, and not two.
        _ => input && output && stderr().is_terminal(),
    };
    if needs { Terminal::Own } else { Terminal::None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_this_host_stays_here() {
        let words = |line: &str| {
            let all = line.split(' ').map(str::to_owned).collect();
            Words::of(all, |path| Ok(format!("<{}>", path.display()))).unwrap()
        };
        for (line, sent) in [
            ("--remote ssh://box list --json", "list --json"),
            ("list --remote=ssh://box --state-dir /x", "list"),
            ("exec main -- ls --remote x", "exec main -- ls --remote x"),
            ("create --config a.json", "create --config a.json"),
        ] {
            assert_eq!(words(line).words.join(" "), sent);
        }
        let create = words("create --branch x --config=a.json --json");
        assert_eq!(create.words.join(" "), "create --branch x --config a.json --json");
        assert_eq!(create.files, [(4, "<a.json>".to_owned())]);
        let run = words("run claude --task t --fetch -- --fetch").without(&["--fetch"]);
        assert_eq!(run.words.join(" "), "run claude --task t -- --fetch");
    }
}
