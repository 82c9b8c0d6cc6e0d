//! A process's network namespace: comparing it, running programs in it, and listing its sockets.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use crate::site::own_pid;

/// Returns a namespace of a process, named as the kernel names it.
pub fn namespace(pid: i32, kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}

/// Returns whether a process uses the same network as this process.
pub fn shares_network(pid: i32) -> bool {
    namespace(pid, "net") == namespace(own_pid(), "net")
}

/// Returns a command that runs in the network namespace of a process.
pub fn in_network_of(pid: i32) -> Command {
    if shares_network(pid) {
        return Command::new("env");
    }
    let pid = pid.to_string();
    if rustix::process::geteuid().is_root() {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &pid, "--net", "--"]);
        return nsenter;
    }
    let mut python = Command::new("python3");
    python.args(["-c", include_str!("enter_network.py"), &pid]);
    python
}

/// Returns the TCP listeners and UDP sockets of a process's network as addresses with ports, sorted; IPv6 addresses
/// have the kernel's hexadecimal form.
pub fn listening(pid: i32) -> Vec<String> {
    let mut all = Vec::new();
    for (table, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap();
        let sockets = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        all.extend(sockets.filter(|fields| fields[3] == state).map(|fields| {
            let (address, port) = fields[1].split_once(':').unwrap();
            let port = u16::from_str_radix(port, 16).unwrap();
            // The kernel prints the four bytes in the order in which they are in memory.
            match u32::from_str_radix(address, 16) {
                Ok(bytes) => format!("{}:{port}", Ipv4Addr::from(bytes.to_ne_bytes())),
                Err(_) => format!("{address}:{port}"),
            }
        }));
    }
    all.sort();
    all
}
