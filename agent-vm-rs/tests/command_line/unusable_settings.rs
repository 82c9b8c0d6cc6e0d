//! A `config.json` that cannot be used: every command reports it, and only starting fails.

use std::fs;

use crate::support::Site;

/// Returns contents of the file, each with a part of the error.
fn cases(good: &str) -> [(String, &'static str); 6] {
    let settings = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut settings = serde_json::from_str(good).unwrap();
        change(&mut settings);
        settings.to_string()
    };
    [
        (String::new(), "EOF"),
        ("{\"version\": 1, \"sour".to_owned(), "EOF"),
        (settings(&|s| s["version"] = 3.into()), "it has version 3; this agent-vm reads up to 2"),
        (settings(&|s| s["memroy"] = 1.into()), "unknown field `memroy`"),
        (settings(&|s| s["memory"] = "lots".into()), "invalid type"),
        (settings(&|s| s["branch"] = "../../etc".into()), "is not a branch name"),
    ]
}

#[test]
fn every_command_reports_unusable_settings_and_destroy_works() {
    let site = Site::new();
    site.create("other");
    site.create("main");
    let config = site.machine("app-main").join("config.json");
    let good = fs::read_to_string(&config).unwrap();
    for (text, why) in cases(&good) {
        fs::write(&config, &text).unwrap();
        site.run(&["status"])
            .ok()
            .prints("VM Status: app-main")
            .prints("Agent Service: the machine's settings cannot be read")
            .prints(why);
        let status = site.run(&["status", "--json"]).ok().json();
        assert_eq!((&status["name"], &status["state"]), (&"app-main".into(), &"broken".into()));
        let list = site.run(&["list", "--json"]).ok().json();
        assert_eq!((&list[0]["name"], &list[0]["state"]), (&"app-main".into(), &"broken".into()));
        assert_eq!((&list[1]["name"], &list[1]["state"]), (&"app-other".into(), &"stopped".into()));
        site.run(&["list"]).ok().prints("broken");
        for args in [&["start"][..], &["restart"], &[]] {
            site.run(args).exits(1).gives_one_error().says("config.json are not usable").says(why);
        }
        site.run(&["stop"]).ok();
        site.run(&["create"]).exits(1).gives_one_error().says("already has a machine");
        assert_eq!(fs::read_to_string(&config).unwrap(), text, "the file was changed");
    }
    // The hint names the machine, so it can be pasted.
    let hint = site.run(&["start"]).exits(1);
    assert!(!hint.stderr.contains("destroy NAME"), "{}", hint.stderr);

    fs::write(&config, &good).unwrap();
    site.run(&["status"]).ok().prints("Agent Service: Stopped");
    fs::write(&config, "{").unwrap();
    site.run(&["destroy"]).ok().says("removed app-main");
    site.run(&["create"]).ok();
}

#[test]
fn a_machine_without_settings_can_be_destroyed() {
    let site = Site::new();
    for in_its_place in [None, Some("a directory")] {
        site.create("main");
        let config = site.machine("app-main").join("config.json");
        fs::remove_file(&config).unwrap();
        if in_its_place.is_some() {
            fs::create_dir(&config).unwrap();
        }
        site.run(&["status"]).ok().prints("settings cannot be read");
        site.run(&["list"]).ok().prints("broken");
        site.run(&["destroy"]).ok();
        assert!(site.names().is_empty());
    }
}

/// Files that belong to no machine are not changed.
#[test]
fn foreign_files_in_the_state_directory_stay() {
    let site = Site::new();
    site.create("main");
    fs::create_dir(site.state().join("not a machine")).unwrap();
    fs::write(site.state().join("file"), "x").unwrap();
    fs::create_dir(site.state().join(".new-")).unwrap();
    site.run(&["list"]).ok().prints("app-main");
    assert_eq!(site.run(&["list", "--json"]).ok().json().as_array().unwrap().len(), 1);
    site.create("other");
    assert!(site.state().join("not a machine").exists() && site.state().join("file").exists());
}
