//! Where the settings of a new machine come from: flags, a `--config` file, the environment, and defaults.

use serde_json::{Value, json};

use crate::support::Site;

fn cores() -> u64 {
    std::thread::available_parallelism().unwrap().get() as u64
}

#[test]
fn without_flags_the_defaults_are_stored() {
    let site = Site::new();
    site.create("main");
    let settings = site.settings("app-main");
    for (key, expected) in [
        ("version", json!(2)),
        ("source", json!(site.repo())),
        ("branch", json!("main")),
        ("guest", json!("debian")),
        ("host", json!("localhost")),
        ("port_asked", json!(false)),
        ("ssh_port_asked", json!(false)),
        ("tls", json!(true)),
        ("auth", json!(true)),
        ("memory", json!(4096)),
        ("cores", json!(cores().min(4))),
        ("disk", json!(20480)),
        ("packages", json!([])),
        ("servers", json!([])),
    ] {
        assert_eq!(settings[key], expected, "{key}");
    }
    assert!(settings["port"].as_u64().unwrap() >= 8000 && settings["ssh_port"].as_u64().unwrap() >= 2222);
}

#[test]
fn every_flag_of_create_is_stored() {
    let site = Site::new();
    let (port, ssh_port) = (free_port(), free_port());
    let (port_text, ssh_port_text) = (port.to_string(), ssh_port.to_string());
    site.run(&[
        "create",
        "--branch",
        "b",
        "--host",
        "127.0.0.1",
        "--port",
        &port_text,
        "--ssh-port",
        &ssh_port_text,
        "--no-tls",
        "--no-auth",
        "--guest",
        "nixos",
        "--memory",
        "1024",
        "--cores",
        "1",
        "--disk",
        "2048",
    ])
    .ok()
    .says("created app-b: guest nixos (asked for), 1024 MiB, 1 core");
    let settings = site.settings("app-b");
    for (key, expected) in [
        ("branch", json!("b")),
        ("host", json!("127.0.0.1")),
        ("port", json!(port)),
        ("port_asked", json!(true)),
        ("ssh_port", json!(ssh_port)),
        ("ssh_port_asked", json!(true)),
        ("guest", json!("nixos")),
        ("tls", json!(false)),
        ("auth", json!(false)),
        ("memory", json!(1024)),
        ("cores", json!(1)),
        ("disk", json!(2048)),
    ] {
        assert_eq!(settings[key], expected, "{key}");
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn cores_are_capped_at_the_hosts_number() {
    let site = Site::new();
    site.run(&["create", "--cores", "255"]).ok().says(&format!("cores capped at {0}: this host has {0} core", cores()));
    assert_eq!(site.settings("app-main")["cores"], json!(cores()));
}

#[test]
fn invalid_values_are_refused() {
    let site = Site::new();
    for flags in [
        ["--memory", "0"],
        ["--memory", "16"],
        ["--memory", "-1"],
        ["--memory", "x"],
        ["--memory", "99999999999"],
        ["--cores", "0"],
        ["--cores", "256"],
        ["--disk", "0"],
        ["--disk", "1"],
        ["--port", "0"],
        ["--port", "65536"],
        ["--ssh-port", "0"],
        ["--guest", "windows"],
        ["--host", ""],
        ["--host", "a b"],
        ["--host", "::1"],
        ["--host", "x,hostfwd=tcp::1-:1"],
        ["--config", "/does/not/exist"],
    ] {
        let done = site.run(&["create", flags[0], flags[1]]);
        let code = if flags[0] == "--config" { 1 } else { 2 };
        let done = done.exits(code);
        assert!(done.stderr.starts_with("error:") && done.stdout.is_empty(), "{flags:?}: {}", done.stderr);
        assert!(site.names().is_empty(), "{flags:?} made a machine");
    }
    site.assert_nothing_left();
}

#[test]
fn each_key_of_a_config_file_is_stored() {
    let site = Site::new();
    let (port, ssh_port) = (free_port(), free_port());
    let keys = [
        ("branch", json!("from-file")),
        ("guest", json!("nixos")),
        ("host", json!("127.0.0.1")),
        ("port", json!(port)),
        ("ssh_port", json!(ssh_port)),
        ("tls", json!(false)),
        ("auth", json!(false)),
        ("memory", json!(1024)),
        ("cores", json!(1)),
        ("disk", json!(2048)),
        ("packages", json!(["gcc", "make"])),
        ("servers", json!(["nixos"])),
        ("nix_args", json!(["--offline"])),
    ];
    for (key, value) in &keys {
        site.write("app/settings.json", json!({ *key: value }).to_string());
        let name = site.run(&["create", "--json", "--config", "settings.json"]).ok().json();
        let name = name["name"].as_str().unwrap();
        assert_eq!(site.settings(name)[*key], *value);
        site.run(&["destroy", name]).ok();
    }
    let all: Value = keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    site.write("app/settings.json", all.to_string());
    site.run(&["create", "--config", "settings.json", "--branch", "from-flag", "--memory", "2048"])
        .ok()
        .says("guest nixos (asked for)");
    let settings = site.settings("app-from-flag");
    assert_eq!((&settings["memory"], &settings["disk"]), (&json!(2048), &json!(2048)));
}

/// A fifo is not waited for, and an endless device is not read.
#[test]
fn a_config_that_is_no_regular_file_is_refused() {
    let site = Site::new();
    let fifo = site.path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    std::os::unix::fs::symlink("/dev/zero", site.path("zero")).unwrap();
    for name in ["fifo", "zero", "app"] {
        let path = site.path(name);
        let done = site.run(&["create", "--config", path.to_str().unwrap()]).exits(1).gives_one_error();
        done.says("is not a regular file").says("hint: name a file: --config FILE");
    }
    // Control: a symbolic link to a file works like the file.
    site.write("settings.json", "{}");
    std::os::unix::fs::symlink("settings.json", site.path("link")).unwrap();
    site.run(&["create", "--config", site.path("link").to_str().unwrap()]).ok();
}

#[test]
fn an_invalid_config_file_is_refused() {
    let site = Site::new();
    for text in [
        r#"{"memroy": 1024}"#,
        r#"{"memory": "1024"}"#,
        r#"{"memory": 16}"#,
        r#"{"port": 70000}"#,
        r#"{"tls": "no"}"#,
        r#"{"branch": "../../etc"}"#,
        r#"{"packages": ["a b"]}"#,
        r#"{"packages": ["-x"]}"#,
        r#"{"servers": ["../x"]}"#,
        r#"{"guest": "windows"}"#,
        "{",
        "",
        "[]",
    ] {
        site.write("app/settings.json", text);
        site.run(&["create", "--config", "settings.json"]).exits(2).gives_one_error();
        assert!(site.names().is_empty(), "{text} made a machine");
    }
    let refused = |settings: &str| {
        site.write("app/settings.json", settings);
        site.run(&["create", "--config", "settings.json"]).exits(2).gives_one_error()
    };
    refused(r#"{"memroy": 1024}"#).says("there is no setting memroy").says("hint: did you mean memory?");
    refused(r#"{"xyzzy": 1}"#).says("hint: the settings are: branch, all_branches").says("secrets");
    refused(r#"{"cores": 2, "memory": "lots"}"#)
        .says("the setting memory has a wrong value: \"lots\"\n")
        .says("hint: memory takes a number of MiB from 256 to 4194304")
        .does_not_say("all_branches");
    refused(r#"{"cores": 2, "cores": 3}"#).says("a setting appears twice");
    refused("[]").says("it is not a JSON object");
    // Control: a valid file is found and read.
    site.write("app/settings.json", r#"{"memory": 1024}"#);
    site.run(&["create", "--config", "settings.json"]).ok();
}

#[test]
fn the_installation_sets_the_default_guest() {
    let site = Site::new();
    site.run_with(&[("AGENT_VM_GUEST", "nixos")], &["create"]).ok().says("guest nixos (this installation's default)");
    assert_eq!(site.settings("app-main")["guest"], "nixos");
    site.run_with(&[("AGENT_VM_GUEST", "nixos")], &["create", "--branch", "b", "--guest", "debian"]).ok();
    assert_eq!(site.settings("app-b")["guest"], "debian");
    site.run_with(&[("AGENT_VM_GUEST", "plan9")], &["create", "--branch", "c"])
        .exits(1)
        .gives_one_error()
        .says("invalid AGENT_VM_GUEST \"plan9\"");
    assert_eq!(site.names(), ["app-b", "app-main"]);
}

/// A predefined server that the guest does not have is refused by each command that sets it, not by the guest's build.
#[test]
fn server_names_are_checked_against_the_toolkit() {
    let site = Site::new();
    std::fs::create_dir_all(site.path("toolkit/lib/policy")).unwrap();
    site.write("toolkit/lib/policy/known-servers.json", r#"{ "debian": ["browser"], "nixos": ["browser", "nixos"] }"#);
    let settings = |text: &str| site.write("app/settings.json", text);
    let refused = |args: &[&str]| {
        site.run(args)
            .exits(2)
            .gives_one_error()
            .says("the debian guest has no predefined MCP server borwser")
            .says("hint: did you mean browser? known servers: browser\n");
    };
    settings(r#"{ "guest": "debian", "servers": ["borwser"] }"#);
    refused(&["create", "--config", "settings.json"]);
    refused(&["apply", "--create", "--config", "settings.json"]);
    assert_eq!(site.names(), [] as [&str; 0]);
    // Control: a known server is stored, and so is one of another guest for that guest.
    settings(r#"{ "guest": "debian", "servers": ["browser"] }"#);
    site.run(&["create", "--config", "settings.json"]).ok();
    refused(&["set", "servers=browser,borwser"]);
    settings(r#"{ "servers": ["borwser"] }"#);
    refused(&["apply", "--config", "settings.json"]);
    assert_eq!(site.settings("app-main")["servers"], json!(["browser"]));
    settings(r#"{ "guest": "nixos", "servers": ["nixos"] }"#);
    site.run(&["create", "--branch", "b", "--config", "settings.json"]).ok();
    assert_eq!(site.settings("app-b")["servers"], json!(["nixos"]));
}

/// `--package` sets `packages`; a name that no built image has is refused before anything is created.
#[test]
fn package_names_are_checked_and_stored() {
    let site = Site::new();
    std::fs::create_dir_all(site.path("cache/agent-vm/guests/debian-0/share/agent-vm")).unwrap();
    site.write("cache/agent-vm/guests/debian-0/share/agent-vm/packages.txt", "g++\nnodejs\n");
    site.run(&["create", "--guest", "debian", "--package", "ndoejs"])
        .exits(2)
        .gives_one_error()
        .says("Debian has no package ndoejs")
        .says("hint: did you mean nodejs?");
    assert_eq!(site.names(), [] as [&str; 0]);
    site.run(&["create", "--guest", "debian", "--package", "nodejs", "--package", "g++"]).ok();
    assert_eq!(site.settings("app-main")["packages"], json!(["nodejs", "g++"]));
    // A list with commas, as `set` takes it.
    let lists = ["--package", "nodejs,g++", "--allow", "a.test,b.test:8443", "--allow", "@npm"];
    site.run(&[&["create", "--guest", "debian", "--branch", "b"], &lists[..]].concat()).ok();
    let settings = site.settings("app-b");
    assert_eq!(settings["packages"], json!(["nodejs", "g++"]));
    assert_eq!(settings["egress"]["allow"], json!(["a.test", "b.test:8443", "@npm"]));
}
