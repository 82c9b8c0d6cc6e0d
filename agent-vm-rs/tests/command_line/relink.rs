//! A repository that was moved or deleted is reported, and `relink` connects its machine again.

use std::fs;
use std::path::PathBuf;

use crate::support::{Done, Site};

/// Creates a machine with a new commit and moves its repository; returns the new directory.
fn moved(site: &Site) -> PathBuf {
    site.create("main");
    site.commit_in(site.machine("app-main").join("workspace"), "work", "of the agent\n");
    let place = site.path("elsewhere/application");
    fs::create_dir(site.path("elsewhere")).unwrap();
    fs::rename(site.repo(), &place).unwrap();
    // `Site::run` needs this directory.
    fs::create_dir(site.repo()).unwrap();
    place
}

fn new_commits(status: &Done) -> serde_json::Value {
    status.json()["workspace"]["git"]["new_commits"].clone()
}

#[test]
fn a_moved_repository_is_reported_as_missing() {
    let site = Site::new();
    site.create("main");
    // Control: with its source, the machine has no new commits.
    assert_eq!(new_commits(&site.run(&["status", "--json"]).ok()), 0);
    fs::rename(site.repo(), site.path("moved")).unwrap();
    fs::create_dir(site.repo()).unwrap();
    let status = site.run(&["status", "app-main", "--json"]).ok();
    assert_eq!(new_commits(&status), serde_json::Value::Null);
    site.run(&["status", "app-main"])
        .ok()
        .prints("source missing: ")
        .prints("agent-vm relink app-main")
        .prints("commits not compared with the source repository");
    site.run(&["list"]).ok().prints("stopped, source missing").says("agent-vm relink app-main");
    assert_eq!(site.run(&["list", "--json"]).ok().json()[0]["source_missing"], true);
    // A repository that git refuses is not missing: git's reason is shown.
    fs::remove_dir(site.repo()).unwrap();
    fs::rename(site.path("moved"), site.repo()).unwrap();
    site.write("app/.git/config", "[core\n");
    let status = site.run(&["status", "app-main"]).ok().prints("cannot use its source repository").prints("bad config");
    assert!(!status.stdout.contains("source missing"), "{}", status.stdout);
}

#[test]
fn relink_connects_a_machine_to_its_moved_repository() {
    let site = Site::new();
    let place = moved(&site);
    for args in [&["status"][..], &["start"], &["mcp-config", "--client", "cursor"]] {
        site.run_in(&place, args)
            .exits(1)
            .gives_one_error()
            .says("the source repository of app-main is missing")
            .says("hint: if this repository was moved: agent-vm relink app-main");
    }
    site.run_in(&place, &["relink"]).ok().says(&format!("app-main now belongs to {}", place.display()));
    let before = fs::read_to_string(site.machine("app-main").join("config.json")).unwrap();
    let status = site.run_in(&place, &["status", "--json"]).ok();
    assert_eq!((&status.json()["name"], new_commits(&status)), (&"app-main".into(), 1.into()));
    site.run_in(&place, &["status"]).ok().prints("1 commit not in the source repository");
    site.run_in(&place, &["create"]).exits(1).says("already has a machine: app-main");
    site.run_in(&place, &["mcp-config", "--client", "cursor", "--write"]).ok();
    assert!(place.join(".cursor/mcp.json").is_file());
    // A second relink changes nothing.
    site.run_in(&place, &["relink"]).ok().says(": nothing changed");
    assert_eq!(fs::read_to_string(site.machine("app-main").join("config.json")).unwrap(), before);
    // A new repository at the old path gets machines of its own.
    fs::remove_dir(site.repo()).unwrap();
    site.git_in(site.root(), &["clone", "--quiet", place.to_str().unwrap(), "app"]);
    assert_ne!(site.create("main"), "app-main");
    site.run_in(&place, &["destroy"]).ok().says("removed app-main");
}

/// With a second machine, the user would look for the commits in the wrong one.
#[test]
fn a_moved_repository_gets_no_second_machine() {
    let site = Site::new();
    let place = moved(&site);
    for args in [&[][..], &["create"], &["create", "--branch", "main"]] {
        site.run_in(&place, args)
            .exits(1)
            .gives_one_error()
            .says("the source repository of app-main, a machine for main, is missing")
            .says("hint: if it moved: agent-vm relink app-main");
    }
    assert_eq!(site.names(), ["app-main"]);
    // Control: another branch has no such machine, and another history is another repository.
    site.run_in(&place, &["create", "--branch", "other"]).ok();
    let other = site.path("other");
    fs::create_dir(&other).unwrap();
    site.git_in(&other, &["init", "--quiet", "--initial-branch=main"]);
    site.git_in(
        &other,
        &["-c", "user.name=T", "-c", "user.email=t@e", "commit", "--quiet", "--allow-empty", "-m", "x"],
    );
    site.run_in(&other, &["create"]).ok();
    site.run_in(&place, &["relink", "app-main"]).ok();
    site.run_in(&place, &["create"]).exits(1).says("already has a machine: app-main");
}

#[test]
fn relink_refuses_another_repository() {
    let site = Site::new();
    let place = moved(&site);
    let other = site.path("other");
    fs::create_dir(&other).unwrap();
    site.git_in(&other, &["init", "--quiet", "--initial-branch=main"]);
    for args in [&["config", "user.name", "T"][..], &["config", "user.email", "t@example.invalid"]] {
        site.git_in(&other, args);
    }
    site.commit_in(&other, "file", "of another history");
    let config = site.machine("app-main").join("config.json");
    let before = fs::read_to_string(&config).unwrap();
    let workspace = site.machine("app-main").join("workspace");
    for (dir, code, why) in [
        (&other, 1, "share no commit"),
        (&site.path("home"), 2, "is not in a source repository"),
        (&site.path("nowhere"), 2, "there is no directory"),
        (&workspace, 2, "is not in a source repository"),
    ] {
        let args = ["relink", "app-main", "--source", dir.to_str().unwrap()];
        site.run(&args).exits(code).gives_one_error().says(why).says("hint:");
    }
    site.run(&["relink", "nobody", "--source", place.to_str().unwrap()]).exits(1).gives_one_error();
    assert_eq!(fs::read_to_string(&config).unwrap(), before);
    site.run(&["relink", "app-main", "--source", other.to_str().unwrap(), "--force"]).ok();
    let back = site.run(&["relink", "app-main", "--source", place.to_str().unwrap(), "--json"]).ok();
    assert_eq!(back.json()["before"], other.to_str().unwrap());
}

#[test]
fn relink_needs_a_name_for_several_machines() {
    let site = Site::new();
    site.create("main");
    let other = site.path("other");
    site.git(&["clone", "--quiet", ".", other.to_str().unwrap()]);
    site.run_in(&other, &["create"]).ok();
    fs::rename(site.repo(), site.path("moved")).unwrap();
    fs::remove_dir_all(&other).unwrap();
    let place = site.path("moved");
    site.run_in(&place, &["relink"])
        .exits(2)
        .gives_one_error()
        .says("app-main, other-main")
        .says("agent-vm relink app-main");
    site.run_in(&place, &["relink", "app-main"]).ok();
    site.run_in(&place, &["relink", "other-main"]).exits(1).gives_one_error().says("already has a machine: app-main");
}

#[test]
fn mcp_config_does_not_create_a_missing_repository() {
    let site = Site::new();
    site.create("main");
    fs::remove_dir_all(site.repo()).unwrap();
    let args = ["mcp-config", "app-main", "--client", "claude-code", "--write"];
    site.run_in(site.path("home"), &args)
        .exits(1)
        .gives_one_error()
        .says("source missing")
        .says("agent-vm relink app-main");
    assert!(!site.repo().exists());
}

/// The bundle also contains commits that only the source had: there may be no other copy.
#[test]
fn a_machine_without_its_source_keeps_its_whole_history() {
    let site = Site::new();
    site.create("main");
    fs::remove_dir_all(site.repo()).unwrap();
    site.run_in(site.path("home"), &["destroy", "app-main", "--yes"]).ok().says("removed app-main");
    let bundles = site.kept();
    assert_eq!(bundles.len(), 1, "{bundles:?}");
    site.git_in(site.path("home"), &["clone", "--quiet", bundles[0].to_str().unwrap(), "--branch", "main", "again"]);
    assert_eq!(site.read("home/again/second"), "again\n");
}
