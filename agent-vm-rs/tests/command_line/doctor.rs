//! `doctor` finds what is wrong with this host and with machines, and prints the command that mends it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::Site;

/// Returns the findings about a machine, or about this host.
fn findings(report: &Value, machine: Option<&str>) -> Vec<(String, Value)> {
    let all = report["findings"].as_array().unwrap();
    let of = all.iter().filter(|found| found["machine"].as_str() == machine);
    of.map(|found| (found["check"].as_str().unwrap().to_owned(), found.clone())).collect()
}

fn faults(report: &Value, machine: Option<&str>) -> Vec<String> {
    let all = findings(report, machine);
    all.iter().filter_map(|(_, found)| Some(found["fault"].as_str()?.to_owned())).collect()
}

/// A host whose programs are all there, as stand-ins.
fn whole_host() -> Site {
    let site = Site::new();
    site.stand_in("nix", "echo 'nix (Nix) 2.28.3'");
    site.stand_in("qemu-system-x86_64", "echo 'QEMU emulator version 10.0.2'");
    site.stand_in("qemu-system-aarch64", "echo 'QEMU emulator version 10.0.2'");
    site.stand_in("mitmdump", "exit 0");
    site.stand_in("systemd-socket-proxyd", "exit 0");
    site.stand_in("virtiofsd", "echo 'virtiofsd 1.13.2'");
    site
}

#[test]
fn missing_programs_are_found_on_this_host() {
    let site = whole_host();
    let report = site.run(&["doctor", "--json"]).json();
    let faults_here = |report: &Value| faults(report, None);
    for fault in ["nix-missing", "qemu-missing", "disk-tools-missing", "mitmproxy-missing", "proxyd-missing"] {
        assert!(!faults_here(&report).contains(&fault.to_owned()), "control: {fault}");
    }
    for program in ["nix", "qemu-system-x86_64", "qemu-system-aarch64", "qemu-img", "mitmdump", "systemd-socket-proxyd"]
    {
        site.without(program);
    }
    let done = site.run(&["doctor", "--json"]).exits(1);
    let report = done.json();
    assert_eq!(report["ok"], false);
    for fault in ["nix-missing", "qemu-missing", "disk-tools-missing", "proxyd-missing"] {
        let found = faults_here(&report);
        assert!(found.contains(&fault.to_owned()), "{fault}: {found:?}");
    }
    // The text has the command of this system, or those of all.
    site.run(&["doctor"]).exits(1).prints("error    nix").prints("fix");
}

#[test]
fn old_programs_are_found() {
    let site = whole_host();
    site.stand_in("nix", "echo 'nix (Nix) 2.3.16'");
    for program in ["qemu-system-x86_64", "qemu-system-aarch64"] {
        site.stand_in(program, "echo 'QEMU emulator version 5.2.0'");
    }
    let found = faults(&site.run(&["doctor", "--json"]).exits(1).json(), None);
    assert!(found.contains(&"nix-old".to_owned()) && found.contains(&"qemu-old".to_owned()), "{found:?}");
}

#[test]
fn a_well_machine_has_no_fault_and_each_damage_has_one() {
    let site = whole_host();
    site.create("main");
    let dir = site.machine("app-main");
    let look = || site.run(&["doctor", "--json", "app-main"]).json();
    assert_eq!(faults(&look(), Some("app-main")), Vec::<String>::new(), "control");

    let key = dir.join("ssh/id_ed25519");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let report = look();
    let all = findings(&report, Some("app-main"));
    let (_, found) = all.iter().find(|(_, found)| found["fault"] == "key-open").unwrap();
    assert_eq!(found["level"], "error");
    // The command is one for a shell, and mends it.
    let mend = found["commands"]["debian"].as_str().unwrap();
    let mended = std::process::Command::new("sh").args(["-c", mend]).status().unwrap();
    assert!(mended.success() && faults(&look(), Some("app-main")).is_empty(), "{mend}");

    fs::write(dir.join("disk.qcow2"), "no disk").unwrap();
    fs::create_dir_all(dir.join("run")).unwrap();
    fs::rename(site.repo(), site.path("moved")).unwrap();
    fs::rename(dir.join("workspace/.git"), dir.join("workspace/git")).unwrap();
    let found = faults(&site.run_in(site.root(), &["doctor", "--json", "app-main"]).exits(1).json(), Some("app-main"));
    for fault in ["disk-damaged", "run-stale", "source-missing", "workspace-broken"] {
        assert!(found.contains(&fault.to_owned()), "{fault}: {found:?}");
    }

    fs::write(dir.join("config.json"), "{").unwrap();
    let done = site.run_in(site.root(), &["doctor"]).exits(1);
    done.prints("Machine app-main").prints("agent-vm destroy app-main");
}

#[test]
fn other_machines_are_left_out_and_an_unknown_one_is_an_error() {
    let site = whole_host();
    site.create("main");
    site.create("dev");
    let report = site.run(&["doctor", "--json", "dev"]).json();
    assert!(findings(&report, Some("app-main")).is_empty() && !findings(&report, Some("app-dev")).is_empty());
    let report = site.run(&["doctor", "--json"]).json();
    assert!(!findings(&report, Some("app-main")).is_empty() && !findings(&report, Some("app-dev")).is_empty());
    site.run(&["doctor", "none"]).exits(1).gives_one_error();
}
