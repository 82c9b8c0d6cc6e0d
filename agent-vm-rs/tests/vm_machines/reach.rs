//! Probes of what a guest reaches, and of what arrives at QEMU's loopback.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{ChildStdout, Stdio};

use crate::network::inside;
use crate::root::as_root;
use crate::site::{Running, Site};

/// Says what comes back from destinations.
const REACH: &str = include_str!("reach.py");
/// Counts what arrives.
const LISTEN: &str = include_str!("listen.py");
/// Says which TCP ports of an address are open.
const SCAN: &str = include_str!("scan.py");

/// A listener on what is loopback for QEMU, and so what a guest would reach by its gateway.
pub struct Loopback {
    qemu: i32,
    pub port: u16,
    _listener: Running,
    says: BufReader<ChildStdout>,
}

impl Loopback {
    pub fn of(qemu: i32) -> Self {
        let mut listener = inside(qemu);
        let mut listener = listener.args(["python3", "-c", LISTEN]).stdout(Stdio::piped()).spawn().unwrap();
        let mut says = BufReader::new(listener.stdout.take().unwrap());
        let mut port = String::new();
        says.read_line(&mut port).unwrap();
        Self { qemu, port: port.trim().parse().unwrap(), _listener: Running(listener), says }
    }

    /// What has arrived until now.
    pub fn arrived(mut self) -> String {
        let end = format!(
            "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'end', ('127.0.0.1', {}))",
            self.port
        );
        assert!(inside(self.qemu).args(["python3", "-c", &end]).status().unwrap().success());
        let mut arrived = String::new();
        self.says.read_line(&mut arrived).unwrap();
        arrived.trim_end().to_owned()
    }
}

/// What `reach.py` says, by destination.
fn answers(said: &str) -> BTreeMap<String, String> {
    let pairs = said.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(destination, answer)| (destination.to_owned(), answer.to_owned())).collect()
}

/// What comes back on QEMU's own side.
pub fn reaches_inside(qemu: i32, destinations: &[&str]) -> BTreeMap<String, String> {
    let said = inside(qemu).args(["python3", "-c", REACH]).args(destinations).output().unwrap().stdout;
    answers(&String::from_utf8(said).unwrap())
}

/// What comes back to root of the guest.
pub fn root_reaches(site: &Site, destinations: &[&str]) -> BTreeMap<String, String> {
    let script = format!("python3 - {} <<'END'\n{REACH}\nEND", destinations.join(" "));
    let answers = answers(&as_root(site, "main", &script).ok().stdout);
    assert_eq!(answers.len(), destinations.len(), "{answers:?}");
    answers
}

/// Which TCP ports of an address, up to one of them, are open to root of the guest, and how many are refused.
pub fn root_scans(site: &Site, address: &str, last: u16) -> String {
    as_root(site, "main", &format!("python3 - {address} {last} <<'END'\n{SCAN}\nEND")).ok().stdout
}
