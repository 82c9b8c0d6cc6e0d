//! ssh to a machine: with the machine's login key, its pinned host key, and one persistent connection (a control master).

pub mod config;
pub mod config_file;
mod copy;
pub mod forwards;
mod pack;
mod session;
pub mod terminal;
mod unpack;

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};

use crate::guest::manifest::Manifest;
use crate::host::files::has_file;
use crate::host::interrupt::Deadline;
use crate::host::process::{Invocation, ProcessId};
use crate::machine::Machine;
use crate::machine::in_use::OWN_ADDRESS;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunFacts;
use crate::term::error::Failure;
use crate::term::verbosity::Verbosity;

pub use self::copy::{CopyAsk, CopyEnd, copy_in, copy_out};
pub use self::unpack::LeftOut;

/// Time for the control master, which runs on this host, to answer.
const CHECK: Duration = Duration::from_secs(2);
/// Time limit of a script that reads from its standard input.
const SENDING: Duration = Duration::from_secs(600);
/// Maximal output of a script in the guest, in bytes.
const ANSWER: usize = 1 << 20;

/// Start of every ssh server's greeting (RFC 4253, 4.2).
const BANNER: &[u8] = b"SSH-";
/// Interval at which a wait checks for signals and deadlines.
const MOMENT: Duration = Duration::from_millis(200);

/// Name under which the guest's host key is pinned: the address is the host's own, for every machine.
pub const HOST_KEY_ALIAS: &str = "agent-vm";

/// Callback that fails when waiting longer is useless.
pub type KeepWaiting<'a> = &'a dyn Fn() -> Result<()>;

/// The ssh client for one running machine.
pub struct Ssh<'a> {
    machine: &'a Machine,
    user: &'a str,
    workspace: &'a str,
    port: u16,
    address: Ipv4Addr,
    verbosity: Verbosity,
    socket: MachinePath,
    root: Option<Root<'a>>,
}

/// A login as root, with a connection of its own for each command.
#[derive(Clone, Copy)]
struct Root<'a> {
    /// Program in the guest that runs first.
    setup: Option<&'a str>,
}

impl<'a> Ssh<'a> {
    /// Returns the client for a machine with this run's ports.
    #[must_use]
    pub fn to(machine: &'a Machine, manifest: &'a Manifest, facts: &RunFacts, verbosity: Verbosity) -> Self {
        Self {
            machine,
            user: &manifest.user.name,
            workspace: &manifest.workspace.path,
            port: facts.ssh_port,
            address: facts.reachable(),
            verbosity,
            socket: MachinePath::SshSocket,
            root: None,
        }
    }

    /// Returns a client that logs in as root of the guest, with the key of this run.
    ///
    /// # Errors
    /// The guest was started without such a key.
    pub fn as_root(self, manifest: &'a Manifest) -> Result<Self> {
        let has_key = has_file(&MachinePath::RootKey.of(&self.machine.dir))?;
        if manifest.credentials.root_keys.is_none() || !has_key {
            let name = &self.machine.name;
            return Err(Failure::new(format!("{name} was started without a login for root"))
                .with_hint(format!("agent-vm restart {name}"))
                .into());
        }
        Ok(Self { user: "root", root: Some(Root { setup: manifest.root_setup.as_deref() }), ..self })
    }

    /// Returns a client with a control master of its own, whose socket is `socket`.
    #[must_use]
    pub fn with_socket(self, socket: MachinePath) -> Self {
        Self { socket, ..self }
    }

    /// Returns ssh with the common options. Paths are relative to the machine's directory, where ssh runs: its option parser
    /// would split or expand absolute ones.
    fn base(&self) -> Invocation {
        let level = match self.verbosity {
            Verbosity::Debug => "DEBUG3",
            Verbosity::Verbose => "VERBOSE",
            Verbosity::Normal => "ERROR",
        };
        self.base_that_says(level)
    }

    fn base_that_says(&self, level: &str) -> Invocation {
        let options = [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            &format!("IdentityFile={}", self.root.map_or(MachinePath::LoginKey, |_| MachinePath::RootKey).name()),
            "PreferredAuthentications=publickey",
            &format!("UserKnownHostsFile={}", MachinePath::KnownHosts.name()),
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
            "UpdateHostKeys=no",
            "HostKeyAlgorithms=ssh-ed25519",
            "ForwardAgent=no",
            "ForwardX11=no",
            "PermitLocalCommand=no",
            "ServerAliveInterval=15",
            // Commands share this connection. Which of them uses the machine, the watcher learns from `machine::in_use`.
            &format!("BindAddress={OWN_ADDRESS}"),
        ];
        let mut ssh = Invocation::new("ssh").args(["-F", "none", "-a", "-x"]).cwd(&self.machine.dir);
        for option in options {
            ssh = ssh.args(["-o", option]);
        }
        ssh.args([
            "-o",
            &format!("ControlPath={}", self.root.map_or(self.socket.name(), |_| "none")),
            "-o",
            &format!("HostKeyAlias={HOST_KEY_ALIAS}"),
            "-o",
            &format!("LogLevel={level}"),
            "-p",
            &self.port.to_string(),
        ])
    }

    fn destination(&self) -> String {
        format!("{}@{}", self.user, self.address)
    }

    /// Checks once whether sshd sends its greeting, waiting up to `timeout`: QEMU accepts connections long before the guest
    /// does. Calls `keep_waiting` meanwhile.
    ///
    /// # Errors
    /// `keep_waiting` fails.
    pub fn greets(&self, timeout: Duration, keep_waiting: KeepWaiting<'_>) -> Result<bool> {
        let deadline = Deadline::after(timeout);
        let address = SocketAddr::from((self.address, self.port));
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) else { return Ok(false) };
        let mut banner = Vec::new();
        while !deadline.passed() && stream.set_read_timeout(Some(MOMENT)).is_ok() {
            keep_waiting()?;
            let mut more = [0; 4];
            match stream.read(&mut more) {
                Ok(0) => return Ok(false),
                Ok(count) => banner.extend_from_slice(&more[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return Ok(false),
            }
            if banner.len() >= BANNER.len() {
                return Ok(banner.starts_with(BANNER));
            }
        }
        Ok(false)
    }

    /// Starts the control master unless it runs. One that does not answer is ended first.
    ///
    /// # Errors
    /// sshd refuses the login, or the deadline passes.
    pub fn connect(&self, deadline: Deadline) -> Result<()> {
        self.connect_while(deadline, &|| Ok(()))
    }

    /// Starts the control master as [`Self::connect`] does, and calls `keep_waiting` meanwhile.
    ///
    /// # Errors
    /// Those of [`Self::connect`], or `keep_waiting` fails.
    pub fn connect_while(&self, deadline: Deadline, keep_waiting: KeepWaiting<'_>) -> Result<()> {
        if self.connected(CHECK.min(deadline.left())) {
            return Ok(());
        }
        // Two simultaneous starts would each end the other's master.
        let _lock = self.master_lock(deadline)?;
        if self.connected(CHECK.min(deadline.left())) {
            return Ok(());
        }
        let run = self.machine.run();
        if let Some(old) = ProcessId::read(&run.file(MachinePath::SshPid)) {
            old.end(Duration::from_millis(500));
        }
        crate::host::files::remove_file(&run.file(MachinePath::SshSocket))?;
        let log = run.file(MachinePath::SshLog);
        let master = self.master(deadline.left()).start_detached(&log)?;
        let process = ProcessId::of(master.pid()?);
        if let Some(process) = &process {
            process.write(&run.file(MachinePath::SshPid))?;
        }
        // ssh creates the socket after the login.
        let made = deadline.poll("an ssh login", Duration::from_millis(15), || {
            keep_waiting()?;
            master.check_alive(&log)?;
            Ok(run.file(MachinePath::SshSocket).exists().then_some(()))
        });
        if let (Err(_), Some(process)) = (&made, &process) {
            process.end(Duration::from_millis(200));
        }
        made
    }

    fn master_lock(&self, deadline: Deadline) -> Result<File> {
        let path = self.machine.run().file(MachinePath::SshLock);
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("failed to open {}", path.display()))?;
        deadline.poll("another ssh login", Duration::from_millis(15), || {
            Ok(flock(&file, FlockOperation::NonBlockingLockExclusive).ok())
        })?;
        Ok(file)
    }

    /// Returns the command that runs a control master.
    #[must_use]
    pub fn master(&self, timeout: Duration) -> Invocation {
        let seconds = timeout.as_secs().clamp(1, 60);
        let options = ["-M", "-N", "-o", "ControlPersist=no", "-o", &format!("ConnectTimeout={seconds}")];
        self.base().args(options).args(["--", &self.destination()]).of_machine(&self.machine.dir)
    }

    /// Returns the command that makes sshd listen on a port of the guest's loopback and forward connections to a port on the
    /// host, through the control master. It fails if sshd refuses or its port is in use.
    #[must_use]
    pub fn forwarding_back(&self, guest_port: u16, own_port: u16) -> Invocation {
        let forward = format!("127.0.0.1:{guest_port}:127.0.0.1:{own_port}");
        let words = ["-O", "forward", "-R", &forward, "--", &self.destination()];
        self.base().args(words)
    }

    /// Checks whether the control master runs.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected(CHECK)
    }

    fn connected(&self, limit: Duration) -> bool {
        if !self.machine.run().file(MachinePath::SshSocket).exists() {
            return false;
        }
        let check = self.base().args(["-O", "check", "--", &self.destination()]).time_limit(limit);
        check.output().is_ok_and(|output| output.status.success())
    }

    /// Returns the command that runs a script in the guest's shell, through the control master.
    fn remote(&self, script: &str) -> Invocation {
        self.base().args(["-o", "ControlMaster=no", "-T", "--", &self.destination(), script])
    }

    /// Runs a script in the guest with `input` on its standard input. Its output is the guest's.
    ///
    /// # Errors
    /// ssh fails, or it takes longer than [`SENDING`].
    pub fn send(&self, script: &str, input: Vec<u8>) -> Result<Output> {
        self.remote(script).stdin(input).time_limit(SENDING).output_within(ANSWER)
    }

    /// Runs a script in the guest and returns its stdout.
    ///
    /// # Errors
    /// The script fails, takes longer than `limit`, or prints more than 1 MiB.
    pub fn read(&self, script: &str, limit: Duration) -> Result<String> {
        let output = self.remote(script).time_limit(limit).checked_within(ANSWER)?;
        Ok(crate::term::text::printable(&String::from_utf8_lossy(&output.stdout)))
    }
}
