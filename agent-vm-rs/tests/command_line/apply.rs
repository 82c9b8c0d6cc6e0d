//! `apply`: applies what a file declares differently; changes by `set` and `egress` stay.

use serde_json::json;

use crate::support::Site;

fn declare(site: &Site, settings: &serde_json::Value) {
    site.write("vm.json", settings.to_string());
}

#[test]
fn only_what_is_declared_differently_changes() {
    let site = Site::new();
    let file = site.path("vm.json");
    let apply = ["apply", "--config", file.to_str().unwrap()];
    declare(&site, &json!({ "branch": "main", "memory": 1024, "cores": 1, "allow": ["@npm"] }));
    site.run(&apply).exits(1).gives_one_error().says("there is no machine for main");
    site.run(&[&apply[..], &["--create"]].concat()).ok().says("created app-main");
    let settings = site.settings("app-main");
    assert_eq!((&settings["memory"], &settings["egress"]["allow"]), (&json!(1024), &json!(["@npm"])));

    // The same declaration again keeps the user's changes.
    site.run(&["set", "main", "memory=2048"]).ok();
    site.run(&["egress", "allow", "a.test"]).ok();
    let before = site.settings("app-main");
    site.run(&apply).ok().prints("app-main: nothing changed");
    assert_eq!(site.settings("app-main"), before);

    declare(&site, &json!({ "branch": "main", "memory": 1024, "cores": 1, "tls": false, "allow": ["@pypi"] }));
    let done = site.run(&[&apply[..], &["--json", "--create"]].concat()).ok().says("warning: ").json();
    assert_eq!(done["changed"]["tls"], json!({ "before": true, "after": false }));
    assert_eq!(done["changed"]["memory"], json!(null));
    assert_eq!(done["changed"]["allow"]["after"], json!(["@pypi", "a.test"]));
    let settings = site.settings("app-main");
    assert_eq!((&settings["memory"], &settings["tls"]), (&json!(2048), &json!(false)));

    // What is no longer declared gets its default.
    declare(&site, &json!({ "branch": "main", "cores": 1 }));
    site.run(&apply)
        .ok()
        .prints("app-main: memory changed from 2048 MiB to 4096 MiB")
        .prints("tls changed from false to true");
    site.run(&apply).ok().prints("app-main: nothing changed");
}

#[test]
fn an_invalid_declaration_changes_nothing() {
    let site = Site::new();
    site.create("main");
    let before = site.settings("app-main");
    let file = site.path("vm.json");
    let apply = ["apply", "main", "--config", file.to_str().unwrap()];
    site.run(&apply).exits(1).gives_one_error().says("vm.json");
    for (settings, says) in [
        (json!({ "memory": 1 }), "must be from 256"),
        (json!({ "memory": 1024, "guest": "nixos" }), "the declared guest"),
        (json!({ "memory": 1024, "colour": "red" }), "there is no setting colour"),
        (json!({ "memory": 1024, "secrets": ["TOKEN=a.test"] }), "list of secrets"),
    ] {
        declare(&site, &settings);
        site.run(&apply).exits(2).gives_one_error().says(says);
        assert_eq!(site.settings("app-main"), before, "{settings}");
        assert!(!site.machine("app-main").join("declared.json").exists());
    }
}

/// As a unit does, from outside the repository.
#[test]
fn the_repository_is_named_by_a_flag() {
    let site = Site::new();
    let (file, repository) = (site.path("vm.json"), site.repo());
    declare(&site, &json!({ "memory": 1024 }));
    let args = ["apply", "--create", "--config", file.to_str().unwrap(), "--branch", "main", "--source"];
    let args = [&args[..], &[repository.to_str().unwrap()]].concat();
    site.run_in("/", &args).ok().says("created app-main");
    site.run_in("/", &args).ok().prints("app-main: nothing changed");
    // Another branch is another machine. Each `apply` names the former one.
    site.run(&["create", "--branch", "other"]).ok();
    let other = [&args[..5], &["other", "--source", repository.to_str().unwrap()]].concat();
    site.run_in("/", &other).ok().says("notice: app-main is no longer declared, but still exists");
    assert_eq!(site.names(), ["app-main", "app-other"]);
}

/// A command that is killed between its two writes has written the settings. The next one writes the declaration.
#[test]
fn a_declaration_that_was_not_recorded_is_applied_again() {
    let site = Site::new();
    let file = site.path("vm.json");
    let apply = ["apply", "main", "--create", "--config", file.to_str().unwrap()];
    declare(&site, &json!({ "memory": 1024 }));
    site.run(&apply).ok();
    let declared = site.machine("app-main").join("declared.json");
    let before = std::fs::read_to_string(&declared).unwrap();
    declare(&site, &json!({ "memory": 2048 }));
    site.run(&apply).ok();
    let after = std::fs::read_to_string(&declared).unwrap();
    assert_ne!(before, after);
    std::fs::write(&declared, &before).unwrap();
    site.run(&apply).ok().prints("app-main: nothing changed");
    assert_eq!(std::fs::read_to_string(&declared).unwrap(), after);
    // Without it, or with a damaged one, nothing is applied wrongly.
    std::fs::write(&declared, "{").unwrap();
    let settings = site.settings("app-main");
    site.run(&apply).exits(1).gives_one_error().says("declared.json is not valid").says("hint: remove that file");
    assert_eq!(site.settings("app-main"), settings);
    std::fs::remove_file(&declared).unwrap();
    site.run(&apply).ok().prints("app-main: nothing changed");
}
