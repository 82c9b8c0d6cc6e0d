//! Tests that every command in a message, a hint or a page of the documentation is valid on the command line.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;

use super::*;

/// Words that a command follows in a sentence. After any other word, `agent-vm` is the program's name.
const BEFORE: &[&str] = &["", "or", "then", "and", "with", "by", "try", "see", "either", "that"];
/// Comments of ssh keys, which also start with the program's name.
const NOT_COMMANDS: &[&str] = &["login", "host"];
/// Stand-ins for unknown values: one of them is valid for each flag and argument.
const VALUES: &[&str] = &["example.org", "1", "claude-code", "NAME=example.org", "allowlist"];

/// Starts of lines that are no hints and may have two commands.
const TWO_COMMANDS: &[&str] = &["client  agent-vm mcp-config"];

/// Returns whether the command line accepts these words, possibly followed by others.
fn is_taken(words: &[String]) -> bool {
    let line = std::iter::once("agent-vm".to_owned()).chain(words.iter().cloned());
    match Cli::try_parse_from(line) {
        Ok(_) => true,
        Err(error) => matches!(
            error.kind(),
            ErrorKind::MissingRequiredArgument
                | ErrorKind::MissingSubcommand
                | ErrorKind::DisplayHelp
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                | ErrorKind::DisplayVersion
        ),
    }
}

/// Splits a command into words, with `value` in place of `{name}`, `NAME` and `…`.
fn words(command: &str, value: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = command;
    while let Some((before, after)) = rest.split_once('{') {
        plain += before;
        plain += value;
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    plain += rest;
    let plain = plain.replace(['[', ']', '…'], " ");
    let words = shlex::split(&plain).unwrap_or_default().into_iter();
    let is_name = |word: &str| {
        word.contains(|c: char| c.is_ascii_uppercase())
            && word.len() > 1
            && word.chars().all(|c| c.is_ascii_uppercase() || "-|".contains(c))
    };
    words
        .map(|word| match word.split_once('=') {
            _ if is_name(&word) => value.to_owned(),
            Some((flag, name)) if is_name(name) => format!("{flag}={value}"),
            _ => word,
        })
        .collect()
}

/// Returns whether a sentence starts with a valid command. All flags in the sentence belong to the command.
fn begins_with_a_command(sentence: &str) -> bool {
    VALUES.iter().any(|value| {
        let words = words(sentence, value);
        let flags_end = words.iter().rposition(|word| word.starts_with('-')).map_or(1, |last| last + 1);
        (flags_end..=words.len()).any(|end| is_taken(&words[..end]))
    })
}

/// Returns the commands in a text of sentences; `agent-vm` alone does not count.
fn in_sentences(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("agent-vm ") {
        let before = &text[..at];
        let last = before.rsplit([' ', '\n', '(', '`', '"']).next().unwrap_or_default();
        let comes_after_a_word = before.ends_with(' ') && {
            let word = before.trim_end().rsplit([' ', '(', '\n']).next().unwrap_or_default();
            !(word.ends_with([',', ';', ':', '.', '(']) || BEFORE.contains(&word))
        };
        if !last.is_empty() || comes_after_a_word {
            continue;
        }
        let after = &text[at + "agent-vm ".len()..];
        let end = after.find([',', ';', ')', '`', '\n', '"', '#']).unwrap_or(after.len());
        let command = after[..end].trim_end_matches([' ', '.', ':', '\'']);
        if !command.is_empty() && !NOT_COMMANDS.contains(&command) {
            found.push(command.to_owned());
        }
    }
    found
}

/// Returns the string literals of a program, without those in comments and tests.
fn literals(program: &str) -> Vec<String> {
    let program = program.split("#[cfg(test)]").next().unwrap_or_default();
    let code: Vec<_> = program.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n").replace("'\"'", "' '").replace("'\\\"'", "' '");
    let mut found = Vec::new();
    let mut letters = code.chars();
    while letters.by_ref().any(|c| c == '"') {
        let mut text = String::new();
        while let Some(c) = letters.next().filter(|c| *c != '"') {
            match c {
                '\\' => match letters.next() {
                    Some('n') => text.push('\n'),
                    // A literal that continues on the next line.
                    Some('\n') => letters = letters.as_str().trim_start().chars(),
                    Some(c) => text.push(c),
                    None => {}
                },
                c => text.push(c),
            }
        }
        found.push(text);
    }
    found
}

/// Returns the commands in a page's code spans and code blocks.
fn in_page(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_code = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
            continue;
        }
        let parts: Vec<_> = if is_code { vec![line] } else { line.split('`').skip(1).step_by(2).collect() };
        for part in parts {
            for command in part.split(" #").next().unwrap_or_default().split([';', '|', '&']) {
                let command = command
                    .trim_start_matches('&')
                    .trim()
                    .trim_start_matches("$ ")
                    .trim_start_matches("nix run .#agent -- ");
                found.extend(command.strip_prefix("agent-vm ").map(str::to_owned));
            }
        }
    }
    found
}

/// Returns the files below a directory of the repository whose names have this ending, with their texts; without this
/// file.
pub(super) fn files(below: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let entries = walkdir::WalkDir::new(root.join(below)).into_iter().flatten();
    let is_meant =
        |path: &Path| path.extension().is_some_and(|found| found == ending) && !path.ends_with("quoted_commands.rs");
    let named = entries.filter(|entry| is_meant(entry.path()));
    named.map(|entry| (entry.path().to_owned(), std::fs::read_to_string(entry.path()).unwrap())).collect()
}

#[test]
fn every_command_in_a_message_is_valid() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (path, program) in files("agent-vm-rs/src", "rs") {
        for command in literals(&program).iter().flat_map(|text| in_sentences(text)) {
            seen += 1;
            if !begins_with_a_command(&command) {
                wrong.push(format!("{}: agent-vm {command}", path.display()));
            }
        }
    }
    // The messages of the guest's programs and of the setup.
    for (path, text) in ["nix", "py", "sh"].iter().flat_map(|kind| files("lib", kind)) {
        for command in in_sentences(&text) {
            seen += 1;
            if !begins_with_a_command(&command) {
                wrong.push(format!("{}: agent-vm {command}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 50, "only {seen} commands were found");
}

/// A line with two commands cannot be copied into a shell.
#[test]
fn every_command_in_a_hint_has_its_own_line() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (path, program) in files("agent-vm-rs/src", "rs") {
        let texts = literals(&program);
        for line in texts.iter().flat_map(|text| text.lines()) {
            let commands = in_sentences(line).len();
            seen += commands;
            if commands > 1 && !TWO_COMMANDS.iter().any(|known| line.contains(known)) {
                wrong.push(format!("{}: {line}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 50, "only {seen} commands were found");
    // Control: two commands on a line are found.
    assert_eq!(in_sentences("agent-vm stop x, then agent-vm start x").len(), 2);
}

#[test]
fn every_command_on_a_page_is_valid() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    let readme = files("README.md", "md").into_iter().chain(files("CHANGELOG.md", "md"));
    for (path, page) in readme.chain(files("docs", "md")) {
        for command in in_page(&page) {
            seen += 1;
            if !VALUES.iter().any(|value| is_taken(&words(&command, value))) {
                wrong.push(format!("{}: agent-vm {command}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 30, "only {seen} commands were found");
}

#[test]
fn invalid_commands_are_found() {
    let commands = in_sentences("look at it: agent-vm logs --nope x, or agent-vm mend x; the agent-vm that wrote it");
    assert_eq!(commands, ["logs --nope x", "mend x"]);
    assert!(commands.iter().all(|command| !begins_with_a_command(command)));
    for sentence in ["list to see all machines", "destroy {name} --yes keeps them in a bundle"] {
        assert!(begins_with_a_command(sentence), "{sentence}");
    }
    assert_eq!(in_page("`agent-vm nope` and\n```\nagent-vm stop; agent-vm destroy # all\n```\n").len(), 3);
    assert_eq!(literals("// \"no\"\nlet a = \"one \\\n    two\"; '\"' \"three\\\"\""), ["one two", "three\""]);
}
