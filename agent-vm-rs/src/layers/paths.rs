//! Finds the paths of modules and items that a program names.

/// A path, such as `crate::host::lock::Lock`, and the name that a `use` gives it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub(super) path: Vec<&'a str>,
    pub(super) name: &'a str,
}

fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Returns the paths that begin with one of the words `from`, each path of a group alone.
pub(super) fn paths<'a>(program: &'a str, from: &[&str]) -> Vec<Named<'a>> {
    let mut found = Vec::new();
    for (at, _) in program.match_indices("::") {
        let before = &program[..at];
        let first = before.rfind(|c| !is_part(c)).map_or(0, |end| end + 1);
        if from.contains(&&before[first..]) && !before[..first].ends_with("::") {
            tree(&program[first..], &[], &mut found);
        }
    }
    found
}

/// Returns what the program imports by `use`.
pub(super) fn imports(program: &str) -> Vec<Named<'_>> {
    let mut found = Vec::new();
    for (at, word) in program.match_indices("use ") {
        if !program[..at].ends_with(is_part) {
            tree(&program[at + word.len()..], &[], &mut found);
        }
    }
    found
}

/// Reads a path or a group of paths, such as `a::{b, c::d as e}`. Adds each path to `found` and returns the rest of the program.
fn tree<'a>(program: &'a str, parents: &[&'a str], found: &mut Vec<Named<'a>>) -> &'a str {
    let mut path = parents.to_vec();
    let mut rest = program;
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            rest = group;
            loop {
                rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
                let after = tree(rest, &path, found);
                if after.len() == rest.len() {
                    return rest.strip_prefix('}').unwrap_or(rest);
                }
                rest = after;
            }
        }
        let word = word(rest);
        // `a::{self}` is `a`.
        if word != "self" || path.is_empty() {
            path.extend((!word.is_empty()).then_some(word));
        }
        rest = &rest[word.len()..];
        match rest.strip_prefix("::") {
            Some(after) => rest = after,
            None => break,
        }
    }
    let alias = rest.strip_prefix(" as ").map(word);
    if let Some(name) =
        alias.or(path.last().copied()).filter(|_| path.len() > parents.len() || rest.len() < program.len())
    {
        found.push(Named { path, name });
    }
    alias.map_or(rest, |alias| &rest[" as ".len() + alias.len()..])
}

fn word(program: &str) -> &str {
    &program[..program.find(|c| !is_part(c)).unwrap_or(program.len())]
}

#[test]
fn a_path_is_found_however_it_is_written() {
    let program = "use crate::host::x;\npub use crate::{\n    git::{self, call as c},\n    vm,\n};\nlet a = crate::term::b(); x::crate::y";
    let found = paths(program, &["crate"]);
    let found: Vec<_> = found.iter().map(|named| (named.path.join("::"), named.name)).collect();
    let expected = [
        ("crate::host::x", "x"),
        ("crate::git", "git"),
        ("crate::git::call", "c"),
        ("crate::vm", "vm"),
        ("crate::term::b", "b"),
    ];
    assert_eq!(found, expected.map(|(path, name)| (path.to_owned(), name)));
    assert_eq!(imports("pub use a::B;\nlet cause = b::c;\nuse super::*;").len(), 2);
}
