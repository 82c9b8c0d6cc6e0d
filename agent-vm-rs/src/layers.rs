//! Tests that a folder imports only from folders below it.

use std::fs;
use std::path::Path;

/// The folders, from the top down.
const LAYERS: [&str; 12] =
    ["cli", "status", "vm", "egress", "remote", "guest", "git", "mcp", "confine", "machine", "host", "term"];

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == name)
}

/// Returns the folders of this crate that a program names, by `crate::NAME` or `use crate::{NAME, …}`.
fn used(program: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let after = |at: usize| program[at + "crate::".len()..].trim_start_matches(['{', '\n', ' ']);
    program
        .match_indices("crate::")
        .map(|(at, _)| after(at).split(|c| !is_part(c)).next().unwrap_or_default())
        .collect()
}

#[test]
fn imports_run_down_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in walkdir::WalkDir::new(&root).into_iter().flatten() {
        let place = entry.path().strip_prefix(&root).unwrap();
        let Some(own) = place.iter().next().and_then(|first| layer(first.to_str()?)) else { continue };
        if place.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let program = fs::read_to_string(entry.path()).unwrap();
        for name in used(&program) {
            let used = layer(name).unwrap_or_else(|| panic!("{}: crate::{name} is not a folder", place.display()));
            seen += 1;
            if used < own {
                wrong.push(format!("{} uses {name}", place.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 300, "only {seen} imports were found");
}

#[test]
fn every_folder_is_a_layer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let entries = fs::read_dir(root).unwrap().flatten();
    let names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let loose: Vec<_> = names
        .iter()
        .filter(|name| layer(name).is_none() && !["lib.rs", "main.rs", "layers.rs"].contains(&name.as_str()))
        .collect();
    assert!(loose.is_empty(), "{loose:?}");
    assert!(LAYERS.iter().all(|layer| names.iter().any(|name| name == layer)));
}

#[test]
fn an_import_is_found_however_it_is_written() {
    assert_eq!(
        used("use crate::host::x;\npub use crate::{git, vm};\nlet a = crate::term::b();"),
        ["host", "git", "term"]
    );
}
