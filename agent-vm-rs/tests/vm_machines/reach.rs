//! Probes of what a guest reaches, and a counter of what arrives at QEMU's loopback.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};

use crate::network::in_network_of;
use crate::root::as_root;
use crate::site::{Running, Site};

/// Probes destinations.
const REACH: &str = include_str!("reach.py");
/// Counts the connections and datagrams that arrive.
const LISTEN: &str = include_str!("listen.py");
/// Finds the open TCP ports of an address.
const SCAN: &str = include_str!("scan.py");

/// A listener on QEMU's loopback, which a guest would reach through its gateway.
pub struct Loopback {
    qemu: i32,
    pub port: u16,
    _listener: Running,
}

impl Loopback {
    pub fn of(qemu: i32) -> Self {
        let mut listener = in_network_of(qemu);
        let mut listener = listener.args(["python3", "-c", LISTEN]).stdout(Stdio::piped()).spawn().unwrap();
        let mut says = BufReader::new(listener.stdout.take().unwrap());
        let mut port = String::new();
        says.read_line(&mut port).unwrap();
        Self { qemu, port: port.trim().parse().unwrap(), _listener: Running(listener) }
    }

    /// Returns the counts of what has arrived so far.
    pub fn arrived(&self) -> String {
        let ask = format!(
            "import socket; one = socket.socket(type=socket.SOCK_DGRAM); one.settimeout(60)
one.sendto(b'count', ('127.0.0.1', {})); print(one.recv(4096).decode(), end='')",
            self.port
        );
        let asked = in_network_of(self.qemu).args(["python3", "-c", &ask]).output().unwrap();
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        String::from_utf8(asked.stdout).unwrap()
    }
}

/// Parses the output of `reach.py`, by destination.
fn answers(said: &str) -> BTreeMap<String, String> {
    let pairs = said.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(destination, answer)| (destination.to_owned(), answer.to_owned())).collect()
}

/// Probes destinations from QEMU's own network.
pub fn reaches_inside(qemu: i32, destinations: &[&str]) -> BTreeMap<String, String> {
    let said = in_network_of(qemu).args(["python3", "-c", REACH]).args(destinations).output().unwrap().stdout;
    answers(&String::from_utf8(said).unwrap())
}

/// Probes destinations as root of the guest.
pub fn root_reaches(site: &Site, destinations: &[&str]) -> BTreeMap<String, String> {
    let script = format!("python3 - {} <<'END'\n{REACH}\nEND", destinations.join(" "));
    let answers = answers(&as_root(site, "main", &script).ok().stdout);
    assert_eq!(answers.len(), destinations.len(), "{answers:?}");
    answers
}

/// Returns which TCP ports of an address, from 1 to `last`, are open to root of the guest, and how many are refused.
pub fn root_scans(site: &Site, address: &str, last: u16) -> String {
    as_root(site, "main", &format!("python3 - {address} {last} <<'END'\n{SCAN}\nEND")).ok().stdout
}

/// A connection whose error Linux loses is tried again: a `connect` that returns is no answer yet.
#[test]
fn a_lost_error_is_no_answer() {
    const LOSES_THE_FIRST: &str = "
import socket
class Lossy(socket.socket):
    lost = False
    def connect(self, place):
        if Lossy.lost:
            super().connect(place)
        Lossy.lost = True
socket.socket = Lossy
";
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let open = listener.local_addr().unwrap().port();
    let said = |port: u16| {
        let script = format!("{LOSES_THE_FIRST}{REACH}");
        let destination = format!("tcp:127.0.0.1:{port}");
        let said = Command::new("python3").args(["-c", &script, &destination]).output().unwrap();
        answers(&String::from_utf8(said.stdout).unwrap())[&destination].clone()
    };
    assert_eq!(said(open), "answered");
    // Only the second connection has arrived.
    assert!(listener.accept().is_ok() && listener.accept().is_err());
    // Nothing listens on port 1.
    assert_eq!(said(1), "Connection refused");
}
