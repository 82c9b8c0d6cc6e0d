//! Reports a command line that clap refuses, with a hint what to type.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{Cli, target};
use crate::machine::state_dir::StateDir;
use crate::term::did_you_mean::{Kind, own_word};
use crate::term::error::{EXIT_USAGE, Failure, report};

/// Reports a clap error with a hint, or prints the requested help or version.
pub fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        error.exit();
    }
    let words: Vec<_> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    report(&failure(error, &words).into());
    EXIT_USAGE.into()
}

fn failure(error: &clap::Error, words: &[String]) -> Failure {
    let line = Line::new(words);
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::usage(format!("{} needs a subcommand", line.verb().unwrap_or("agent-vm")))
            .with_hint(format!("for a list: {}", line.help()));
    }
    let own = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Failure>()?.hint());
    let hint = own.map_or_else(|| line.hint(error), str::to_owned);
    let message = error.to_string();
    // After an empty line comes clap's own advice.
    let what = message.split("\n\n").next().unwrap_or_default();
    let what: Vec<_> = what.lines().map(str::trim).collect();
    Failure::usage(what.join(" ").trim_start_matches("error: ")).with_hint(hint)
}

/// A command line without the program's name.
struct Line<'a> {
    words: &'a [String],
    commands: clap::Command,
    /// Index of the command.
    verb: Option<usize>,
}

impl<'a> Line<'a> {
    fn new(words: &'a [String]) -> Self {
        let mut commands = Cli::command();
        commands.build();
        let verb = words.iter().position(|word| commands.find_subcommand(word).is_some());
        Self { words, commands, verb }
    }

    fn verb(&self) -> Option<&'a str> {
        self.verb.map(|at| self.words[at].as_str())
    }

    /// Returns the command that shows the usage.
    fn help(&self) -> String {
        ["agent-vm"].into_iter().chain(self.verb()).chain(["--help"]).collect::<Vec<_>>().join(" ")
    }

    /// Returns what to type instead.
    fn hint(&self, error: &clap::Error) -> String {
        if let Some(word) = context(error, ContextKind::InvalidSubcommand) {
            return self.other_verb(error, &word);
        }
        if self.verb() == Some("exec") && !self.words.iter().any(|word| word == "--") {
            return format!("write -- before the command: {}", self.exec());
        }
        let invalid = context(error, ContextKind::InvalidArg).unwrap_or_default();
        if self.verb() == Some("shell") && error.kind() == ErrorKind::UnknownArgument && !invalid.starts_with('-') {
            return format!("to run a command: {}", self.exec());
        }
        if self.verb() == Some("create") && error.kind() == ErrorKind::UnknownArgument && !invalid.starts_with('-') {
            let branch = shlex::try_quote(&invalid).unwrap_or_default();
            return format!("to create the machine of a branch: agent-vm create --branch {branch}");
        }
        let suggested = [ContextKind::SuggestedArg, ContextKind::SuggestedValue];
        let similar = || suggested.iter().find_map(|kind| context(error, *kind));
        match self.other_word(error, &invalid).or_else(similar) {
            Some(word) => format!("did you mean {word}? For usage: {}", self.help()),
            None => format!("for usage: {}", self.help()),
        }
    }

    /// Returns the hint for a word in the place of a command: the line with the command that was probably meant.
    fn other_verb(&self, error: &clap::Error, word: &str) -> String {
        let at = self.words.iter().position(|typed| typed == word).unwrap_or_default();
        let is_below = self.verb.is_some_and(|verb| verb < at);
        let kind = if is_below { Kind::EgressVerb } else { Kind::Verb };
        let similar = || context(error, ContextKind::SuggestedSubcommand);
        let Some(meant) = own_word(kind, word).map(str::to_owned).or_else(similar) else {
            return if is_below {
                format!("for usage: {}", self.help())
            } else {
                "for usage: agent-vm --help".to_owned()
            };
        };
        let mut line: Vec<_> = ["agent-vm".to_owned()].into_iter().chain(self.words.iter().cloned()).collect();
        line[at + 1] = meant;
        // Other programs' flags and arguments differ.
        if self.commands.clone().try_get_matches_from(&line).is_err() {
            line.truncate(at + 2);
        }
        format!("did you mean: {}", join(&line))
    }

    /// Returns the flag or value for an other program's word for it.
    fn other_word(&self, error: &clap::Error, invalid: &str) -> Option<String> {
        let name = invalid.strip_prefix("--")?;
        if error.kind() == ErrorKind::InvalidValue {
            let value = context(error, ContextKind::InvalidValue)?;
            return name.starts_with("egress").then(|| own_word(Kind::EgressMode, &value).map(str::to_owned))?;
        }
        let flag = own_word(Kind::Setting, &name.replace('-', "_"))?;
        let verb = self.commands.find_subcommand(self.verb()?)?;
        verb.get_arguments().any(|arg| arg.get_long() == Some(flag)).then(|| format!("--{flag}"))
    }

    /// Returns the command `exec` with `--` before the guest's command, and after a machine.
    fn exec(&self) -> String {
        let after = self.verb.map_or(&[][..], |at| &self.words[at + 1..]);
        let (flags, rest) = after.split_at(self.flags_end(after));
        let has_target = flags.iter().any(|flag| flag.starts_with("--branch"));
        let is_machine = |word: &String| {
            let dir = self.state_dir();
            StateDir::locate(dir.as_deref()).is_ok_and(|state| target::is_known(&state, word))
        };
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

    /// Returns the value of `--state-dir` or its variable.
    fn state_dir(&self) -> Option<PathBuf> {
        let line = ["agent-vm".to_owned()].into_iter().chain(self.words.iter().cloned());
        let matches = Cli::command().ignore_errors(true).try_get_matches_from(line).ok()?;
        matches.try_get_one::<PathBuf>("state_dir").ok()?.cloned()
    }
}

/// Returns a part of clap's error; of several, the last one is the most likely one.
fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(word) => Some(word.clone()),
        ContextValue::Strings(words) => words.last().cloned(),
        _ => None,
    }
}

fn join(words: &[String]) -> String {
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::term::did_you_mean::OTHER_WORDS;

    fn hint(line: &str) -> String {
        let words: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let all = ["agent-vm".to_owned()].into_iter().chain(words.iter().cloned());
        let error = Cli::command().try_get_matches_from(all).unwrap_err();
        failure(&error, &words).hint().unwrap().to_owned()
    }

    #[test]
    fn words_of_other_programs_get_a_line_that_works() {
        for (typed, meant) in [
            ("up", "agent-vm start"),
            ("rm app-main", "agent-vm destroy app-main"),
            ("delete", "agent-vm destroy"),
            ("remove", "agent-vm destroy"),
            ("ssh main", "agent-vm shell main"),
            ("ps", "agent-vm list"),
            ("ls -la", "agent-vm list"),
            ("--json ls", "agent-vm --json list"),
            ("down", "agent-vm stop"),
            ("up list", "agent-vm start list"),
            ("egress add a.test", "agent-vm egress allow a.test"),
            ("egress rm a.test", "agent-vm egress deny a.test"),
            ("egress remove", "agent-vm egress deny"),
            ("strat main", "agent-vm start main"),
        ] {
            assert_eq!(hint(typed), format!("did you mean: {meant}"), "{typed}");
        }
        assert_eq!(hint("xyzzy"), "for usage: agent-vm --help");
        assert_eq!(hint("egress xyzzy"), "for usage: agent-vm egress --help");
        for (typed, meant) in [
            ("create --egress all", "open"),
            ("create --egress=off", "none"),
            ("create --egress monitr", "monitor"),
            ("create --cpus 2", "--cores"),
            ("create --ram=2", "--memory"),
            ("create --memroy 2", "--memory"),
        ] {
            assert_eq!(hint(typed), format!("did you mean {meant}? For usage: agent-vm create --help"), "{typed}");
        }
    }

    #[test]
    fn every_suggested_word_exists_and_no_other_word_does() {
        let mut root = Cli::command();
        root.build();
        let create = root.find_subcommand("create").unwrap();
        let egress = root.find_subcommand("egress").unwrap();
        let modes = create.get_arguments().find(|arg| arg.get_long() == Some("egress")).unwrap().get_possible_values();
        let exists = |kind: Kind, word: &str| match kind {
            Kind::Verb => root.find_subcommand(word).is_some(),
            Kind::EgressVerb => egress.find_subcommand(word).is_some(),
            Kind::EgressMode => modes.iter().any(|mode| mode.get_name() == word),
            Kind::Setting => crate::machine::settings_key::parse_key(word).is_ok(),
        };
        for (kind, own, others) in OTHER_WORDS {
            assert!(exists(*kind, own), "{own}");
            assert!(others.iter().all(|other| !exists(*kind, other)), "{others:?}");
        }
    }

    #[test]
    fn egress_alone_gets_a_list_of_its_subcommands() {
        let words = ["egress".to_owned()];
        let error = Cli::command().try_get_matches_from(["agent-vm", "egress"]).unwrap_err();
        let failure = failure(&error, &words);
        assert_eq!(failure.to_string(), "egress needs a subcommand");
        assert_eq!(failure.hint(), Some("for a list: agent-vm egress --help"));
    }
}
