//! `agent-vm export`: what it prints is read by the programs that it is for, if this host has them, and starts the machine.

use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::json;

use crate::guest_services::GuestServices;
use crate::stand_ins::{STAYS, change_runner, create, install, install_ssh};
use crate::support::{Running, Site, skip, wait_until, which};

fn site() -> Site {
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    create(&site, "main");
    site
}

#[test]
fn systemd_accepts_the_unit() {
    let site = site();
    let Some(analyze) = which("systemd-analyze") else { return skip("no systemd-analyze") };
    for flags in [&[][..], &["--user"]] {
        let unit = site.run(&[&["export", "--format", "systemd"], flags].concat()).ok().says("ports").stdout;
        site.write("agent-vm-test.service", &unit);
        let verify = |unit: &str| {
            let mut command = Command::new(&analyze);
            let command = command.args(flags).args(["verify", "--man=no", "--recursive-errors=no"]);
            let output = command.arg(site.path(unit)).output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (accepted, words) = verify("agent-vm-test.service");
        if words.contains("Failed to initialize manager") || words.contains("unrecognized option") {
            return skip("systemd-analyze does not run here");
        }
        assert!(accepted && !words.contains("agent-vm-test.service:"), "{words}\n{unit}");
        // Control: a mistake is found.
        site.write("agent-vm-wrong.service", unit.replace("KillMode=mixed", "KillMode=nope"));
        assert!(verify("agent-vm-wrong.service").1.contains("nope"));
    }
}

#[test]
fn the_command_of_the_unit_starts_the_machine() {
    let site = site();
    let _services = GuestServices::of(&site, "app-main");
    let unit = site.run(&["export", "--format", "systemd"]).ok().stdout;
    let start =
        unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap().replace("%%", "%").replace("$$", "$");
    let words: Vec<String> = start[1..start.len() - 1].split("\" \"").map(str::to_owned).collect();
    let mut command = site.command(&words[0]);
    command.args(&words[1..]).current_dir("/").stdout(Stdio::piped()).stderr(Stdio::piped());
    let command = Running::new(command.spawn().unwrap());
    wait_until("the machine", || {
        site.run(&["status", "--json"]).json()["mcp"]["answers"] == true
            || site.path("data/agent-vms/app-main/run/ports.json").exists()
    });
    command.signal(Signal::TERM);
    let code = command.output().status.code();
    // A signal during the start has another code, which the unit counts as a success.
    assert!(matches!(code, Some(0 | 143)), "{code:?}");
    site.assert_nothing_left();
}

#[test]
fn jobs_run_the_machine_on_this_host_and_have_no_secret() {
    let site = site();
    let value = "value-of-the-token";
    let made = site
        .run_with(&[("TOKEN", value)], &["create", "--branch", "other", "--secret", "TOKEN=api.example.org", "--json"]);
    let name = made.ok().json()["name"].as_str().unwrap().to_owned();
    let nomad = site.run(&["export", &name, "--format", "nomad"]).ok().says("the values of its secrets");
    let job = &nomad.json()["Job"];
    let task = &job["TaskGroups"][0]["Tasks"][0];
    assert_eq!(
        (&job["Type"], &task["Driver"], &task["KillSignal"]),
        (&json!("service"), &json!("raw_exec"), &json!("SIGTERM"))
    );
    assert_eq!(task["Config"]["args"].as_array().unwrap().last().unwrap(), &json!(name));
    let set = site.run(&["export", &name, "--format", "kubernetes", "--image", "registry.example/agent-vm:1"]).ok();
    let pod = &set.json()["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], "registry.example/agent-vm:1");
    let systemd = site.run(&["export", &name, "--format", "systemd"]).ok();
    for text in [&nomad.stdout, &set.stdout, &systemd.stdout] {
        assert!(!text.contains(value) && text.contains(site.state().to_str().unwrap()), "{text}");
    }
    site.run(&["export", "--format", "kubernetes"]).exits(2).gives_one_error().says("--image IMAGE");
    site.run(&["export", "--format", "nomad", "--user"])
        .exits(2)
        .gives_one_error()
        .says("--user works with --format systemd only");
    site.run(&["export", "--format", "nomad", "--json"]).exits(2).gives_one_error().says("no JSON output");
}

/// The pod starts the guest that this host has built, also after `image update`.
#[test]
fn a_pod_has_the_choice_of_the_snapshot() {
    let site = site();
    let config = site.path("config/agent-vm");
    assert!(!config.exists());
    let set = site.run(&["export", "--format", "kubernetes", "--image", "registry.example/agent-vm:1"]).ok().json();
    let pod = &set["spec"]["template"]["spec"];
    let has = |list: &serde_json::Value, key: &str| {
        list.as_array().unwrap().iter().any(|one| one.pointer(key) == Some(&json!(config)))
    };
    assert!(
        has(&pod["volumes"], "/hostPath/path") && has(&pod["containers"][0]["volumeMounts"], "/mountPath"),
        "{pod}"
    );
    // A pod does not start without a directory that it mounts.
    assert!(config.is_dir());
}

#[test]
fn libvirt_emulates_if_the_machine_is_emulated_and_overwrites_nothing() {
    let site = site();
    change_runner(
        &site,
        &format!("case $AGENT_VM_QEMU in */recorder) exec \"$AGENT_VM_QEMU\" -kernel /k;; esac; {STAYS}"),
    );
    let services = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    let accel = site.run(&["status", "--json"]).json()["vm"]["accel"].clone();
    let emulated = accel == "tcg";
    assert!(emulated || accel == "kvm", "{accel}");
    site.run(&["stop"]).ok();
    drop(services);
    let credentials = site.path("it's");
    let line = ["export", "--format", "libvirt", "--credentials", credentials.to_str().unwrap()];
    let done = site.run(&line).ok();
    let kind = if emulated { "<domain type='qemu' " } else { "<domain type='kvm' " };
    assert!(done.stdout.starts_with(kind), "{}", done.stdout);
    assert_eq!(done.stderr.contains("warning: no KVM ("), emulated, "{}", done.stderr);
    let again = site.run(&line).exits(1).gives_one_error().says("exists already");
    let remove = again.stderr.lines().find_map(|line| Some(line.split_once("export again: ")?.1)).unwrap();
    assert!(Command::new("sh").args(["-c", remove]).status().unwrap().success());
    assert_eq!(site.run(&line).ok().stdout, done.stdout);
}

#[test]
fn a_path_with_a_line_break_is_refused() {
    let site = site();
    let config = site.machine("app-main").join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let source = site.path("app").display().to_string();
    std::fs::write(&config, text.replace(&format!("{source}\""), &format!("{source}\\nExecStartPre=/bin/false\"")))
        .unwrap();
    for format in ["systemd", "nomad"] {
        site.run(&["export", "app-main", "--format", format])
            .exits(1)
            .gives_one_error()
            .says("has a control character");
    }
}

#[test]
fn kubernetes_schema_accepts_the_object() {
    let site = site();
    let Some(validate) = which("kubernetes-validate") else { return skip("no kubernetes-validate (PyPI)") };
    let set = site.run(&["export", "--format", "kubernetes", "--image", "registry.example/agent-vm:1"]).ok();
    let check = |text: &str| {
        site.write("set.json", text);
        Command::new(&validate).arg("--strict").arg(site.path("set.json")).output().unwrap()
    };
    let output = check(&set.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(!check(&set.stdout.replace("\"hostUsers\"", "\"hostsUsers\"")).status.success(), "control");
}
