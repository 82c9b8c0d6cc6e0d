//! `list --source` lists the machines of one repository, from any directory in it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use crate::support::{Site, skip, which};

fn names(site: &Site, dir: &str) -> Vec<String> {
    let list = site.run_in(site.root(), &["list", "--json", "--source", dir]).ok().json();
    list.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn source_limits_the_list_to_one_repository() {
    let site = Site::new();
    site.create("main");
    site.create("dev");
    site.git(&["worktree", "add", "-q", "-b", "linked", "../linked"]);
    site.git(&["clone", "-q", "--bare", ".", "../bare.git"]);
    site.git(&["clone", "-q", ".", "../other"]);
    fs::create_dir(site.path("app/sub")).unwrap();
    site.run_in(site.path("other"), &["create"]).ok();
    site.run_in(site.path("bare.git"), &["create"]).ok();
    // Control: without `--source` there are all machines.
    assert_eq!(site.run(&["list", "--json"]).ok().json().as_array().unwrap().len(), 4);
    for dir in ["app", "app/", "app/sub", "app/.git", "linked"] {
        assert_eq!(names(&site, dir), ["app-dev", "app-main"], "{dir}");
    }
    assert_eq!(names(&site, "other"), ["other-main"]);
    assert_eq!(names(&site, "bare.git").len(), 1);
    site.git(&["clone", "-q", ".", "../none"]);
    site.run(&["list", "--source", "../none"]).ok().says("none has no machines yet");
    site.run(&["list", "--source", "../other"]).ok().prints("other-main");
}

#[test]
fn the_status_of_all_machines_looks_into_no_workspace() {
    let site = Site::new();
    site.run(&["status", "--all", "--json"]).ok().prints("[]");
    site.create("main");
    site.create("dev");
    fs::write(site.machine("app-dev").join("config.json"), "{").unwrap();
    let all = site.run(&["status", "--all", "--json"]).ok().json();
    let state = |index: usize| (all[index]["name"].as_str().unwrap(), all[index]["state"].as_str().unwrap());
    assert_eq!(
        (all.as_array().unwrap().len(), state(0), state(1)),
        (2, ("app-dev", "broken"), ("app-main", "stopped"))
    );
    assert_eq!(all[1]["workspace"]["git"], serde_json::Value::Null);
    // Control: the status of one machine looks into it.
    assert_eq!(site.run(&["status", "main", "--json"]).ok().json()["workspace"]["git"]["branch"], "main");
    let text = site.run(&["status", "--all"]).ok();
    text.prints("VM Status: app-dev").prints("VM Status: app-main");
    site.run(&["status", "--all", "main"]).exits(2).gives_one_error();
}

#[test]
fn a_directory_without_a_repository_is_refused() {
    let site = Site::new();
    site.create("main");
    fs::create_dir(site.path("empty")).unwrap();
    site.run_in(site.root(), &["list", "--source", "empty"])
        .exits(2)
        .gives_one_error()
        .says("not in a source repository");
    site.run_in(site.root(), &["list", "--source", "none"]).exits(2).gives_one_error().says("--source DIR");
    let workspace = site.machine("app-main").join("workspace");
    site.run(&["list", "--source", workspace.to_str().unwrap()]).exits(2).gives_one_error();
    // A downloaded directory that leads to a repository of the user lists none of that repository's machines.
    fs::create_dir(site.path("hostile")).unwrap();
    site.write("hostile/.git", format!("gitdir: {}\n", site.path("app/.git").display()));
    let found = site.git_in(site.path("hostile"), &["rev-parse", "--path-format=absolute", "--git-common-dir"]);
    assert!(found.trim().ends_with("/app/.git"), "control: git itself follows it: {found}");
    site.run_in(site.root(), &["list", "--source", "hostile"]).exits(1).gives_one_error();
}

#[test]
fn watch_draws_the_list_again_until_it_is_interrupted() {
    let site = Site::new();
    site.create("main");
    site.run(&["list", "--watch"]).exits(2).gives_one_error().says("--watch needs a terminal");
    site.run(&["list", "--watch", "--json"]).exits(2).gives_one_error().says("agent-vm list --json");
    let Some(script) = which("script") else {
        skip("no script(1) to make a terminal");
        return;
    };
    let mut command = site.command(script);
    command.env("SHELL", site.path("bin/sh")).args(["--quiet", "--return", "--command"]);
    // A narrow terminal.
    let stty = which("stty").unwrap();
    let narrow = format!("'{}' cols 40 rows 24; exec '{}'", stty.display(), env!("CARGO_BIN_EXE_agent-vm"));
    command.arg(format!("{narrow} list --watch")).arg("/dev/null");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut typed, mut shown) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut text = String::new();
    let mut read_until = |name: &str| {
        while !text.contains(name) {
            let mut bytes = [0; 4096];
            let read = shown.read(&mut bytes).unwrap();
            assert!(read > 0, "{name} is not in {text}");
            text += &String::from_utf8_lossy(&bytes[..read]);
        }
    };
    read_until("app-main");
    site.create("dev");
    read_until("app-dev");
    typed.write_all(b"\x03").unwrap();
    let mut rest = String::new();
    shown.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!rest.contains("error") && !rest.contains("interrupted"), "{rest}");
    let lines = text.split("\u{1b}[K").map(|line| line.replace("\u{1b}[H", "").replace("\u{1b}[J", ""));
    let lines: Vec<_> = lines.map(|line| line.trim().to_owned()).collect();
    assert!(lines.iter().any(|line| line.ends_with('…')), "control: {text:?}");
    assert!(lines.iter().all(|line| line.chars().count() <= 40), "{text:?}");
}
