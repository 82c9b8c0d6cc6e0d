//! Tests that a folder imports only from folders below it, and that no files import each other in a circle.

mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex_lite::Regex;

use paths::{Named, imports, paths};

/// The folders, from the top down.
const LAYERS: [&str; 17] = [
    "cli", "doctor", "metrics", "profile", "status", "watch", "vm", "egress", "remote", "guest", "git", "mcp",
    "confine", "limits", "machine", "host", "term",
];

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == name)
}

/// Returns the files in the folders, relative to `src`, with their texts.
fn programs() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut programs = Vec::new();
    for entry in walkdir::WalkDir::new(&root).into_iter().flatten() {
        let place = entry.path().strip_prefix(&root).unwrap();
        let folder = place.iter().next().and_then(|first| layer(first.to_str()?));
        if folder.is_some() && place.extension().is_some_and(|extension| extension == "rs") {
            programs.push((place.to_owned(), fs::read_to_string(entry.path()).unwrap()));
        }
    }
    programs
}

/// Returns the folders of this crate that a program names.
fn used(program: &str) -> Vec<&str> {
    paths(program, &["crate"]).iter().filter_map(|named| named.path.get(1).copied()).collect()
}

#[test]
fn imports_run_down_only() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (place, program) in programs() {
        let own = place.iter().next().and_then(|first| layer(first.to_str()?));
        for name in used(&program) {
            let used = layer(name).unwrap_or_else(|| panic!("{}: crate::{name} is not a folder", place.display()));
            seen += 1;
            if Some(used) < own {
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
        .filter(|name| layer(name).is_none() && !["lib.rs", "main.rs", "layers.rs", "layers"].contains(&name.as_str()))
        .collect();
    assert!(loose.is_empty(), "{loose:?}");
    assert!(LAYERS.iter().all(|layer| names.iter().any(|name| name == layer)));
}

#[test]
fn an_import_is_found_however_it_is_written() {
    assert_eq!(
        used("use crate::host::x;\npub use crate::{git, vm};\nlet a = crate::term::b();"),
        ["host", "git", "vm", "term"]
    );
}

/// The path of a module from the crate's root.
type Module = Vec<String>;

/// The modules that have files, with their programs.
struct Modules(BTreeMap<Module, String>);

impl Modules {
    /// Reads the modules of these files, without tests.
    fn of(programs: Vec<(PathBuf, String)>) -> Self {
        let test_file = Regex::new(r"#\[cfg\(test\)\]\s+(?:pub\(crate\) )?mod (\w+);").unwrap();
        // They are the end of a file.
        let tests_here = Regex::new(r"(?s)#\[cfg\(test\)\]\s+(?:pub\(crate\) )?mod \w+ \{.*").unwrap();
        let comment = Regex::new("//.*").unwrap();
        let mut modules = BTreeMap::from([(Module::new(), String::new())]);
        let mut tests = BTreeSet::new();
        for (place, program) in programs {
            let place = place.with_extension("");
            let mut module: Module = place.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            module.pop_if(|last| last == "mod");
            tests.extend(test_file.captures_iter(&program).map(|found| [&module[..], &[found[1].to_owned()]].concat()));
            let program = tests_here.replace(&program, "").into_owned();
            modules.insert(module, comment.replace_all(&program, "").into_owned());
        }
        modules.retain(|module, _| !(0..=module.len()).any(|length| tests.contains(&module[..length])));
        Self(modules)
    }

    /// Returns a path from the crate's root; None if it begins in another crate.
    fn absolute(&self, module: &[String], path: &[&str]) -> Option<Module> {
        let ups = path.iter().take_while(|word| **word == "super").count();
        let (start, rest) = match path[0] {
            "crate" => (&[][..], &path[1..]),
            "self" => (module, &path[1..]),
            "super" => (&module[..module.len().checked_sub(ups)?], &path[ups..]),
            first => {
                let child = [module, &[first.to_owned()]].concat();
                self.0.contains_key(&child).then_some((module, path))?
            }
        };
        Some(start.iter().cloned().chain(rest.iter().map(|word| (*word).to_owned())).collect())
    }

    /// Returns the module that defines what a path names, also if another one exports it.
    fn definer(&self, path: &[String]) -> Module {
        let depth = (0..=path.len()).rev().find(|depth| self.0.contains_key(&path[..*depth])).unwrap_or_default();
        let (module, rest) = path.split_at(depth);
        let Some(item) = rest.first() else { return module.to_vec() };
        let program = &self.0[module];
        let exports = if program.contains(item) { imports(program) } else { Vec::new() };
        let export = exports.iter().find(|export| export.name == item);
        let from = export.and_then(|export| self.absolute(module, &export.path)).filter(|from| from != path);
        from.map_or_else(|| module.to_vec(), |from| self.definer(&from))
    }

    /// Returns the modules that a module uses, other than its parents and its children.
    fn used_by(&self, module: &Module) -> BTreeSet<Module> {
        let program = &self.0[module];
        let named: Vec<Named<'_>> =
            [paths(program, &["crate", "self", "super"]), imports(program)].into_iter().flatten().collect();
        let used = named.iter().filter_map(|named| self.absolute(module, &named.path)).map(|path| self.definer(&path));
        used.filter(|used| !used.starts_with(module) && !module.starts_with(used)).collect()
    }

    /// Returns what each module uses.
    fn uses(&self) -> Uses {
        self.0.keys().map(|module| (module.clone(), self.used_by(module))).collect()
    }
}

/// The modules that a module uses.
type Uses = BTreeMap<Module, BTreeSet<Module>>;

/// Returns the modules in a circle, and those between circles.
fn circles(mut uses: Uses) -> Uses {
    loop {
        let before = uses.len();
        let used: BTreeSet<_> = uses.values().flatten().cloned().collect();
        uses.retain(|module, uses| !uses.is_empty() && used.contains(module));
        let left: BTreeSet<_> = uses.keys().cloned().collect();
        uses.values_mut().for_each(|uses| uses.retain(|module| left.contains(module)));
        if uses.len() == before {
            return uses;
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let uses = Modules::of(programs()).uses();
    let seen: usize = uses.values().map(BTreeSet::len).sum();
    let circles = circles(uses);
    assert!(circles.is_empty(), "{circles:#?}");
    assert!(seen > 600, "only {seen} imports were found");
}

#[test]
fn a_circle_is_found_also_behind_an_export() {
    let programs = [
        ("vm/mod.rs", "mod a;\nmod b;\npub use a::A;\n#[cfg(test)]\nmod tests;"),
        ("vm/a.rs", "use super::b::{self, B};"),
        ("vm/b.rs", "// use super::a\nfn f(a: &super::A) {}"),
        ("vm/c.rs", "use super::{a, b};\n#[cfg(test)]\nmod tests {\n    use crate::vm::d;\n}\n"),
        ("vm/d.rs", "use super::c;"),
        ("vm/tests.rs", "use super::tests::x;\nuse super::c;"),
    ];
    let modules = Modules::of(programs.map(|(place, program)| (place.into(), program.to_owned())).into());
    let names: Vec<_> = circles(modules.uses()).keys().map(|module| module.join("::")).collect();
    assert_eq!(names, ["vm::a", "vm::b"]);
}
