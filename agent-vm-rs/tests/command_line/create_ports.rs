//! Host ports: free ones, ones in use, and no port for two machines.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Command;

use crate::support::{Site, namespaces};

fn ports(site: &Site, name: &str) -> [u64; 2] {
    let settings = site.settings(name);
    [settings["port"].as_u64().unwrap(), settings["ssh_port"].as_u64().unwrap()]
}

#[test]
fn no_two_machines_share_a_port() {
    let site = Site::new();
    let all: BTreeSet<_> =
        ["main", "a", "b", "c"].iter().flat_map(|branch| ports(&site, &site.create(branch))).collect();
    assert_eq!(all.len(), 8, "{all:?}");
}

#[test]
fn a_requested_port_in_use_is_an_error_that_names_the_process() {
    let site = Site::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let own_name = std::fs::read_to_string("/proc/self/comm").unwrap();
    let holder = format!("{} (pid {})", own_name.trim(), std::process::id());
    for flag in ["--port", "--ssh-port"] {
        site.run(&["create", flag, &port])
            .exits(1)
            .gives_one_error()
            .says(&format!("port {port} on 127.0.0.1 is taken by {holder}"))
            .says(&format!("{flag} PORT"));
        assert!(site.names().is_empty());
    }
    site.assert_nothing_left();
    drop(listener);
    site.run(&["create", "--port", &port]).ok();
}

/// A port of another machine counts as taken, whether that machine runs or not.
#[test]
fn a_port_of_another_machine_is_refused() {
    let site = Site::new();
    site.create("main");
    let port = ports(&site, "app-main")[0].to_string();
    site.run(&["create", "--branch", "b", "--port", &port]).exits(1).gives_one_error().says("app-main");
    site.run(&["create", "--branch", "b", "--ssh-port", &port]).exits(1).gives_one_error().says("app-main");
    let free = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port().to_string();
    site.run(&["create", "--branch", "b", "--port", &free, "--ssh-port", &free]).exits(2).gives_one_error();
    assert_eq!(site.names(), ["app-main"]);
    site.assert_nothing_left();
}

/// QEMU has no privileges, also if root starts it. All commands refuse such a port, with the command that chooses another.
#[test]
fn a_privileged_port_is_refused_unless_the_host_opens_it() {
    let Some(flags) = namespaces(&["--net"]) else { return };
    let site = Site::new();
    crate::stand_ins::install(&site, crate::stand_ins::ENDS);
    let script = r#"
        first=/proc/sys/net/ipv4/ip_unprivileged_port_start
        { ip link set lo up && echo 1024 >$first; } 2>/dev/null || exit 66
        refused() {
            if "$@" >out 2>err; then echo "accepted: $*"; exit 1; fi
            grep "port 80 is privileged" err && grep -F -- "$hint" err || { cat err; exit 1; }
        }
        hint='--port PORT' refused "$vm" create --port 80
        hint='--ssh-port PORT' refused "$vm" create --ssh-port 80
        "$vm" create || exit 1
        hint='agent-vm set app-main port=PORT' refused "$vm" set port=80
        hint='agent-vm set app-main ssh_port=PORT' refused "$vm" set ssh_port=80
        echo '{ "port": 80 }' >settings.json
        hint='agent-vm set app-main port=PORT' refused "$vm" apply --config settings.json
        # Positive control: the same ports, once the host opens them.
        echo 80 >$first
        "$vm" set port=80 && "$vm" create --branch other --port 81 || exit 1
        # No port below the first one is chosen.
        echo 9000 >$first
        "$vm" create --branch third
    "#;
    let ip = crate::support::which("ip").unwrap_or_default();
    let script = format!("vm='{}'\nip() {{ '{}' \"$@\"; }}\n{script}", env!("CARGO_BIN_EXE_agent-vm"), ip.display());
    let output = site.command("unshare").args(flags).args(["sh", "-c", &script]).output().unwrap();
    if output.status.code() == Some(66) {
        crate::support::skip("ip(8) or sysctl cannot set up a network here");
        return;
    }
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    assert_eq!(ports(&site, "app-main")[0], 80);
    assert_eq!(ports(&site, "app-other")[0], 81);
    assert_eq!(ports(&site, "app-third"), [9000, 9001]);
    // Outside of the namespace, where a machine's processes can run.
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first.trim().parse::<u16>().unwrap() > 80 {
        let done = site.run(&["start"]).exits(1).gives_one_error().says("port 80 is privileged");
        done.says("agent-vm set app-main port=PORT");
    }
}

/// The error gives the real reason: no process holds the port.
#[test]
fn an_address_of_another_host_is_an_error() {
    let site = Site::new();
    for flags in [&["--host", "192.0.2.1"][..], &["--host", "192.0.2.1", "--port", "8000"]] {
        let args: Vec<_> = ["create"].iter().chain(flags).copied().collect();
        let done = site.run(&args).gives_one_error().says("192.0.2.1").does_not_say("is taken");
        assert_ne!(done.code, Some(0));
    }
    site.assert_nothing_left();
}

/// In a network namespace, where all ports are free, the first machine gets 8000 and 2222, and the next machines get
/// the next free ports.
#[test]
fn ports_count_up_from_the_defaults() {
    let Some(flags) = namespaces(&["--net"]) else { return };
    let site = Site::new();
    let script = format!(
        "'{0}' create --branch one && '{0}' create --branch two --port 8001 && '{0}' create --branch three",
        env!("CARGO_BIN_EXE_agent-vm")
    );
    let ip = crate::support::which("ip").unwrap_or_default();
    let script = format!("'{}' link set lo up 2>/dev/null || exit 66\n{script}", ip.display());
    let mut command: Command = site.command("unshare");
    let output = command.args(flags).args(["sh", "-c", &script]).output().unwrap();
    if output.status.code() == Some(66) {
        crate::support::skip("ip(8) cannot set up a network here");
        return;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(ports(&site, "app-one"), [8000, 2222]);
    assert_eq!(ports(&site, "app-two"), [8001, 2223]);
    assert_eq!(ports(&site, "app-three"), [8002, 2224]);
    // A reset port is chosen again, as `create` does without the flag.
    let script = format!(
        "'{}' link set lo up && for change in 'port=9123 ssh_port=9124' '--unset port --unset ssh_port' 'port=9123' '--unset port'; do
            '{}' set app-two $change || exit; done",
        ip.display(),
        env!("CARGO_BIN_EXE_agent-vm")
    );
    let set =
        site.command("unshare").args(namespaces(&["--net"]).unwrap()).args(["sh", "-c", &script]).output().unwrap();
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    assert_eq!(ports(&site, "app-two"), [8001, 2223]);
}
