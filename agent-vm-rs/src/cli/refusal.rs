//! Reports a command line that clap refuses, with a hint what to type.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::line::{Line, join};
use crate::machine::settings_key::parse_key;
use crate::term::did_you_mean::{Kind, own_word, suggestion};
use crate::term::error::{EXIT_USAGE, Failure, report};

/// Reports a clap error with a hint, or prints the requested help or version.
pub fn refuse(error: &clap::Error) -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    refuse_words(error, &words)
}

/// Reports a clap error about these words as [`refuse`] does.
pub fn refuse_words(error: &clap::Error, words: &[String]) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        error.exit();
    }
    report(&failure(error, words).into());
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

impl Line<'_> {
    /// Returns what to type instead.
    fn hint(&self, error: &clap::Error) -> String {
        if let Some(word) = context(error, ContextKind::InvalidSubcommand) {
            return if self.verb() == Some("help") { self.help_for(&word) } else { self.other_verb(error, &word) };
        }
        let after = self.verb.map_or(&[][..], |at| &self.words[at + 1..]);
        if self.verb() == Some("exec") && !self.words.iter().any(|word| word == "--") {
            return format!("write -- before the command: {}", self.exec(after));
        }
        let invalid = context(error, ContextKind::InvalidArg).unwrap_or_default();
        if self.verb() == Some("shell") && error.kind() == ErrorKind::UnknownArgument && !invalid.starts_with('-') {
            return format!("to run a command: {}", self.exec(after));
        }
        if self.verb() == Some("create") && error.kind() == ErrorKind::UnknownArgument && !invalid.starts_with('-') {
            let branch = shlex::try_quote(&invalid).unwrap_or_default();
            return format!("to create the machine of a branch: agent-vm create --branch {branch}");
        }
        if self.verb() == Some("set")
            && let Some(setting) = self.dashed_setting(after, &invalid)
        {
            return setting;
        }
        let suggested = [ContextKind::SuggestedArg, ContextKind::SuggestedValue];
        let similar = || suggested.iter().find_map(|kind| context(error, *kind));
        match self.other_word(error, &invalid).or_else(similar) {
            Some(word) => format!("did you mean {word}? For usage: {}", self.help()),
            None => format!("for usage: {}", self.help()),
        }
    }

    /// Returns the hint for `help WORD`. `help` itself takes no flags.
    fn help_for(&self, word: &str) -> String {
        let names: Vec<_> =
            self.commands.get_subcommands().filter(|one| !one.is_hide_set()).map(clap::Command::get_name).collect();
        match suggestion(Kind::Verb, word, &names).filter(|_| !word.starts_with('-')) {
            Some(meant) => format!("did you mean: agent-vm help {meant}"),
            None => "for a list: agent-vm --help".to_owned(),
        }
    }

    /// Returns the hint for `set --memory 8192`.
    fn dashed_setting(&self, after: &[String], invalid: &str) -> Option<String> {
        let key = parse_key(invalid.strip_prefix("--")?).ok()?.name();
        let at = after.iter().position(|word| word.split('=').next() == Some(invalid))?;
        let (before, rest) = after.split_at(at);
        let (value, rest) = match rest[0].split_once('=') {
            Some((_, value)) => (value, &rest[1..]),
            None => (rest.get(1).map_or("VALUE", String::as_str), rest.get(2..).unwrap_or_default()),
        };
        let line: Vec<_> =
            before.iter().cloned().chain([format!("{key}={value}")]).chain(rest.iter().cloned()).collect();
        Some(format!("settings have no dashes: agent-vm set {}", join(&line)))
    }

    /// Returns the hint for a word that starts or runs something in other programs, or that names a machine. None if it is of
    /// another kind.
    fn started(&self, word: &str, after: &[String]) -> Option<String> {
        let is_command = after.iter().any(|word| !word.starts_with('-'));
        let start = |names: &[String]| format!("did you mean: agent-vm start {}", join(names));
        match word {
            _ if own_word(Kind::Verb, word).is_some() && !(word == "make" && is_command) => None,
            _ if self.names_machine(word) => Some(start(&[word.to_owned()])),
            _ if is_command => {
                let command: Vec<_> = [word.to_owned()].into_iter().chain(after.iter().cloned()).collect();
                Some(format!("to run a command in a machine: agent-vm exec -- {}", join(&command)))
            }
            _ => None,
        }
    }

    /// Returns the hint for a word in the place of a command: the line with the command that was probably meant.
    fn other_verb(&self, error: &clap::Error, word: &str) -> String {
        let at = self.words.iter().position(|typed| typed == word).unwrap_or_default();
        let is_below = self.verb.is_some_and(|verb| verb < at);
        let kind = if is_below { Kind::EgressVerb } else { Kind::Verb };
        let similar = || context(error, ContextKind::SuggestedSubcommand);
        if !is_below
            && (similar().is_none() || word == "make" || self.names_machine(word))
            && let Some(hint) = self.started(word, &self.words[at + 1..])
        {
            return hint;
        }
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
        let asks = self.verb().filter(|verb| ["destroy", "prune"].contains(verb)).is_some();
        if asks && ["-f", "--force"].contains(&invalid) {
            return Some("--yes".to_owned());
        }
        let name = invalid.strip_prefix("--")?;
        if error.kind() == ErrorKind::InvalidValue {
            let value = context(error, ContextKind::InvalidValue)?;
            return name.starts_with("egress").then(|| own_word(Kind::EgressMode, &value).map(str::to_owned))?;
        }
        let flag = own_word(Kind::Setting, &name.replace('-', "_"))?;
        let verb = self.commands.find_subcommand(self.verb()?)?;
        verb.get_arguments().any(|arg| arg.get_long() == Some(flag)).then(|| format!("--{flag}"))
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;
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
        assert_eq!(hint("egress allow"), "for usage: agent-vm egress allow --help");
        assert_eq!(hint("kept show"), "for usage: agent-vm kept show --help");
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
    fn a_word_that_runs_something_gets_a_line_that_does() {
        for (typed, meant) in [
            ("make test", "to run a command in a machine: agent-vm exec -- make test"),
            ("npm install", "to run a command in a machine: agent-vm exec -- npm install"),
            // Control: these are mistyped commands.
            ("make", "did you mean: agent-vm create"),
            ("strat main", "did you mean: agent-vm start main"),
            ("help statuss", "did you mean: agent-vm help status"),
            ("help ls", "did you mean: agent-vm help list"),
            ("help --help", "for a list: agent-vm --help"),
            ("help xyzzy", "for a list: agent-vm --help"),
            ("destroy --force", "did you mean --yes? For usage: agent-vm destroy --help"),
            ("destroy main -f", "did you mean --yes? For usage: agent-vm destroy --help"),
            ("set main --memory 3000", "settings have no dashes: agent-vm set main memory=3000"),
            ("set --ssh-port=3000 cores=1", "settings have no dashes: agent-vm set ssh_port=3000 cores=1"),
            ("set --memory", "settings have no dashes: agent-vm set memory=VALUE"),
        ] {
            assert_eq!(hint(typed), meant, "{typed}");
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
