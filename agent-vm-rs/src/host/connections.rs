//! TCP connections of this host over IPv4, as the kernel's socket diagnosis reports them (sock_diag(7)). Unlike `/proc/net/tcp`, it
//! counts the bytes of each connection, and returns only those of one port.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result, ensure};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

/// Most connections that are returned.
const MOST: usize = 4_096;
/// Size of a buffer for the kernel's messages, which it fills with whole ones.
const BUFFER: usize = 32 << 10;

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h).
const BY_FAMILY: u16 = 20;
/// `NLMSG_ERROR` and `NLMSG_DONE` (linux/netlink.h).
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP` (linux/netlink.h).
const DUMP: u16 = 0x301;
/// `INET_DIAG_INFO` (linux/inet_diag.h).
const INFO: u16 = 2;
/// TCP states (net/tcp_states.h).
const ESTABLISHED: u8 = 1;
const TIME_WAIT: u8 = 6;
/// `TCP_LISTEN` and all other states, as masks.
const LISTEN: u32 = 1 << 10;
const ALL_BUT_LISTEN: u32 = 0xfff & !LISTEN;
/// Lengths of `nlmsghdr` and `inet_diag_msg`.
const HEADER: usize = 16;
const MESSAGE: usize = 72;
/// Positions of `tcpi_bytes_acked` and `tcpi_bytes_received` in `tcp_info` (linux/tcp.h).
const ACKED: usize = 120;
const RECEIVED: usize = 128;

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Address of this end.
    pub local: SocketAddrV4,
    /// Address of the other end.
    pub remote: SocketAddrV4,
    /// Whether it is established.
    pub is_open: bool,
    /// Bytes that this end has received; zero for a closed connection.
    pub received: u64,
    /// Bytes that the other end has acknowledged; zero for a closed connection.
    pub sent: u64,
}

/// Returns the connections of a local port, also those that this end has closed less than a minute ago.
///
/// # Errors
/// The kernel reports none, such as in some containers.
pub fn of_port(port: u16) -> Result<Vec<Connection>> {
    query(port, 0, ALL_BUT_LISTEN)
}

/// Returns the connections of programs of this host to a port that the programs have closed less than a minute ago.
///
/// # Errors
/// See [`of_port`].
pub fn closed_to_port(port: u16) -> Result<Vec<Connection>> {
    query(0, port, 1 << TIME_WAIT)
}

/// Returns whether a program of this host listens on an address, without connecting to it.
///
/// # Errors
/// See [`of_port`].
pub fn is_listened_on(address: SocketAddrV4) -> Result<bool> {
    Ok(query(address.port(), 0, LISTEN)?.iter().any(|listener| listener.local == address))
}

fn query(local: u16, remote: u16, states: u32) -> Result<Vec<Connection>> {
    let failed = "failed to query the kernel's connections";
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))
        .context(failed)?;
    send(&socket, &request(local, remote, states), SendFlags::empty()).context(failed)?;
    let (mut found, mut buffer) = (Vec::new(), vec![0; BUFFER]);
    loop {
        let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::empty()).context(failed)?;
        let mut rest = buffer.get(..length).context(failed)?;
        ensure!(!rest.is_empty(), failed);
        while rest.len() >= HEADER {
            let size = u32_at(rest, 0).context(failed)? as usize;
            let kind = u16_at(rest, 4).context(failed)?;
            ensure!(kind != ERROR && size >= HEADER, failed);
            if kind == DONE || found.len() >= MOST {
                return Ok(found);
            }
            found.extend(rest.get(HEADER..size).and_then(parse));
            rest = rest.get(aligned(size)..).unwrap_or_default();
        }
    }
}

/// Returns the request: `nlmsghdr` and `inet_diag_req_v2`.
fn request(local: u16, remote: u16, states: u32) -> Vec<u8> {
    let mut request = Vec::with_capacity(MESSAGE);
    request.extend(72_u32.to_ne_bytes());
    request.extend(BY_FAMILY.to_ne_bytes());
    request.extend(DUMP.to_ne_bytes());
    request.extend([0; 8]);
    // AF_INET, IPPROTO_TCP, the wanted extension.
    request.extend([2, 6, 1 << (INFO - 1), 0]);
    request.extend(states.to_ne_bytes());
    request.extend(local.to_be_bytes());
    request.extend(remote.to_be_bytes());
    request.resize(72, 0);
    request
}

/// Returns the connection in an `inet_diag_msg`.
fn parse(message: &[u8]) -> Option<Connection> {
    let port = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(message.get(at..at + 4)?).ok()?));
    let info = info(message.get(MESSAGE..)?);
    let count = |at: usize| info.and_then(|info| Some(u64::from_ne_bytes(info.get(at..at + 8)?.try_into().ok()?)));
    Some(Connection {
        local: SocketAddrV4::new(address(8)?, port(4)?),
        remote: SocketAddrV4::new(address(24)?, port(6)?),
        is_open: *message.get(1)? == ESTABLISHED,
        received: count(RECEIVED).unwrap_or(0),
        sent: count(ACKED).unwrap_or(0),
    })
}

/// Returns the attribute `INET_DIAG_INFO`.
fn info(mut attributes: &[u8]) -> Option<&[u8]> {
    loop {
        let (length, kind) = (usize::from(u16_at(attributes, 0)?), u16_at(attributes, 2)?);
        if kind == INFO {
            return attributes.get(4..length);
        }
        attributes = attributes.get(aligned(length.max(4))..)?;
    }
}

const fn aligned(length: usize) -> usize {
    (length + 3) & !3
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;

    fn v4(address: SocketAddr) -> SocketAddrV4 {
        match address {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(_) => panic!("{address}"),
        }
    }

    #[test]
    fn open_and_closed_connections_are_found_with_their_bytes() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = v4(listener.local_addr().unwrap());
        let port = address.port();
        assert_eq!(of_port(port).unwrap(), [], "a listener is not a connection");
        assert!(is_listened_on(address).unwrap());
        assert!(!is_listened_on(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), port)).unwrap());
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        drop(listener);
        assert!(!is_listened_on(address).unwrap(), "a connection does not listen");
        client.write_all(b"question").unwrap();
        server.read_exact(&mut [0; 8]).unwrap();
        server.write_all(b"answer").unwrap();
        client.read_exact(&mut [0; 6]).unwrap();
        let own = v4(client.local_addr().unwrap());
        let [found] = of_port(port).unwrap()[..] else { panic!() };
        assert!(found.remote == own && found.is_open && found.received == 8, "{found:?}");
        assert_eq!(closed_to_port(port).unwrap(), []);
        // The end that closes first remembers it.
        drop(client);
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
        drop(server);
        let [closed] = closed_to_port(port).unwrap()[..] else { panic!() };
        assert!(closed.local == own && closed.remote.port() == port && !closed.is_open, "{closed:?}");
        assert_eq!(of_port(port).unwrap(), []);
    }

    #[test]
    fn messages_that_are_cut_off_are_not_parsed() {
        let mut message = vec![0; MESSAGE];
        message[1] = ESTABLISHED;
        assert!(parse(&message).is_some_and(|found| found.is_open && found.received == 0));
        message.truncate(MESSAGE - 1);
        assert_eq!(parse(&message), None);
        assert_eq!(info(&[3, 0, 9, 0]), None);
        assert_eq!(info(&[200, 0, 2, 0, 1]), None);
        assert_eq!(info(&[5, 0, 9, 0, 1, 0, 0, 0, 6, 0, 2, 0, 7, 8]), Some(&[7, 8][..]));
    }
}
