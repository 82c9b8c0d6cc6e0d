//! Tests that a folder imports only from folders below it, and that no file is long.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders and files, from the top down.
const LAYERS: [&str; 13] = [
    "cli",
    "reverse_proxy",
    "socket",
    "http",
    "pool",
    "session",
    "supervise",
    "era",
    "link",
    "config",
    "queue",
    "report",
    "json",
];
/// Below all of them.
const LOWEST: &str = "policy";
const LONGEST: usize = 300;

fn layer(name: &str) -> usize {
    LAYERS.iter().position(|layer| *layer == name).unwrap_or(LAYERS.len())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn imports_run_down_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for file in files(&root) {
        let place = file.strip_prefix(&root).unwrap();
        let first = place.iter().next().unwrap().to_str().unwrap();
        let own = first.strip_suffix(".rs").unwrap_or(first);
        if ["lib", "main", "layers"].contains(&own) {
            continue;
        }
        assert!(LAYERS.contains(&own) || own == LOWEST, "{own} is no layer");
        for used in fs::read_to_string(&file).unwrap().split("crate::").skip(1) {
            let used = used.split(|character: char| !character.is_alphanumeric() && character != '_').next().unwrap();
            seen += 1;
            if used != own && layer(used) <= layer(own) {
                wrong.push(format!("{} uses {used}", place.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 100, "only {seen} imports were found");
}

#[test]
fn no_file_is_long() {
    for folder in ["src", "tests"] {
        for file in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= LONGEST, "{} has {lines} lines", file.display());
        }
    }
}
