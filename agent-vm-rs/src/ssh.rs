//! ssh into a machine: by its own key, against its pinned host key, over one kept connection.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::credentials::HOST_KEY_ALIAS;
use crate::error::Failure;
use crate::interrupt::Deadline;
use crate::machine::Machine;
use crate::manifest::Manifest;
use crate::process::Invocation;
use crate::run_state::{ProcessId, RunFacts};

/// ssh's own exit code when it could not run the command.
const SSH_FAILED: i32 = 255;
const MASTER_PID: &str = "ssh.pid";
const MASTER_LOG: &str = "ssh.log";
/// Bytes of what the guest answers.
const ANSWER: usize = 1 << 20;

/// How much ssh says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Talk {
    /// `-v`.
    pub verbose: bool,
    /// `-vvv`.
    pub debug: bool,
}

/// ssh to one running machine.
pub struct Ssh<'a> {
    machine: &'a Machine,
    user: &'a str,
    workspace: &'a str,
    port: u16,
    address: Ipv4Addr,
    talk: Talk,
    socket: &'a str,
}

impl<'a> Ssh<'a> {
    /// ssh to a machine whose run has these facts.
    #[must_use]
    pub fn to(machine: &'a Machine, manifest: &'a Manifest, facts: &RunFacts, talk: Talk) -> Self {
        Self {
            machine,
            user: &manifest.user.name,
            workspace: &manifest.workspace.path,
            port: facts.ssh_port,
            address: facts.reachable(),
            talk,
            socket: "run/ssh.sock",
        }
    }

    /// The same by a connection of its own, whose control socket this is, relative to the machine's directory.
    #[must_use]
    pub fn with_socket(self, socket: &'a str) -> Self {
        Self { socket, ..self }
    }

    /// Options common to all. Paths are relative to the machine's directory, which is where ssh runs: its
    /// option parser would split or expand others.
    fn base(&self) -> Invocation {
        let level = if self.talk.debug {
            "DEBUG3"
        } else if self.talk.verbose {
            "VERBOSE"
        } else {
            "ERROR"
        };
        let options = [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "IdentityFile=ssh/id_ed25519",
            "PreferredAuthentications=publickey",
            "UserKnownHostsFile=ssh/known_hosts",
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
            &format!("ControlPath={}", self.socket),
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

    /// One try to see whether sshd greets; a forward accepts connections long before the guest does.
    #[must_use]
    pub fn greets(&self, patience: Duration) -> bool {
        let address = SocketAddr::from((self.address, self.port));
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) else { return false };
        let mut banner = [0; 4];
        stream.set_read_timeout(Some(patience)).is_ok() && stream.read_exact(&mut banner).is_ok() && &banner == b"SSH-"
    }

    /// Makes sure that the kept connection is there.
    ///
    /// # Errors
    /// sshd does not let us in, or the deadline passes.
    pub fn connect(&self, deadline: Deadline) -> Result<()> {
        if self.connected() {
            return Ok(());
        }
        let run = self.machine.run();
        let log = run.file(MASTER_LOG);
        if let Some(old) = ProcessId::read(&run.file(MASTER_PID)) {
            old.end(Duration::from_secs(1));
        }
        crate::state::remove_file(&run.file("ssh.sock"))?;
        let master = self.master(deadline.left()).start_detached(&log)?;
        if let Some(process) = ProcessId::of(master.pid()?) {
            process.write(&run.file(MASTER_PID))?;
        }
        // ssh makes the socket once it has logged in.
        deadline.poll("an ssh login", Duration::from_millis(15), || {
            master.check_alive(&log)?;
            Ok(run.file("ssh.sock").exists().then_some(()))
        })
    }

    /// A connection that is kept, for others to use by its socket.
    #[must_use]
    pub fn master(&self, patience: Duration) -> Invocation {
        let seconds = patience.as_secs().clamp(1, 60);
        let options = ["-M", "-N", "-o", "ControlPersist=no", "-o", &format!("ConnectTimeout={seconds}")];
        self.base().args(options).args(["--", &self.destination()]).of_machine(&self.machine.dir)
    }

    /// Has sshd listen on the guest's loopback, by a connection that is kept; who connects there is connected with a
    /// port on ours.
    ///
    /// # Errors
    /// sshd refuses, or its port is taken.
    pub fn forward_back(&self, guest_port: u16, own_port: u16) -> Result<()> {
        let forward = format!("127.0.0.1:{guest_port}:127.0.0.1:{own_port}");
        let words = ["-O", "forward", "-R", &forward, "--", &self.destination()];
        let asked = self.base().args(words).time_limit(Duration::from_secs(30)).checked();
        asked.map(drop).context("the guest does not listen for its way out")
    }

    fn connected(&self) -> bool {
        if !self.machine.run().file("ssh.sock").exists() {
            return false;
        }
        let check = self.base().args(["-O", "check", "--", &self.destination()]).time_limit(Duration::from_secs(5));
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
        Ok(crate::text::printable(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Runs a command in the workspace with our stdin, stdout and stderr; gives its exit code.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn exec(&self, command: &[String]) -> Result<i32> {
        let quoted = shlex::try_join(command.iter().map(String::as_str)).context("an argument holds a NUL byte")?;
        // No exec: the shell turns a death by signal into 128 + its number, which ssh would tell as 255.
        let script = format!("cd {} && {quoted}; exit $?", self.workspace);
        self.code(self.remote(&script).run_interactive()?)
    }

    /// Runs a script whose output goes on; prints each line, without control characters, as it comes. Gives
    /// its exit code.
    ///
    /// # Errors
    /// The connection is lost, or stdout is closed.
    pub fn stream(&self, script: &str) -> Result<i32> {
        let print = |line: &str| crate::commands::print(&(crate::text::printable(line) + "\n"));
        self.code(self.remote(script).each_line(print)?)
    }

    /// A login shell in the workspace on our terminal; gives its exit code.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn shell(&self) -> Result<i32> {
        let script = format!("cd {} && exec \"$SHELL\" -l", self.workspace);
        let terminal = if std::io::IsTerminal::is_terminal(&std::io::stdin()) { "-tt" } else { "-T" };
        let ssh = self.base().args(["-o", "ControlMaster=no", terminal, "--", &self.destination(), &script]);
        self.code(ssh.run_interactive()?)
    }

    fn code(&self, code: i32) -> Result<i32> {
        if code == SSH_FAILED && !self.connected() {
            let name = &self.machine.name;
            return Err(Failure::new(format!("the connection to {name} was lost"))
                .hint(format!("agent-vm status {name}"))
                .into());
        }
        Ok(code)
    }
}
