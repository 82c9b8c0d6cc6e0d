//! Ports of this host that are forwarded to a machine, with a stand-in for ssh.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use rustix::process::Signal;
use serde_json::json;

use crate::guest_services::running;
use crate::stand_ins::{create, install, recorded};
use crate::support::{Site, kill, wait_until};

/// Returns a listener on a port of the loopback, and the port.
fn taken() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Returns a port that was free a moment ago.
fn free() -> u16 {
    taken().1
}

/// Returns how often ssh was asked to open or close a port.
fn asked(site: &Site, change: &str, forward: &str) -> usize {
    let words = format!(" -O {change} -L {forward} ");
    recorded(site, "ssh").iter().filter(|line| line.contains(&words)).count()
}

fn pid(site: &Site, file: &str) -> u32 {
    let text = site.read(format!("data/agent-vms/app-main/run/{file}"));
    text.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn ports_of_a_stopped_machine_are_kept_in_its_settings() {
    let site = Site::new();
    let name = create(&site, "main");
    let (one, two) = (free(), free());
    site.run(&["port"]).ok().prints("app-main: no port is forwarded");
    let spec = format!("3000:{one}");
    site.run(&["port", &spec]).ok().prints(&format!("127.0.0.1:{one} to port 3000 (stopped)"));
    assert_eq!(site.settings(&name)["forwards"], json!([{ "guest": 3000, "host": one }]));
    let both = site.run(&["port", "app-main", &spec, &two.to_string(), "--json"]).ok().json();
    let second = json!({ "guest": two, "address": "127.0.0.1", "host": two, "state": "stopped", "error": null });
    assert_eq!((&both["name"], &both["forwards"][1]), (&json!("app-main"), &second));
    assert_eq!(site.run(&["port", "--json"]).ok().json(), both);
    assert_eq!(site.run(&["status", "--json"]).ok().json()["forwards"], both["forwards"]);
    site.run(&["status"]).ok().prints(&format!("Ports      127.0.0.1:{one} to port 3000 (stopped)\n"));

    site.run(&["port", "--remove", "3000:1"]).exits(1).gives_one_error().says("port 3000 of app-main is not forwarded");
    site.run(&["port", "--remove"]).exits(2).gives_one_error().says("agent-vm port app-main");
    site.run(&["port", "--remove", "3000", &two.to_string()]).ok().prints("no port is forwarded");
    assert!(site.settings(&name).get("forwards").is_none());
}

#[test]
fn a_port_that_cannot_be_forwarded_changes_nothing() {
    let site = Site::new();
    let (name, other) = (create(&site, "main"), create(&site, "other"));
    let (_listener, used) = taken();
    let own = free();
    site.run(&["port", "other", &format!("1:{own}")]).ok();
    let before = site.settings(&name);
    let [ssh, mcp] = ["ssh_port", "port"].map(|key| before[key].as_u64().unwrap());
    let of_other = site.settings(&other)["port"].as_u64().unwrap();
    for (spec, code, says) in [
        (format!("3000:{used}"), 1, format!("port {used} on 127.0.0.1 is taken by ")),
        ("80".to_owned(), 1, "agent-vm port app-main 80:PORT".to_owned()),
        (format!("3000:{ssh}"), 1, format!("port {ssh} belongs to the machine app-main")),
        (format!("3000:{mcp}"), 1, format!("port {mcp} belongs to the machine app-main")),
        (format!("3000:{of_other}"), 1, "belongs to the machine app-other".to_owned()),
        (format!("3000:{own}"), 1, "belongs to the machine app-other".to_owned()),
        ("3128".to_owned(), 2, "port 3128 of a machine cannot be forwarded".to_owned()),
        ("8001".to_owned(), 2, "port 8001 of a machine cannot be forwarded".to_owned()),
        ("0".to_owned(), 2, "\"0\" is not a port".to_owned()),
        ("3000:70000".to_owned(), 2, "\"3000:70000\" is not a port".to_owned()),
    ] {
        // Not even the first one of two is kept.
        let good = format!("4000:{}", free());
        site.run(&["port", &good, &spec]).exits(code).gives_one_error().says(&says);
        assert_eq!(site.settings(&name), before, "{spec}");
    }
    // Control, and a machine's own services do not get the port either.
    site.run(&["port", &format!("3000:{}", free())]).ok();
    site.run(&["set", &format!("port={own}")]).exits(1).says("belongs to the machine app-other");
    site.run(&["set", "other", &format!("port={own}")]).exits(1).says("belongs to the machine app-other");
}

/// A port is forwarded at once, again after the connection is lost, and at the next start.
#[test]
fn forwards_of_a_running_machine_are_kept_up() {
    let (site, _services) = running();
    let host = free();
    let (spec, forward) = (format!("3000:{host}"), format!("127.0.0.1:{host}:localhost:3000"));
    site.run(&["port", &spec]).ok().prints(&format!("127.0.0.1:{host} to port 3000 (forwarded)"));
    assert_eq!(asked(&site, "forward", &forward), 1);
    site.run(&["port", &spec]).ok();
    assert_eq!(site.run(&["status", "--json"]).ok().json()["forwards"][0]["state"], "forwarded");

    let keeper = pid(&site, "forwards.pid");
    let masters = || {
        let is_master = |line: &&String| line.contains(" -M ") && line.contains("ControlPath=run/forwards.sock");
        recorded(&site, "ssh").iter().filter(is_master).count()
    };
    let (ssh, _) = site
        .processes()
        .into_iter()
        .find(|(pid, _)| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.contains(&format!("PPid:\t{keeper}\n")) && !status.starts_with("Name:\tagent-vm")
        })
        .unwrap();
    kill(ssh, Signal::KILL);
    wait_until("the next connection", || asked(&site, "forward", &forward) == 2);
    assert_eq!((masters(), pid(&site, "forwards.pid")), (2, keeper));

    // A killed keeper leaves no ssh behind, and the next start of the running machine starts another one.
    kill(keeper, Signal::KILL);
    wait_until("the end of its ssh", || !site.processes().iter().any(|(_, line)| line.contains("forwards.sock")));
    site.run(&["status"]).ok().prints("the port forwarding has ended");
    site.run(&["start"]).ok();
    assert_eq!(asked(&site, "forward", &forward), 3);

    site.run(&["port", "--remove", "3000"]).ok().prints("no port is forwarded");
    assert_eq!(asked(&site, "cancel", &forward), 1);
    site.run(&["port", &spec]).ok();
    site.run(&["stop"]).ok();
    site.assert_nothing_left();
}

/// A port that another program took since is a notice at a start, and is forwarded once it is free.
#[test]
fn a_port_in_use_does_not_fail_a_start() {
    let site = Site::new();
    install(&site, crate::stand_ins::STAYS);
    crate::stand_ins::install_ssh(&site);
    create(&site, "main");
    let _services = crate::guest_services::GuestServices::of(&site, "app-main");
    let (listener, host) = taken();
    site.set("app-main", "forwards", json!([{ "guest": 3000, "host": host }]));
    site.run(&["start"])
        .ok()
        .says(&format!("notice: port {host} is not forwarded to port 3000 of app-main: port {host}"));
    let forward = format!("127.0.0.1:{host}:localhost:3000");
    assert_eq!(asked(&site, "forward", &forward), 0);
    site.run(&["status"]).ok().prints("Problem    a port is not forwarded");
    drop(listener);
    wait_until("the freed port", || asked(&site, "forward", &forward) == 1);
    wait_until("its state", || site.run(&["port"]).ok().stdout.contains("(forwarded)"));
}
