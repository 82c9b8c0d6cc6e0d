//! Host ports: free ones, and the processes that listen on the others.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::Result;

use crate::term::error::Failure;

/// Checks whether a TCP port can be bound.
#[must_use]
pub fn is_free(address: Ipv4Addr, port: u16) -> bool {
    TcpListener::bind((address, port)).is_ok()
}

/// Sysctl with the first port that a process without privileges can bind (ip(7)).
const UNPRIVILEGED: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// Returns the first port that a machine's processes, which have no privileges, can bind.
fn first_unprivileged() -> u16 {
    std::fs::read_to_string(UNPRIVILEGED).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

/// Checks that `address` is an address of this host.
///
/// # Errors
/// It is not.
pub fn usable(address: Ipv4Addr) -> Result<()> {
    TcpListener::bind((address, 0)).map(drop).map_err(|error| {
        Failure::new(format!("cannot bind {address}: {error}"))
            .with_hint("the host is localhost or an address of this host; ip -4 addr shows them")
            .into()
    })
}

/// Returns the first port, counting from `first`, that is not in `taken` and that a machine's processes can bind.
///
/// # Errors
/// No port up to 65535 is free.
pub fn next_free(address: Ipv4Addr, first: u16, taken: &BTreeSet<u16>) -> Result<u16> {
    usable(address)?;
    (first.max(first_unprivileged())..=u16::MAX)
        .find(|port| !taken.contains(port) && is_free(address, *port))
        .ok_or_else(|| {
            Failure::new(format!("no port from {first} on is free on {address}"))
                .with_hint("choose another port below it")
                .into()
        })
}

/// Checks that a machine's processes can bind a port. The error names the process that listens on it, if known, and has `other`, the words that
/// choose another port, as its hint.
///
/// # Errors
/// The port is privileged, in use, or cannot be bound.
pub fn require_free(address: Ipv4Addr, port: u16, other: &str) -> Result<()> {
    usable(address)?;
    let first = first_unprivileged();
    if port < first {
        return Err(Failure::new(format!(
            "port {port} is privileged: a machine's processes can only bind ports from {first} on"
        ))
        .with_hint(format!("choose another port: {other}"))
        .into());
    }
    match TcpListener::bind((address, port)) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
        Err(error) => {
            return Err(Failure::new(format!("cannot bind {address}:{port}: {error}"))
                .with_hint(format!("choose another port: {other}"))
                .into());
        }
    }
    let owner = holder(port).map_or_else(String::new, |who| format!(" by {who}"));
    Err(Failure::new(format!("port {port} on {address} is taken{owner}"))
        .with_hint(format!("stop that program, or choose another port: {other}"))
        .into())
}

/// Returns `name (pid N)` of the process that listens on a port; None if we may not see it.
#[must_use]
pub fn holder(port: u16) -> Option<String> {
    use procfs::net::TcpState;
    use procfs::process::FDTarget;
    let tables = procfs::net::tcp().into_iter().chain(procfs::net::tcp6()).flatten();
    let inodes: BTreeSet<u64> = tables
        .filter(|entry| entry.state == TcpState::Listen && entry.local_address.port() == port)
        .map(|entry| entry.inode)
        .collect();
    procfs::process::all_processes().ok()?.flatten().find_map(|process| {
        let owns = process
            .fd()
            .ok()?
            .flatten()
            .any(|fd| matches!(fd.target, FDTarget::Socket(inode) if inodes.contains(&inode)));
        let name = process.stat().ok()?.comm;
        owns.then(|| format!("{} (pid {})", crate::term::text::one_line(&name), process.pid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_port_is_skipped_and_its_process_named() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(Ipv4Addr::LOCALHOST, port));
        assert_ne!(next_free(Ipv4Addr::LOCALHOST, port, &BTreeSet::new()).unwrap(), port);
        let error = require_free(Ipv4Addr::LOCALHOST, port, "--port").unwrap_err().to_string();
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
    }

    #[test]
    fn ports_of_other_machines_are_skipped() {
        let first = next_free(Ipv4Addr::LOCALHOST, 20_000, &BTreeSet::new()).unwrap();
        assert!(next_free(Ipv4Addr::LOCALHOST, 20_000, &BTreeSet::from([first])).unwrap() > first);
    }
}
