//! The page of errors has an entry for every error message of the program, and no entry for a removed one.
//!
//! An entry is a heading in code type: the message, with `…` for each value. Notices and warnings need no entry; an entry for
//! one is the beginning of its text. Reasons, made with anyhow's macros, need none either if they only follow another message.

use std::collections::BTreeSet;
use std::path::Path;

use super::quoted_commands::files;

/// What makes an error, before its message.
const CONSTRUCTORS: [&str; 3] = ["Failure::new(", "Failure::usage(", "Failure::timeout("];
/// Arguments of these that are neither a literal nor `format!`: clap makes this message.
const OTHER_ARGUMENTS: [&str; 1] = ["what.join(\" \").trim_start_matches(\"error: \"))"];
/// What makes a reason.
const MACROS: [&str; 3] = ["anyhow!(", "bail!(", "ensure!("];
/// Files whose reasons always follow another message or stand in a log or in `status`.
const REASONS_ONLY: [&str; 22] = [
    "egress/supervise.rs",
    "git/alternates.rs",
    "git/mirror.rs",
    "git/partial.rs",
    "git/public_address.rs",
    "git/submodule_urls.rs",
    "git/submodules.rs",
    "git/url_branches.rs",
    "git/url_source.rs",
    "git/url_submodules.rs",
    "guest/mod.rs",
    "host/files/tree.rs",
    "host/hex.rs",
    "host/process/conversation.rs",
    "mcp/bridge/carrier.rs",
    "mcp/compare/http.rs",
    "mcp/compare/session.rs",
    "mcp/compare/stdio.rs",
    "mcp/endpoint/renewal.rs",
    "remote/servers.rs",
    "status/inside.rs",
    "vm/qmp.rs",
];
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

/// Returns a program without its comments and the tests at its end.
fn code(program: &str) -> String {
    let tests = ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\npub(crate) mod tests {"];
    let program = tests.into_iter().fold(program, |program, tests| program.split(tests).next().unwrap_or_default());
    let lines: Vec<_> = program.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    lines.join("\n")
}

/// Returns what follows each of these words in a program.
fn after<'a>(code: &'a str, words: &[&str]) -> Vec<&'a str> {
    words
        .iter()
        .flat_map(|word| code.match_indices(word).map(|(at, word)| code[at + word.len()..].trim_start()))
        .collect()
}

fn is_whole(shape: &str) -> bool {
    shape.chars().filter(char::is_ascii_alphabetic).count() >= FEWEST_LETTERS
}

/// Returns the messages of the errors that a program makes, and the arguments that are no messages.
fn errors(program: &str) -> (BTreeSet<String>, Vec<String>) {
    let (mut messages, mut others) = (BTreeSet::new(), Vec::new());
    for argument in after(&code(program), &CONSTRUCTORS) {
        match literal(argument.strip_prefix("format!(").unwrap_or(argument).trim_start()) {
            Some(message) => messages.extend(Some(shape(&message)).filter(|shape| is_whole(shape))),
            None if OTHER_ARGUMENTS.iter().any(|other| argument.starts_with(other)) => {}
            None => others.push(argument.lines().next().unwrap_or_default().to_owned()),
        }
    }
    (messages, others)
}

/// Returns the reasons that a program makes: the first literal in a macro, which for `ensure!` follows a condition.
fn reasons(program: &str) -> BTreeSet<String> {
    let code = code(program);
    let one = |argument: &str| {
        let call = &argument[..argument.find(");\n").unwrap_or(argument.len())];
        let mut ensured = call.match_indices('"').filter(|(at, _)| call[..*at].trim_end().ends_with(','));
        literal(call).or_else(|| ensured.next().and_then(|(at, _)| literal(&call[at..])))
    };
    after(&code, &MACROS)
        .into_iter()
        .filter_map(one)
        .map(|message| shape(&message))
        .filter(|shape| is_whole(shape))
        .collect()
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

/// Returns the entry for a reason, which may end with a colon and `…` for the rest of it; the reason itself if there is none.
fn entry_of(reason: &str, entries: &BTreeSet<String>) -> String {
    let is_start =
        |entry: &&String| entry.strip_suffix('…').is_some_and(|it| it.ends_with(": ") && reason.starts_with(it));
    entries.iter().find(is_start).map_or(reason, String::as_str).to_owned()
}

#[test]
fn errors_match_their_documentation() {
    let page = include_str!("../../../docs/troubleshooting.md");
    let is_notice = |entry: &String| entry.starts_with("notice: ") || entry.starts_with("warning: ");
    let (of_notices, of_errors): (BTreeSet<_>, BTreeSet<_>) = entries(page).into_iter().partition(is_notice);
    let programs = files("agent-vm-rs/src", "rs");
    let is_test = |path: &Path| path.ends_with("tests.rs") || path.ends_with("cli/troubleshooting.rs");
    let programs: Vec<_> = programs.iter().filter(|(path, _)| !is_test(path)).collect();
    let printed: Vec<_> = programs.iter().flat_map(|(_, program)| notices(program)).collect();
    let (mut made, mut wrong) = (BTreeSet::new(), Vec::new());
    let mut excused = BTreeSet::from(REASONS_ONLY);
    for (path, program) in programs {
        let (messages, others) = errors(program);
        made.extend(messages);
        wrong.extend(others.iter().map(|other| format!("{}: not a literal: {other}", path.display())));
        let reasons = reasons(program);
        match REASONS_ONLY.iter().find(|file| path.ends_with(file)) {
            Some(file) if !reasons.is_empty() => drop(excused.remove(file)),
            _ => made.extend(reasons.iter().map(|reason| entry_of(reason, &of_errors))),
        }
    }

    wrong.extend(excused.iter().map(|file| format!("{file} makes no reason")));
    wrong.extend(made.difference(&of_errors).map(|message| format!("no entry for: {message}")));
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
                   note(&format!(\"notice: no KVM ({why})\"))\n#[cfg(test)]\nmod tests {\nFailure::new(\"of a test\")";
    let (messages, others) = errors(program);
    assert_eq!(messages.into_iter().collect::<Vec<_>>(), ["no \"machine\"", "the disk … is …"]);
    assert_eq!(others, ["words) Failure::new(format!(\"{a} (b): {c}\"))"]);
    let macros =
        "bail!(\"{a} is gone\");\nensure!(\n    x == \"y\",\n    \"it stands {}\",\n    \"z\"\n);\nanyhow!(\"{why}\")";
    assert_eq!(reasons(macros), BTreeSet::from(["it stands …".to_owned(), "… is gone".to_owned()]));
    assert_eq!(notices(program), ["notice: no KVM (…)"]);
    assert_eq!(entries("# Page\n### `one …`\ntext `two`\n### three\n"), BTreeSet::from(["one …".to_owned()]));
}
