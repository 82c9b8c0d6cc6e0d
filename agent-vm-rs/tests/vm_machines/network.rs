//! A process's network: whether it is this one's, programs in it, and what listens there.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use crate::site::own_pid;

/// A namespace of a process, named as the kernel does.
pub fn namespace(pid: i32, kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}

/// Whether a process is on this one's network.
pub fn shares_network(pid: i32) -> bool {
    namespace(pid, "net") == namespace(own_pid(), "net")
}

/// Runs a program in the network namespace of a process.
pub fn inside(pid: i32) -> Command {
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

/// What listens on a process's network by TCP, or takes datagrams there: address and port, sorted; of IPv6 the kernel's
/// hexadecimal words.
pub fn listening(pid: i32) -> Vec<String> {
    let mut all = Vec::new();
    for (table, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap();
        let sockets = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        all.extend(sockets.filter(|fields| fields[3] == state).map(|fields| {
            let (address, port) = fields[1].split_once(':').unwrap();
            let port = u16::from_str_radix(port, 16).unwrap();
            // Four bytes as the machine has them in memory, which is the wrong way round.
            match u32::from_str_radix(address, 16) {
                Ok(bytes) => format!("{}:{port}", Ipv4Addr::from(bytes.to_ne_bytes())),
                Err(_) => format!("{address}:{port}"),
            }
        }));
    }
    all.sort();
    all
}
