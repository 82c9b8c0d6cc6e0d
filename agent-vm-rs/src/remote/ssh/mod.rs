//! ssh into a machine: by its own key, against its pinned host key, over one kept connection.

mod session;

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};

use crate::guest::manifest::Manifest;
use crate::host::interrupt::Deadline;
use crate::host::process::{Invocation, ProcessId};
use crate::machine::Machine;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunFacts;
use crate::term::verbosity::Verbosity;

/// For the kept connection's process, which is on this host, to say that it is there.
const CHECK: Duration = Duration::from_secs(2);
/// Bytes of what the guest answers.
const ANSWER: usize = 1 << 20;

/// What every greeting of an ssh server begins with (RFC 4253, 4.2).
const BANNER: &[u8] = b"SSH-";
/// Between two looks at what else may end a wait.
const MOMENT: Duration = Duration::from_millis(200);

/// Name that the guest's host key is pinned under: the address is always the host's own.
pub const HOST_KEY_ALIAS: &str = "agent-vm";

/// Fails once a wait is in vain.
pub type GoesOn<'a> = &'a dyn Fn() -> Result<()>;

/// ssh to one running machine.
pub struct Ssh<'a> {
    machine: &'a Machine,
    user: &'a str,
    workspace: &'a str,
    port: u16,
    address: Ipv4Addr,
    verbosity: Verbosity,
    socket: MachinePath,
}

impl<'a> Ssh<'a> {
    /// ssh to a machine whose run has these facts.
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
        }
    }

    /// The same by a connection of its own, whose control socket this is.
    #[must_use]
    pub fn with_socket(self, socket: MachinePath) -> Self {
        Self { socket, ..self }
    }

    /// Options common to all. Paths are relative to the machine's directory, which is where ssh runs: its
    /// option parser would split or expand others.
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
            &format!("IdentityFile={}", MachinePath::LoginKey.name()),
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
        ];
        let mut ssh = Invocation::new("ssh").args(["-F", "none", "-a", "-x"]).cwd(&self.machine.dir);
        for option in options {
            ssh = ssh.args(["-o", option]);
        }
        ssh.args([
            "-o",
            &format!("ControlPath={}", self.socket.name()),
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

    /// One try to see whether sshd greets; a forward accepts connections long before the guest does. `goes_on` is asked
    /// meanwhile.
    ///
    /// # Errors
    /// Those of `goes_on`.
    pub fn greets(&self, patience: Duration, goes_on: GoesOn<'_>) -> Result<bool> {
        let deadline = Deadline::after(patience);
        let address = SocketAddr::from((self.address, self.port));
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) else { return Ok(false) };
        let mut banner = Vec::new();
        while !deadline.passed() && stream.set_read_timeout(Some(MOMENT)).is_ok() {
            goes_on()?;
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

    /// Makes sure that the kept connection is there. What is left of one that does not answer is ended.
    ///
    /// # Errors
    /// sshd does not let us in, or the deadline passes.
    pub fn connect(&self, deadline: Deadline) -> Result<()> {
        self.connect_while(deadline, &|| Ok(()))
    }

    /// As [`Self::connect`]; `goes_on` is asked meanwhile.
    ///
    /// # Errors
    /// Those of `goes_on`, too.
    pub fn connect_while(&self, deadline: Deadline, goes_on: GoesOn<'_>) -> Result<()> {
        if self.connected(CHECK.min(deadline.left())) {
            return Ok(());
        }
        // One at a time: two that begin at once would each end the other's.
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
        // ssh makes the socket once it has logged in.
        let made = deadline.poll("an ssh login", Duration::from_millis(15), || {
            goes_on()?;
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

    /// A connection that is kept, for others to use by its socket.
    #[must_use]
    pub fn master(&self, patience: Duration) -> Invocation {
        let seconds = patience.as_secs().clamp(1, 60);
        let options = ["-M", "-N", "-o", "ControlPersist=no", "-o", &format!("ConnectTimeout={seconds}")];
        self.base().args(options).args(["--", &self.destination()]).of_machine(&self.machine.dir)
    }

    /// What has sshd listen on the guest's loopback, by a connection that is kept; who connects there is connected with a
    /// port on ours. It fails if sshd refuses, or its port is taken.
    #[must_use]
    pub fn forwarding_back(&self, guest_port: u16, own_port: u16) -> Invocation {
        let forward = format!("127.0.0.1:{guest_port}:127.0.0.1:{own_port}");
        let words = ["-O", "forward", "-R", &forward, "--", &self.destination()];
        self.base().args(words)
    }

    /// Whether the kept connection's process is there.
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

    /// A command for the guest's shell, over the kept connection.
    fn remote(&self, script: &str) -> Invocation {
        self.base().args(["-o", "ControlMaster=no", "-T", "--", &self.destination(), script])
    }

    /// Runs a script in the guest and gives what it wrote to stdout.
    ///
    /// # Errors
    /// It fails, takes longer than `limit`, or writes more than an answer has.
    pub fn read(&self, script: &str, limit: Duration) -> Result<String> {
        let output = self.remote(script).time_limit(limit).checked_within(ANSWER)?;
        Ok(crate::term::text::printable(&String::from_utf8_lossy(&output.stdout)))
    }
}
