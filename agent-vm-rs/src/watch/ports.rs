//! The connections to a machine's ports, as this host's kernel counts them. Our own come from an address of their own
//! ([`OWN_ADDRESS`]).

use std::collections::{HashMap, HashSet};
use std::net::SocketAddrV4;

use anyhow::Result;

use super::samples::{Connections, Traffic};
use crate::host::connections::{Connection, closed_to_port, of_port};
use crate::machine::in_use::OWN_ADDRESS;

/// The connections to a machine's ports at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Those of the ssh port, also closed ones.
    pub ssh: Vec<Connection>,
    /// Those of the MCP port, also closed ones.
    pub mcp: Vec<Connection>,
    /// Addresses of clients on this host that have closed a connection to the MCP port.
    pub closed: Vec<SocketAddrV4>,
    /// Those of forwarded ports, also closed ones.
    pub forwarded: Vec<Connection>,
}

/// Asks the kernel for the connections.
///
/// # Errors
/// It reports none.
pub fn look(ssh: u16, mcp: u16, forwards: impl Iterator<Item = u16>) -> Result<Seen> {
    let mut forwarded = Vec::new();
    for port in forwards {
        forwarded.extend(of_port(port)?);
    }
    let closed = closed_to_port(mcp)?.into_iter().map(|one| one.local).collect();
    Ok(Seen { ssh: of_port(ssh)?, mcp: of_port(mcp)?, closed, forwarded })
}

/// What became known of a machine's connections so far.
#[derive(Debug, Default)]
pub struct Ports {
    /// Bytes of each connection in both directions, by local port and remote address.
    bytes: HashMap<(u16, SocketAddrV4), (u64, u64)>,
    /// Clients that have closed a connection.
    closed: HashSet<SocketAddrV4>,
    traffic: Traffic,
}

impl Ports {
    /// Returns the bytes of all connections so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Takes what was seen. Returns the numbers of open connections, and whether the machine was used: a session of ssh or a
    /// forwarded connection is open, or MCP got a request, also one over a connection that is closed again.
    pub fn take(&mut self, seen: &Seen) -> (Connections, bool) {
        let is_clients = |one: &&Connection| *one.remote.ip() != OWN_ADDRESS;
        let number = |all: &[Connection]| {
            u32::try_from(all.iter().filter(is_clients).filter(|one| one.is_open).count()).unwrap_or(u32::MAX)
        };
        let open = Connections { ssh: number(&seen.ssh), mcp: number(&seen.mcp), forwarded: number(&seen.forwarded) };
        let known = |one: &Connection| self.bytes.get(&(one.local.port(), one.remote));
        let is_asked = |one: &Connection| match known(one) {
            Some((received, _)) => one.is_open && one.received > *received,
            None => true,
        };
        let is_new = |client: &SocketAddrV4| {
            let was_open = self.bytes.keys().any(|(_, remote)| remote == client);
            *client.ip() != OWN_ADDRESS && !self.closed.contains(client) && !was_open
        };
        let asked = seen.mcp.iter().filter(is_clients).any(is_asked) || seen.closed.iter().any(is_new);
        self.count(seen);
        (open, open.ssh > 0 || open.forwarded > 0 || asked)
    }

    fn count(&mut self, seen: &Seen) {
        let mut bytes = HashMap::new();
        for one in seen.ssh.iter().chain(&seen.mcp) {
            let key = (one.local.port(), one.remote);
            let before = self.bytes.get(&key).copied().unwrap_or_default();
            // A closed connection has no counts any more.
            let now = (one.received.max(before.0), one.sent.max(before.1));
            self.traffic.received_bytes += now.0 - before.0;
            self.traffic.sent_bytes += now.1 - before.1;
            bytes.insert(key, now);
        }
        self.bytes = bytes;
        self.closed = seen.closed.iter().copied().collect();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn from(ip: Ipv4Addr, port: u16, received: u64) -> Connection {
        Connection {
            local: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8000),
            remote: SocketAddrV4::new(ip, port),
            is_open: true,
            received,
            sent: 2 * received,
        }
    }

    fn client(port: u16, received: u64) -> Connection {
        from(Ipv4Addr::LOCALHOST, port, received)
    }

    fn of_mcp(mcp: &[Connection], closed: &[SocketAddrV4]) -> Seen {
        Seen { mcp: mcp.to_vec(), closed: closed.to_vec(), ..Seen::default() }
    }

    #[test]
    fn a_request_to_mcp_is_a_use_and_an_open_connection_is_not() {
        let mut ports = Ports::default();
        let mut used = |mcp: &[Connection], closed: &[SocketAddrV4]| ports.take(&of_mcp(mcp, closed)).1;
        assert!(!used(&[], &[]));
        assert!(used(&[client(1, 0)], &[]), "a new connection");
        assert!(!used(&[client(1, 0)], &[]));
        assert!(used(&[client(1, 100)], &[]), "a request over it");
        assert!(!used(&[client(1, 100)], &[]));
        // The client closes it: that is no request. Neither is the end that the guest's side closes.
        assert!(!used(&[], &[client(1, 0).remote]));
        assert!(!used(&[], &[client(1, 0).remote]));
        assert!(used(&[], &[client(1, 0).remote, client(2, 0).remote]), "a connection that was never seen open");
        assert!(used(&[Connection { is_open: false, ..client(3, 0) }], &[]), "and one that the other side closed");
        assert!(!used(&[Connection { is_open: false, ..client(3, 0) }], &[]));
    }

    #[test]
    fn our_own_queries_are_no_use() {
        let mut ports = Ports::default();
        let ours = from(OWN_ADDRESS, 1, 100);
        for received in [100, 200] {
            let seen = Seen {
                ssh: vec![from(OWN_ADDRESS, 9, received)],
                ..of_mcp(&[Connection { received, ..ours }], &[ours.remote])
            };
            assert_eq!(ports.take(&seen), (Connections::default(), false));
        }
        // Their bytes are traffic all the same.
        assert_eq!(ports.traffic(), Traffic { received_bytes: 400, sent_bytes: 600 });
        // Control: the same from another address is.
        assert!(ports.take(&of_mcp(&[client(1, 100)], &[])).1);
    }

    #[test]
    fn open_sessions_and_forwarded_connections_are_uses() {
        let mut ports = Ports::default();
        for _ in 0..2 {
            let seen = Seen { ssh: vec![client(1, 5)], ..Seen::default() };
            assert_eq!(ports.take(&seen), (Connections { ssh: 1, ..Connections::default() }, true));
            let seen = Seen { forwarded: vec![client(1, 5)], ..Seen::default() };
            assert_eq!(ports.take(&seen), (Connections { forwarded: 1, ..Connections::default() }, true));
        }
        let closed = Connection { is_open: false, ..client(1, 0) };
        let seen = Seen { ssh: vec![closed], forwarded: vec![closed], ..Seen::default() };
        assert_eq!(ports.take(&seen), (Connections::default(), false));
    }

    #[test]
    fn traffic_never_decreases() {
        let mut ports = Ports::default();
        for (mcp, received) in
            [(vec![client(1, 10)], 10), (vec![client(1, 15), client(2, 1)], 16), (vec![client(2, 0)], 16), (vec![], 16)]
        {
            ports.take(&of_mcp(&mcp, &[]));
            assert_eq!(ports.traffic().received_bytes, received);
        }
    }
}
