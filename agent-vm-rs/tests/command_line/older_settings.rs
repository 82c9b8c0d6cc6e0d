//! Machines whose `config.json` an older agent-vm wrote: each version that there was is among the test data.

use std::fs;
use std::path::Path;

use crate::support::Site;

const VERSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/config-versions");

#[test]
fn settings_of_every_version_are_read_and_brought_to_the_newest_by_a_change() {
    let mut versions: Vec<_> = fs::read_dir(VERSIONS).unwrap().map(|entry| entry.unwrap().path()).collect();
    versions.sort();
    assert!(versions.len() >= 7, "{versions:?}");
    for path in versions {
        let site = Site::new();
        site.create("main");
        let config = site.machine("app-main").join("config.json");
        let source = read(&config)["source"].clone();
        let mut old = read(&path);
        old["source"] = source;
        fs::write(&config, old.to_string()).unwrap();

        let row = &site.run(&["list", "--json"]).ok().json()[0];
        assert_eq!((&row["error"], &row["branch"]), (&serde_json::Value::Null, &"main".into()), "{path:?}");
        // A command that changes nothing leaves the file to an older agent-vm.
        assert_eq!(read(&config), old, "{path:?}");
        site.run(&["set", "main", "memory=3072"]).ok();
        let new = read(&config);
        assert_eq!((&new["version"], &new["memory"]), (&2.into(), &3072.into()), "{path:?}");
        for (key, value) in
            old.as_object().unwrap().iter().filter(|(key, _)| !["version", "memory"].contains(&key.as_str()))
        {
            assert_eq!(&new[key], value, "{path:?}: {key}");
        }
        // As it was before there was a choice.
        assert_eq!(
            (&new["tls"], &new["auth"], &new["egress"]["mode"]),
            (&true.into(), &true.into(), &"allowlist".into())
        );
        site.run(&["destroy", "main", "--yes"]).ok();
    }
}

#[test]
fn settings_of_a_newer_version_are_refused_with_a_way_out() {
    let site = Site::new();
    site.create("main");
    let config = site.machine("app-main").join("config.json");
    let mut settings = read(&config);
    settings["version"] = 3.into();
    settings["of_the_future"] = true.into();
    fs::write(&config, settings.to_string()).unwrap();
    let refused = site.run(&["start", "main"]).exits(1).gives_one_error();
    refused.says("it has version 3").says("use the agent-vm that wrote them, or a newer one");
    assert_eq!(read(&config), settings);
}

fn read(path: &Path) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}
