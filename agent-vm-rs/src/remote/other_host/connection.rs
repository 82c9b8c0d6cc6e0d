//! A connection to another host, with the user's own configuration of ssh.

use std::convert::Infallible;
use std::process::Output;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

use super::HostUrl;
use super::place::directory;
use super::request::{Ask, Hello, PROTOCOL};
use crate::host::process::Invocation;
use crate::term::error::Failure;
use crate::term::text::{last_lines, printable};

/// ssh's exit code if it could not run the command.
const SSH_FAILED: i32 = 255;
/// A shell's exit code if it does not find a program.
const NOT_FOUND: i32 = 127;
/// Seconds that a shared connection stays open after its last use.
const PERSIST: u32 = 60;
/// Lines of ssh's messages that an error shows.
const LINES: usize = 4;

/// Directories in which users install programs, and that a shell without a login does not search. No shell changes this text
/// between single quotes: sh, bash, zsh, fish and tcsh.
const SEARCH: &str = "PATH=\"$PATH:$HOME/.local/bin:$HOME/.nix-profile/bin:/etc/profiles/per-user/$(id -un)/bin:\
                      /run/current-system/sw/bin:/nix/var/nix/profiles/default/bin:/usr/local/bin\"; export PATH";

/// Options of every connection.
const OPTIONS: [&str; 7] = [
    "ForwardAgent=no",
    "ForwardX11=no",
    "ForwardX11Trusted=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "Tunnel=no",
    "ServerAliveInterval=15",
];

/// Another host whose agent-vm has answered.
#[derive(Clone, Debug)]
pub struct Connection {
    host: HostUrl,
}

/// Which streams the other host's program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// A terminal there.
    Own,
    /// Pipes.
    None,
}

impl Connection {
    /// Connects, and checks that the host has an agent-vm of the same protocol.
    ///
    /// # Errors
    /// The host cannot be reached, or has none.
    pub fn open(host: &HostUrl) -> Result<Self> {
        let connection = Self { host: host.clone() };
        // ssh may ask for a passphrase, or about a new host key.
        let output = connection.asking(&Ask::Hello {}, Terminal::None)?.output_with_terminal()?;
        let hello: Option<Hello> = answer(&output.stdout);
        match hello {
            Some(hello) if output.status.success() && hello.protocol == PROTOCOL => Ok(connection),
            hello => Err(connection.refused(&output, hello).into()),
        }
    }

    fn refused(&self, output: &Output, hello: Option<Hello>) -> Failure {
        let (name, own) = (self.host.shown(), env!("CARGO_PKG_VERSION"));
        let words = last_lines(&printable(&String::from_utf8_lossy(&output.stderr)), LINES);
        let words = words.trim_end();
        let ssh = self.host.ssh_words().join(" ");
        match output.status.code() {
            Some(SSH_FAILED) => Failure::new(format!("cannot connect to {name}:\n{words}"))
                .with_hint(format!("to see why: ssh -v {ssh} true")),
            Some(NOT_FOUND) => Failure::new(format!("{name} has no agent-vm on PATH"))
                .with_hint(format!("install agent-vm {own} there, as on this host")),
            _ => {
                let theirs = hello.map_or_else(
                    || "another version".to_owned(),
                    |hello| printable(&format!("version {} (protocol {})", hello.version, hello.protocol)),
                );
                let said = if words.is_empty() { String::new() } else { format!("\n{words}") };
                Failure::new(format!(
                    "the agent-vm of {name} is {theirs}, and this one is {own} (protocol {PROTOCOL}){said}"
                ))
                .with_hint("install the same version on both hosts")
            }
        }
    }

    /// Returns the host.
    #[must_use]
    pub fn host(&self) -> &HostUrl {
        &self.host
    }

    /// Returns ssh with the options for this host, which a destination and a command follow.
    fn ssh(shares: bool) -> Invocation {
        let options = OPTIONS.iter().map(|option| (*option).to_owned());
        let mut options: Vec<_> = options.chain(["ClearAllForwardings=yes".to_owned()]).collect();
        match directory().filter(|_| shares) {
            Some(dir) => options.extend([
                "ControlMaster=auto".to_owned(),
                format!("ControlPersist={PERSIST}"),
                format!("ControlPath={}/%C", dir.display()),
            ]),
            None => options.push("ControlPath=none".to_owned()),
        }
        let ssh = Invocation::new("ssh").with_our_environment().args(["-a", "-x"]);
        options.iter().fold(ssh, |ssh, option| ssh.args(["-o", option]))
    }

    /// Returns the call of ssh that asks.
    ///
    /// # Errors
    /// What is asked is too long.
    pub fn asking(&self, ask: &Ask, terminal: Terminal) -> Result<Invocation> {
        let ssh = match terminal {
            Terminal::Own => Self::ssh(true).arg("-t"),
            Terminal::None => Self::ssh(true).args(["-T", "-e", "none"]),
        };
        let command = format!("exec sh -c '{SEARCH}; exec agent-vm on-host \"$1\"' sh {}", ask.word()?);
        Ok(ssh.args(self.host.ssh_words()).arg(command))
    }

    /// Asks, and returns the answer. Messages of the other host are passed on.
    ///
    /// # Errors
    /// The host refuses: its message is already printed. Or the answer is not understood.
    pub fn answer<T: DeserializeOwned>(&self, ask: &Ask) -> Result<Result<T, i32>> {
        let name = self.host.shown();
        let output = self.asking(ask, Terminal::None)?.output_with_terminal()?;
        eprint_all(&output.stderr);
        if !output.status.success() {
            return Ok(Err(output.status.code().unwrap_or(1)));
        }
        answer(&output.stdout).map(Ok).with_context(|| {
            Failure::new(format!("the answer of {name} was not understood"))
                .with_hint("install the same version on both hosts")
        })
    }

    /// Becomes the call of ssh that asks.
    ///
    /// # Errors
    /// ssh cannot be executed.
    pub fn become_asking(&self, ask: &Ask, terminal: Terminal) -> Result<Infallible> {
        self.asking(ask, terminal)?.exec()
    }

    /// Returns the command that git uses for this host, as a line for a shell.
    ///
    /// # Errors
    /// A word cannot be quoted.
    pub fn git_ssh_command(&self) -> Result<String> {
        let ssh = Self::ssh(true).arg("-T");
        let words = [ssh.program].into_iter().chain(ssh.args).map(|word| word.to_string_lossy().into_owned());
        let words: Vec<_> = words.collect();
        shlex::try_join(words.iter().map(String::as_str)).context("an option of ssh contains a NUL byte")
    }

    /// Returns the program with which git reads or writes a repository there: `upload-pack` or `receive-pack`.
    #[must_use]
    pub fn git_program(verb: &str) -> String {
        format!("exec sh -c '{SEARCH}; exec git {verb} \"$0\"'")
    }

    /// Returns the call of ssh that forwards a port of this host's loopback to one of the other host's, until it is ended.
    #[must_use]
    pub fn forwarding(&self, here: u16, there: u16) -> Invocation {
        let options = OPTIONS.iter().chain(&["ControlPath=none", "ExitOnForwardFailure=yes", "BatchMode=yes"]);
        let ssh =
            options.fold(Invocation::new("ssh").args(["-a", "-x", "-N", "-T"]), |ssh, option| ssh.args(["-o", option]));
        let ssh =
            std::env::var_os("SSH_AUTH_SOCK").into_iter().fold(ssh, |ssh, socket| ssh.env("SSH_AUTH_SOCK", socket));
        ssh.args(["-L", &format!("127.0.0.1:{here}:127.0.0.1:{there}")]).args(self.host.ssh_words())
    }
}

/// Returns the answer in an output. A shell's start files may print other lines before it.
fn answer<T: DeserializeOwned>(output: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(output).ok()?;
    serde_json::from_str(text.trim_end().lines().next_back()?).ok()
}

/// Passes on messages, without control characters.
fn eprint_all(messages: &[u8]) {
    let text = printable(&String::from_utf8_lossy(messages));
    if !text.trim().is_empty() {
        crate::term::progress::note(text.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_last_line() {
        let hello = "Welcome!\n{\"protocol\":1,\"version\":\"0.1.0\"}\n";
        assert_eq!(answer::<Hello>(hello.as_bytes()).unwrap().protocol, 1);
        assert!(answer::<Hello>(b"{\"protocol\":1,\"version\":\"\"}\nBye\n").is_none());
        assert!(answer::<Hello>(b"\xff").is_none());
    }

    #[test]
    fn the_agent_is_never_forwarded_and_no_configured_port_is_opened() {
        let connection = Connection { host: "ssh://me@box:2222".parse().unwrap() };
        let call = connection.asking(&Ask::Hello {}, Terminal::None).unwrap().to_string();
        for part in ["-a -x", "ForwardAgent=no", "ForwardX11=no", "ClearAllForwardings=yes", "-l me -p 2222 -- box"] {
            assert!(call.contains(part), "{call}");
        }
        assert!(connection.forwarding(1, 2).to_string().contains("-L 127.0.0.1:1:127.0.0.1:2"));
        assert!(!SEARCH.contains(['\'', '!', '\\']));
    }
}
