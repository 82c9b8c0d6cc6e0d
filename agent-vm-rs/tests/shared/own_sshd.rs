//! A real sshd on the loopback, with keys of its own, that gives its sessions another environment: a box on this host.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest time for sshd to listen.
const LIMIT: Duration = Duration::from_secs(40);

/// A running sshd; dropping it ends it.
pub struct OwnSshd {
    daemon: Child,
}

impl Drop for OwnSshd {
    fn drop(&mut self) {
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}

impl OwnSshd {
    /// Starts sshd with its files in the new directory `dir`. Sessions have the variables `environment`, `NAME=VALUE` with spaces
    /// between. Writes `dir/bin/ssh`, which knows this sshd as the host `box` and runs `other` for other hosts.
    ///
    /// # Errors
    /// This host lacks something that is needed, in words.
    pub fn start(dir: &Path, environment: &str, other: &str) -> Result<Self, String> {
        let find = |name: &str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
            let found = dirs.map(|dir: PathBuf| dir.join(name)).find(|file| file.is_file());
            found.ok_or_else(|| format!("{name} is not installed"))
        };
        let (sshd, ssh, keygen) = (find("sshd")?, find("ssh")?, find("ssh-keygen")?);
        let is_root = rustix::process::geteuid().is_root();
        // As root, sshd needs a directory in /run.
        if is_root && !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
            return Err("this host does not allow unshare --mount".to_owned());
        }
        fs::create_dir_all(dir.join("bin")).unwrap();
        for key in ["host", "login"] {
            let mut make = Command::new(&keygen);
            make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join(key));
            assert!(make.status().unwrap().success());
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        let write = |name: &str, text: String| fs::write(dir.join(name), text).unwrap();
        let at = dir.display();
        write("authorized", read("login.pub"));
        write("known", format!("box {}", read("host.pub")));
        write(
            "config",
            format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {at}/host\nAuthorizedKeysFile {at}/authorized\nStrictModes no\n\
                 UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nPidFile none\n\
                 SetEnv {environment}\n"
            ),
        );
        write(
            "client",
            format!(
                "Host box\n HostName 127.0.0.1\n Port {port}\n HostKeyAlias box\n IdentityFile {at}/login\n IdentitiesOnly yes\n\
                 IdentityAgent none\n UserKnownHostsFile {at}/known\n StrictHostKeyChecking yes\n"
            ),
        );
        // ssh reads the configuration of the account's own home directory otherwise, whatever HOME is.
        let script = format!(
            "#!/bin/sh\ncase \" $* \" in *' box '*) exec '{}' -F '{at}/client' \"$@\";; esac\nexec {other} \"$@\"\n",
            ssh.display()
        );
        write("bin/ssh", script);
        fs::set_permissions(dir.join("bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
        let run = format!("exec '{}' -D -e -f '{at}/config'", sshd.display());
        let prepare = "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && ";
        let mut command = Command::new(if is_root { "unshare" } else { "sh" });
        match is_root {
            true => command.args(["--mount", "sh", "-c", &format!("{prepare}{run}")]),
            false => command.args(["-c", &run]),
        };
        let log = fs::File::create(dir.join("log")).unwrap();
        let daemon = command.stderr(log).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let own = Self { daemon };
        let end = Instant::now() + LIMIT;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(Instant::now() < end, "sshd does not listen: {}", read("log"));
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(own)
    }
}
