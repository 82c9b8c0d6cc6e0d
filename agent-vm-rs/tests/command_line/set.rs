//! `set`: changes settings of an existing machine, with the checks of `create`.

use std::fs;

use serde_json::json;

use crate::guest_services::running;
use crate::support::Site;

#[test]
fn a_setting_changes_and_can_be_reset() {
    let site = Site::new();
    site.create("main");
    let before = site.settings("app-main");
    site.run(&[
        "set",
        "main",
        "memory=1024",
        "packages=jq,git-lfs",
        "port=18765",
        "egress=none",
        "allow=@npm,a.test:8443",
    ])
    .ok()
    .prints("app-main: memory changed from 4096 MiB to 1024 MiB\n")
    .prints("app-main: port changed from automatic to 18765\n")
    .does_not_say("next start");
    let settings = site.settings("app-main");
    assert_eq!(
        (&settings["memory"], &settings["port"], &settings["port_asked"]),
        (&json!(1024), &json!(18765), &json!(true))
    );
    assert_eq!((&settings["packages"], &settings["egress"]["mode"]), (&json!(["jq", "git-lfs"]), &json!("none")));
    assert_eq!(settings["egress"]["allow"], json!(["@npm", "a.test:8443"]));

    let keys = ["memory", "packages", "port", "egress", "allow"];
    let unset: Vec<_> = keys.iter().flat_map(|key| ["--unset", key]).collect();
    let done = site.run(&[&["set", "app-main", "--json"], &unset[..]].concat()).ok().json();
    assert_eq!(done["changed"]["memory"], json!({ "before": 1024, "after": 4096 }));
    assert_eq!(done["at_next_start"], json!([]));
    let settings = site.settings("app-main");
    assert_ne!(settings["port"], 18765);
    for key in ["memory", "packages", "port_asked", "egress", "cores", "source", "branch", "created"] {
        assert_eq!(settings[key], before[key], "{key}");
    }
    site.run(&["set", "main", "memory=4096"]).ok().prints("app-main: nothing changed\n");
}

#[test]
fn an_invalid_value_changes_nothing() {
    let site = Site::new();
    site.create("main");
    site.create("other");
    let before = site.settings("app-main");
    let others = site.settings("app-other")["ssh_port"].to_string();
    let others = format!("port={others}");
    for (words, code, says) in [
        (&["memory=1"][..], 2, "must be from 256"),
        (&["memory=much"], 2, "a number of MiB"),
        (&["cores=2", "colour=red"], 2, "is not a setting"),
        (&["memory=1024", "guest=nixos"], 2, "guest cannot change"),
        (&["memory=1024", "packages=no such"], 2, "not a package name"),
        (&["memory=1024", "host=192.0.2.1", "port=18766"], 1, "192.0.2.1"),
        (&["host=192.0.2.1"], 1, "cannot bind 192.0.2.1"),
        (&["host=somewhere"], 2, "somewhere"),
        (&["memory=1024", &others], 1, "belongs to the machine app-other"),
        (&["port=18767", "ssh_port=18767"], 2, "cannot use the same port"),
        (&["memory=1024", "--unset", "memory"], 2, "both set and unset"),
        (&["--unset", "size"], 2, "is not a setting"),
        (&["memory=1024", "memory=2048"], 2, "memory is set twice"),
        (&["memory", "=", "2048"], 2, "hint: agent-vm set main memory=2048\n"),
        (&["--memory", "2048"], 2, "hint: settings have no dashes: agent-vm set main memory=2048\n"),
        (&["--ssh-port=2048"], 2, "hint: settings have no dashes: agent-vm set main ssh_port=2048\n"),
        (&["Memory=2048"], 2, "hint: did you mean memory?\n"),
        (&["memory"], 2, "KEY=VALUE"),
    ] {
        site.run(&[&["set", "main"], words].concat()).exits(code).gives_one_error().says(says).says("hint: ");
        assert_eq!(site.settings("app-main"), before, "{words:?}");
    }
    site.run(&["set", "nowhere", "memory=1024"]).exits(1).gives_one_error().says("there is no machine for nowhere");
}

/// Also the machine's own ports are checked on the new address.
#[test]
fn another_address_must_be_one_of_this_host_with_the_ports_free() {
    let site = Site::new();
    site.create("main");
    let listener = std::net::TcpListener::bind(("127.0.0.2", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    site.run(&["set", "main", &format!("port={port}")]).ok();
    site.run(&["set", "main", "host=127.0.0.2"]).exits(1).gives_one_error().says("is taken by");
    // Control.
    drop(listener);
    site.run(&["set", "main", "host=127.0.0.2"]).ok().prints("host changed");
}

#[test]
fn a_setting_that_cannot_change_gets_commands_that_work() {
    let site = Site::new();
    site.git(&["branch", "topic"]);
    site.create("topic");
    let again = "hint: create the machine again; this keeps its commits: agent-vm destroy app-topic\n";
    for (words, hint) in [
        (&["topic", "branch=other"][..], "hint: agent-vm create --branch other\n".to_owned()),
        (&["topic", "guest=nixos"], format!("{again}  then: agent-vm create --branch topic --guest nixos\n")),
        (&["topic", "all-branches=true"], format!("{again}  then: agent-vm create --branch topic --all-branches\n")),
        (
            &["topic", "secrets=A=b.test"],
            format!("{again}  then: agent-vm create --branch topic --secret 'A=b.test'\n"),
        ),
        (&["topic", "--unset", "guest"], format!("{again}  then: agent-vm create --branch topic\n")),
        // No machine is named, and the current branch has none.
        (&["branch=topic"], "hint: agent-vm create --branch topic\n".to_owned()),
    ] {
        site.run(&[&["set"], words].concat()).exits(2).gives_one_error().says(&hint);
    }
}

#[test]
fn without_settings_all_are_printed() {
    let site = Site::new();
    site.create("main");
    site.run(&["set", "servers=filesystem,time", "nix_args=--access-tokens,github.com=hunter2", "disk_iops=100"])
        .ok()
        .prints("app-main: servers changed from (empty) to filesystem,time\n")
        .does_not_say("hunter2");
    for words in [&["set"][..], &["set", "main"], &["set", "app-main"]] {
        let done = site.run(words).ok();
        done.prints("memory             4096 MiB\n")
            .prints("disk_iops          100 operations a second\n")
            .prints("network_bandwidth  no limit\n")
            .prints("servers            filesystem,time\n")
            .prints("nix_args           --access-tokens,(hidden)\n")
            .does_not_say("hunter2");
    }
    let shown = site.run(&["set", "--json"]).ok().does_not_say("hunter2").json();
    let settings = &shown["settings"];
    assert_eq!(
        (&shown["name"], &settings["memory"], &settings["port"]),
        (&json!("app-main"), &json!(4096), &json!(null))
    );
    assert_eq!((&settings["ttl"], &settings["servers"]), (&json!("none"), &json!(["filesystem", "time"])));
    site.run(&["set", "nowhere"]).exits(1).gives_one_error().says("there is no machine for nowhere");
}

#[test]
fn without_a_machine_the_current_branchs_is_changed() {
    let site = Site::new();
    site.git(&["branch", "a=b"]);
    for branch in ["main", "other", "a=b"] {
        site.create(branch);
    }
    site.run(&["set", "memory=1024", "cores=1"]).ok().prints("app-main: memory changed from 4096 MiB to 1024 MiB\n");
    site.run(&["set", "other", "memory=2048"]).ok().prints("app-other: memory changed from 4096 MiB to 2048 MiB\n");
    site.run(&["set", "--branch", "a=b", "memory=3072"]).ok().prints(": memory changed from 4096 MiB to 3072 MiB\n");
    let settings = site.settings("app-main");
    assert_eq!((&settings["memory"], &settings["cores"]), (&json!(1024), &json!(1)));
    assert_eq!(site.settings("app-other")["memory"], 2048);
    site.run(&["set", "--unset", "memory"]).ok().prints("app-main: memory changed from 1024 MiB to 4096 MiB\n");
    for (words, says) in [
        (&["memory"][..], "has no ="),
        (&["guest"], "has no ="),
        (&["a=b", "memory=1024"], "is not a setting"),
        (&["memory=much"], "must be a whole number"),
        (&["memory=1024", "other"], "has no ="),
        (&["--branch", "main", "other", "memory=1024"], "has no ="),
    ] {
        let words = [&["set"], words].concat();
        site.run(&words).exits(2).gives_one_error().says(says).says("hint: ");
    }
    assert_eq!(site.settings("app-main")["memory"], 4096);
    site.run_in(site.root(), &["set", "memory=1024"]).exits(1).gives_one_error().says("is not in a git repository");
}

#[test]
fn it_waits_for_the_machines_lock() {
    let site = Site::new();
    site.create("main");
    let lock =
        std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(site.state().join(".locks/app-main"));
    let lock = lock.unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    site.run(&["set", "main", "memory=1024", "--timeout", "1"]).exits(124).gives_one_error();
    assert_eq!(site.settings("app-main")["memory"], 4096);
    drop(lock);
    site.run(&["set", "main", "memory=1024", "--timeout", "5"]).ok();
}

#[test]
fn a_running_machine_takes_the_change_at_its_next_start() {
    let (site, _services) = running();
    let port = format!("port={}", site.settings("app-main")["port"]);
    site.run(&["set", "main", "memory=1024", "egress=none", "allow=a.test", &port])
        .ok()
        .says(
            "notice: app-main is running; port, memory, egress will change at its next start: agent-vm restart app-main",
        )
        .says("notice: app-main is running; allow changed at once\n");
    // Control: nothing is said of a list that did not change.
    site.run(&["set", "main", "allow=a.test", "cores=1"]).ok().does_not_say("at once");
    let rules: serde_json::Value =
        serde_json::from_str(&site.read("data/agent-vms/app-main/egress/rules/rules.json")).unwrap();
    // The list applies at once; the mode of a run stays.
    assert_eq!((&rules["mode"], &rules["allow"][0]["host"]), (&json!("allowlist"), &json!("a.test")));
    // Nor does any later change bring the pending mode into force.
    for change in [&["set", "main", "egress=open"][..], &["set", "main", "egress=none"], &["egress", "deny", "b.test"]]
    {
        site.run(change).ok();
        let rules: serde_json::Value =
            serde_json::from_str(&site.read("data/agent-vms/app-main/egress/rules/rules.json")).unwrap();
        assert_eq!((&rules["mode"], &rules["everything"]), (&json!("allowlist"), &json!(false)), "{change:?}");
    }
    site.run(&["egress", "list"]).ok().prints("app-main: egress none from its next start, allowlist until then\n");
    assert_eq!(site.run(&["status", "--json"]).ok().json()["egress"]["mode"], "allowlist");
    site.run(&["stop"]).ok();
}

#[test]
fn a_limit_of_the_next_start_is_not_called_unenforced() {
    let (site, _services) = running();
    site.run(&["set", "main", "network_bandwidth=65536"]).ok().says("network_bandwidth will change at its next start");
    // Control: without forwarders, this host has no means.
    site.run(&["status"]).ok().prints("network_bandwidth 65536 bytes a second not enforced on this host\n");
    site.write("data/agent-vms/app-main/run/forward-ssh.pid", "");
    site.run(&["status"]).ok().prints("network_bandwidth 65536 bytes a second from the next start\n");
    site.run(&["stop"]).ok();
}

/// The run has kept what it began with, and a disk keeps its size at every start.
#[test]
fn what_no_start_changes_is_not_promised() {
    let (site, _services) = running();
    site.run(&["set", "main", "cores=1", "packages=jq", "disk=40960", "tls=false"])
        .ok()
        .says("; tls, cores, packages will change at its next start")
        .prints("disk changed from 20480 MiB to 40960 MiB\n");
    let back = site.run(&["set", "main", "--unset", "packages", "--unset", "disk", "tls=true", "cores=1", "--json"]);
    let back = back.ok().json();
    assert_eq!((&back["at_next_start"], &back["at_once"]), (&json!([]), &json!([])));
    assert_eq!(back["changed"].as_object().unwrap().len(), 3, "{back}");
    // Control: another value than that of the run.
    site.run(&["set", "main", "packages=git-lfs"]).ok().says("packages will change at its next start");
    site.run(&["stop"]).ok();
}

#[test]
fn a_guest_that_cannot_be_built_does_not_stop_the_machine() {
    let (site, _services) = running();
    site.run(&["set", "main", "servers=nixoss"]).ok();
    let works = fs::read_to_string(site.path("bin/nix")).unwrap();
    site.stand_in("nix", "echo 'error: unknown server' >&2; exit 1");
    site.run(&["restart"]).exits(1).says("unknown server").does_not_say("app-main: ");
    site.run(&["status"]).ok().prints("Agent Service: Running");
    // Control: with a guest that can be built, the machine is stopped. (The new one's services are missing.)
    fs::write(site.path("bin/nix"), works).unwrap();
    site.run(&["restart", "--timeout", "2"]).exits(124).says("app-main: ");
}

/// Each command reads the settings under the lock, so that no change is lost.
#[test]
fn changes_at_the_same_time_are_all_kept() {
    let site = Site::new();
    site.create("main");
    let changes = ["memory=1024", "cores=1", "disk=30720", "tls=false", "packages=jq", "allow=a.test", "egress=none"];
    let commands: Vec<_> = changes.iter().map(|change| site.spawn(&["set", "main", change])).collect();
    for command in commands {
        let output = command.output();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let settings = site.settings("app-main");
    let values = ["memory", "cores", "disk", "tls", "packages"].map(|key| &settings[key]);
    assert_eq!(values, [&json!(1024), &json!(1), &json!(30720), &json!(false), &json!(["jq"])]);
    assert_eq!((&settings["egress"]["allow"], &settings["egress"]["mode"]), (&json!(["a.test"]), &json!("none")));
}
