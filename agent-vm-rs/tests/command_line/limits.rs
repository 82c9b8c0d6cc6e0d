//! Limits of what a machine may use of this host, as settings. `vm_machines` has what they do.

use serde_json::json;

use crate::guest_services::running;
use crate::support::{Site, skip};

const FLAGS: [(&str, &str, u64); 7] = [
    ("--cpu-quota", "cpu_quota", 150),
    ("--pids", "pids", 300),
    ("--disk-iops", "disk_iops", 2000),
    ("--disk-bandwidth", "disk_bandwidth", 1 << 20),
    ("--network-bandwidth", "network_bandwidth", 1 << 21),
    ("--workspace-size", "workspace_size", 512),
    ("--keep-free", "keep_free", 0),
];

#[test]
fn limits_are_stored_changed_and_reset() {
    let site = Site::new();
    let values: Vec<_> = FLAGS.iter().map(|(flag, _, value)| format!("{flag}={value}")).collect();
    let values: Vec<_> = values.iter().map(String::as_str).collect();
    site.run(&[&["create", "--branch", "by-flag"], &values[..]].concat()).ok();
    let file: serde_json::Map<_, _> = FLAGS.iter().map(|(_, key, value)| ((*key).to_owned(), json!(value))).collect();
    site.write("app/settings.json", json!(file).to_string());
    site.run(&["create", "--branch", "by-file", "--config", "settings.json"]).ok();
    site.create("main");
    let keys: Vec<_> = FLAGS.iter().map(|(_, key, value)| format!("{key}={value}")).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    site.run(&[&["set", "main"], &keys[..]].concat())
        .ok()
        .prints("app-main: cpu_quota changed from no limit to 150 percent\n")
        .prints("app-main: pids changed from 512 processes to 300 processes\n")
        .prints("app-main: keep_free changed from 1024 MiB to 0 MiB\n");
    for name in ["app-by-flag", "app-by-file", "app-main"] {
        assert_eq!(site.settings(name)["limits"], json!(file), "{name}");
    }
    let unset: Vec<_> = FLAGS.iter().flat_map(|(_, key, _)| ["--unset", key]).collect();
    let done = site.run(&[&["set", "main", "--json"], &unset[..]].concat()).ok().json();
    assert_eq!(done["changed"]["cpu_quota"], json!({ "before": 150, "after": null }));
    assert!(site.settings("app-main").get("limits").is_none());
    assert!(site.run(&["status", "main", "--json"]).ok().json()["limits"].is_null());
}

#[test]
fn a_host_that_enforces_nothing_says_so_when_a_limit_is_set() {
    let (site, _services) = running();
    let means = site.read("data/agent-vms/app-main/run/limits.json");
    if means.trim() != "\"single\"" {
        return skip("this host can limit the processor time");
    }
    let set = site.run(&["set", "main", "cpu_quota=150"]).ok();
    assert!(!set.stderr.contains("next start"), "{}", set.stderr);
    set.says("this host cannot enforce cpu_quota=150");
    // Control: another setting changes at the next start.
    site.run(&["set", "main", "cores=1"]).ok().says("cores will change at its next start");
}

#[test]
fn wrong_limits_are_refused_with_their_range_and_unit() {
    let site = Site::new();
    site.create("main");
    site.run(&["set", "main", "disk_bandwidth=10M"]).exits(2).gives_one_error().says("write 10485760 for 10M");
    site.run(&["set", "main", "workspace_size=10"]).exits(2).gives_one_error().says("write 10240 for 10 GiB");
    site.run(&["set", "main", "cpu_quota=1"]).exits(2).gives_one_error().says("from 5 to 25500");
    site.run(&["create", "--branch", "b", "--pids", "1"]).exits(2).gives_one_error().says("pids must be from 64");
    site.run(&["set", "main", "cpus=2"]).exits(2).gives_one_error().says("did you mean cores?");
    let refused = |settings: &str| {
        site.write("app/settings.json", settings);
        site.run(&["create", "--branch", "b", "--config", "settings.json"]).exits(2).gives_one_error()
    };
    refused(r#"{"pids": 64, "pids": 65}"#).says("a setting appears twice");
    refused(r#"{"pids": "64"}"#).says("the setting pids has a wrong value").says("pids takes a number of processes");
    refused(r#"{"limits": {"pids": 64}}"#).says("there is no setting limits");
    assert!(site.settings("app-main").get("limits").is_none());
}

/// The stand-in for QEMU has no control socket, so what QEMU would have to do waits for the next start.
#[test]
fn a_running_machine_reports_when_a_limit_changes() {
    let (site, _services) = running();
    let done = site.run(&["set", "main", "workspace_size=100", "disk_iops=100", "cores=1", "--json"]).ok().json();
    assert_eq!(done["at_once"], json!(["workspace_size"]));
    assert_eq!(done["at_next_start"], json!(["cores", "disk_iops"]));
    site.run(&["set", "main", "keep_free=1"]).ok().says("notice: app-main is running; keep_free changed at once");
    let limits = site.run(&["status", "main", "--json"]).ok().json()["limits"].clone();
    let size = limits.as_array().unwrap().iter().find(|limit| limit["name"] == "workspace_size").unwrap();
    assert_eq!(size["value"], 100);
}
