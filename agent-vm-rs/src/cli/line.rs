//! A command line that clap refuses, and its parts.

use std::path::PathBuf;

use clap::CommandFactory as _;

use super::{Cli, target};
use crate::git::Source;
use crate::machine::state_dir::StateDir;

/// A command line without the program's name.
pub(super) struct Line<'a> {
    /// Its words.
    pub(super) words: &'a [String],
    /// The commands and flags that exist.
    pub(super) commands: clap::Command,
    /// Index of the command.
    pub(super) verb: Option<usize>,
}

impl<'a> Line<'a> {
    pub(super) fn new(words: &'a [String]) -> Self {
        let mut commands = Cli::command();
        commands.build();
        let verb = words.iter().position(|word| commands.find_subcommand(word).is_some());
        Self { words, commands, verb }
    }

    pub(super) fn verb(&self) -> Option<&'a str> {
        self.verb.map(|at| self.words[at].as_str())
    }

    /// Returns the command that shows the usage, also that of a command below another one, such as `egress allow`.
    pub(super) fn help(&self) -> String {
        let below = self.verb.and_then(|at| {
            let command = self.commands.find_subcommand(&self.words[at])?;
            let word = self.words[at + 1..].iter().find(|word| !word.starts_with('-'))?;
            command.find_subcommand(word).map(|_| word.as_str())
        });
        ["agent-vm"].into_iter().chain(self.verb()).chain(below).chain(["--help"]).collect::<Vec<_>>().join(" ")
    }

    /// Returns the command `exec` with these words: `--` before the guest's command, and after a machine.
    pub(super) fn exec(&self, after: &[String]) -> String {
        let (flags, rest) = after.split_at(self.flags_end(after));
        let has_target = flags.iter().any(|flag| flag.starts_with("--branch"));
        let is_machine = |word: &String| self.is_machine(word);
        let (machine, command) = rest.split_at(usize::from(!has_target && rest.first().is_some_and(is_machine)));
        let command = if command.is_empty() { "CMD".to_owned() } else { join(command) };
        let target: Vec<_> = flags.iter().chain(machine).cloned().collect();
        let target = if target.is_empty() { String::new() } else { format!("{} ", join(&target)) };
        format!("agent-vm exec {target}-- {command}")
    }

    /// Returns the number of words that are flags of `exec` or their values, up to the first other one.
    fn flags_end(&self, words: &[String]) -> usize {
        let Some(exec) = self.commands.find_subcommand("exec") else { return 0 };
        let mut end = 0;
        while let Some(word) = words.get(end) {
            let flag = exec.get_arguments().find(|arg| {
                arg.get_long().is_some_and(|long| word.split('=').next() == Some(&format!("--{long}")))
                    || arg.get_short().is_some_and(|short| *word == format!("-{short}"))
            });
            let Some(flag) = flag else { break };
            end += if flag.get_action().takes_values() && !word.contains('=') { 2 } else { 1 };
        }
        end.min(words.len())
    }

    fn is_machine(&self, word: &str) -> bool {
        let dir = self.state_dir();
        StateDir::locate(dir.as_deref()).is_ok_and(|state| target::is_known(&state, word))
    }

    /// Returns whether a word is a machine, or a branch of the current repository.
    pub(super) fn names_machine(&self, word: &str) -> bool {
        self.is_machine(word) || is_branch(word)
    }

    /// Returns the value of `--state-dir` or its variable.
    fn state_dir(&self) -> Option<PathBuf> {
        let line = ["agent-vm".to_owned()].into_iter().chain(self.words.iter().cloned());
        let matches = Cli::command().ignore_errors(true).try_get_matches_from(line).ok()?;
        matches.try_get_one::<PathBuf>("state_dir").ok()?.cloned()
    }
}

/// Returns whether a word is a branch of the current repository.
pub(super) fn is_branch(word: &str) -> bool {
    let source = || Source::discover(&std::env::current_dir().ok()?).ok()?;
    source().and_then(|source| source.branches().ok()).is_some_and(|all| all.iter().any(|one| one.as_str() == word))
}

/// Returns words as the arguments of a command for a shell. (shlex would also quote `=`.)
pub(super) fn join(words: &[String]) -> String {
    let is_plain =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "=-_./:,@+".contains(c));
    let quoted = |word: &String| match shlex::try_quote(word) {
        Ok(quoted) if !is_plain(word) => quoted.into_owned(),
        _ => word.clone(),
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}
