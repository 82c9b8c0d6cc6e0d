//! The page of errors has an entry for every error message of the program, and no entry for a removed one.
//!
//! An entry is a heading in code type: the message, with `…` for each value. Notices and warnings need no entry; an entry for
//! one is the beginning of its text.

use std::collections::BTreeSet;

use super::quoted_commands::files;

/// What makes an error, before its message.
const CONSTRUCTORS: [&str; 3] = ["Failure::new(", "Failure::usage(", "Failure::timeout("];
/// Fewest letters of a message; a shorter literal only wraps another message.
const FEWEST_LETTERS: usize = 5;

/// Returns the string literal that the code begins with, with its escapes resolved.
fn literal(code: &str) -> Option<String> {
    let mut text = String::new();
    let mut letters = code.strip_prefix('"')?.chars();
    loop {
        match letters.next()? {
            '"' => return Some(text),
            '\\' => match letters.next()? {
                'n' => text.push('\n'),
                '\n' => letters = letters.as_str().trim_start().chars(),
                c => text.push(c),
            },
            c => text.push(c),
        }
    }
}

/// Returns the first line of a message with `…` in place of each value.
fn shape(message: &str) -> String {
    let line = message.split_once('\n').map_or(message, |(line, _)| line.trim_end_matches(':'));
    let mut shape = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('{') {
        shape += before;
        if !shape.ends_with('…') {
            shape.push('…');
        }
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    shape += rest;
    shape.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns a program without its comments and its tests.
fn code(program: &str) -> String {
    let program = program.split("#[cfg(test)]").next().unwrap_or_default();
    let lines: Vec<_> = program.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    lines.join("\n")
}

/// Returns the messages of the errors that a program makes.
fn errors(program: &str) -> BTreeSet<String> {
    let code = code(program);
    let at = CONSTRUCTORS.iter().flat_map(|name| code.match_indices(name).map(|(at, name)| at + name.len()));
    let message = |at: usize| {
        let argument = code[at..].trim_start();
        literal(argument.strip_prefix("format!(").unwrap_or(argument).trim_start())
    };
    let is_whole = |shape: &String| shape.chars().filter(char::is_ascii_alphabetic).count() >= FEWEST_LETTERS;
    at.filter_map(message).map(|message| shape(&message)).filter(is_whole).collect()
}

/// Returns the notices and warnings that a program prints.
fn notices(program: &str) -> Vec<String> {
    let code = code(program);
    let at = ["\"notice: ", "\"warning: "].into_iter().flat_map(|start| code.match_indices(start));
    at.filter_map(|(at, _)| literal(&code[at..])).map(|text| shape(&text)).collect()
}

/// Returns the headings in code type.
fn entries(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let entry = |line: &str| Some(line.trim_start_matches('#').trim().strip_prefix('`')?.strip_suffix('`')?.to_owned());
    headings.filter_map(entry).collect()
}

#[test]
fn errors_match_their_documentation() {
    let page = include_str!("../../../docs/troubleshooting.md");
    let is_notice = |entry: &String| entry.starts_with("notice: ") || entry.starts_with("warning: ");
    let (of_notices, of_errors): (BTreeSet<_>, BTreeSet<_>) = entries(page).into_iter().partition(is_notice);
    let programs = files("agent-vm-rs/src", "rs");
    let programs: Vec<_> = programs.iter().filter(|(path, _)| !path.ends_with("tests.rs")).collect();
    let made: BTreeSet<_> = programs.iter().flat_map(|(_, program)| errors(program)).collect();
    let printed: Vec<_> = programs.iter().flat_map(|(_, program)| notices(program)).collect();

    let mut wrong: Vec<_> = made.difference(&of_errors).map(|message| format!("no entry for: {message}")).collect();
    wrong.extend(of_errors.difference(&made).map(|entry| format!("no error has the message: {entry}")));
    let is_gone = |entry: &&String| !printed.iter().any(|text| text.starts_with(*entry));
    wrong.extend(of_notices.iter().filter(is_gone).map(|entry| format!("nothing prints: {entry}")));
    assert!(wrong.is_empty(), "docs/troubleshooting.md:\n{}", wrong.join("\n"));
    assert!(made.len() > 80 && of_notices.len() > 10, "{} errors, {} notices", made.len(), of_notices.len());
}

#[test]
fn messages_are_found_however_they_are_written() {
    let program = "Failure::new(format!(\n    \"the disk {} is {why:#}\\\n     {}:\\n{said}\",\n x))\n// Failure::new(\"a comment\")\n\
                   Failure::usage(\"no \\\"machine\\\"\") Failure::new(words) Failure::new(format!(\"{a} (b): {c}\"))\n\
                   note(&format!(\"notice: no KVM ({why})\"))\n#[cfg(test)]\nFailure::new(\"of a test\")";
    let found: Vec<_> = errors(program).into_iter().collect();
    assert_eq!(found, ["no \"machine\"", "the disk … is …"]);
    assert_eq!(notices(program), ["notice: no KVM (…)"]);
    assert_eq!(entries("# Page\n### `one …`\ntext `two`\n### three\n"), BTreeSet::from(["one …".to_owned()]));
}
