//! A small Internet on this host: a network for the commands under test, and one public site beyond it. Neither reaches
//! anything else.

use std::ffi::OsStr;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::site::{Running, wait_until};

/// The site's address, which is neither the host's nor on its network.
pub const PUBLIC: Ipv4Addr = Ipv4Addr::new(93, 184, 215, 14);
/// The host's own address in the world's network.
pub const OWN: Ipv4Addr = Ipv4Addr::new(172, 31, 255, 1);
/// The router to the site.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 31, 255, 2);

/// The two networks; dropping it removes them.
pub struct World {
    host: Running,
    _site: Running,
    _files: tempfile::TempDir,
}

impl World {
    /// Makes a world in which only these names have addresses; the site answers HTTP with "hello". Only root can.
    pub fn new(names: &[(&str, Ipv4Addr)]) -> Self {
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("index.html"), "hello").unwrap();
        let dir = files.path().to_str().unwrap().to_owned();
        Self::serving(names, &["python3", "-m", "http.server", "80", "--directory", &dir], files)
    }

    /// Makes a world whose site runs a program. `files` is kept as long as the world.
    pub fn serving(names: &[(&str, Ipv4Addr)], program: &[&str], files: tempfile::TempDir) -> Self {
        let hosts: String = names.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
        fs::write(files.path().join("hosts"), hosts).unwrap();
        let dir = files.path().to_str().unwrap();

        let host = apart(&["--net", "--mount"], &["sleep", "infinity"]);
        let site = apart(&["--net"], program);
        configure(
            &host,
            &format!(
                "ip link set lo up
                 ip link add near type veth peer name far netns {}
                 ip address add {OWN}/24 dev near
                 ip link set near up
                 ip route add default via {GATEWAY}
                 mount --bind {dir}/hosts /etc/hosts",
                site.0.id()
            ),
        );
        configure(
            &site,
            &format!(
                "ip link set lo up
                 ip address add {PUBLIC} dev lo
                 ip address add {GATEWAY}/24 dev far
                 ip link set far up"
            ),
        );
        Self { host, _site: site, _files: files }
    }

    /// Returns a command that runs in the world's network, with its names.
    pub fn start(&self, program: &OsStr, dir: &Path) -> Command {
        let mut command = enter(&self.host);
        // Entering a mount namespace changes the working directory to its root.
        command.args(["env", "--chdir"]).arg(dir).arg(program);
        command
    }
}

/// Starts a program in new namespaces and waits until it runs.
fn apart(kinds: &[&str], program: &[&str]) -> Running {
    let mut unshare = Command::new("unshare");
    unshare.args(kinds).arg("--").args(program).stdout(Stdio::null()).stderr(Stdio::null());
    let child = Running(unshare.spawn().unwrap());
    let name = program[0];
    wait_until("namespaces", || {
        fs::read_to_string(format!("/proc/{}/comm", child.0.id())).is_ok_and(|comm| comm.trim() == name)
    });
    child
}

fn enter(process: &Running) -> Command {
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--target", &process.0.id().to_string(), "--net", "--mount", "--"]);
    nsenter
}

fn configure(process: &Running, script: &str) {
    let done = enter(process).args(["sh", "-ec", script]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
