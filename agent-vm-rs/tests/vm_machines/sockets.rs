//! What listens on a process's network.

use std::fs;
use std::net::Ipv4Addr;

/// Whether a process is on this one's network.
pub fn shares_network(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/ns/net")).unwrap() == fs::read_link("/proc/self/ns/net").unwrap()
}

/// What listens on a process's network by TCP, or takes datagrams there: address and port, sorted; of IPv6 the kernel's
/// hexadecimal words.
pub fn listening(pid: u32) -> Vec<String> {
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
