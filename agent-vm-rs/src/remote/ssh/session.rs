//! Programs in a machine that use our standard streams, or whose output we follow. They end when this process ends, and a
//! guest that does not start them is not waited for.

use std::io::{BufRead as _, BufReader, IsTerminal as _, PipeReader, PipeWriter};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::terminal::{OwnTerminal, Streams};
use super::{CHECK, Ssh};
use crate::host::interrupt::{self, Deadline};
use crate::host::process::Invocation;
use crate::machine::{helpers, in_use};
use crate::term::error::{EXIT_TIMEOUT, Failure, Interrupted, exit_code};
use crate::term::verbosity::Verbosity;

/// ssh's exit code if it could not run the command.
const SSH_FAILED: i32 = 255;
/// What ssh logs (mux.c, clientloop.c) once sshd has opened the session, through the control master or without one.
const OPENED: [&str; 2] = ["master session id", "Entering interactive session"];
/// Time for a guest that has not opened the session in time to send a greeting.
const GREETING: Duration = Duration::from_secs(5);
/// Time after which a command is ended once virtiofsd has ended: the workspace then blocks until a restart.
const WITHOUT_WORKSPACE: Duration = Duration::from_secs(2);
/// Replaces bash's own message, which gives the name and line of our script.
const NOT_FOUND: &str = "command_not_found_handle() { printf '%s: command not found\\n' \"$1\" >&2; return 127; }";
/// Number of lines of ssh's log that an error shows.
const WORDS: usize = 8;

const WATCHED: &str = include_str!("watched.sh");
const TERMINAL_TYPE: &str = include_str!("terminal_type.sh");

/// Wraps a script so that it is ended when the ssh session ends.
fn watched(script: &str) -> String {
    after(WATCHED, script)
}

/// Returns a script that runs `first`, without its comments, and then `script`.
fn after(first: &str, script: &str) -> String {
    let first = first.lines().filter(|line| !line.trim_start().starts_with('#'));
    first.chain([script]).collect::<Vec<_>>().join("\n")
}

impl Ssh<'_> {
    /// Checks that the control master runs and the guest starts programs.
    ///
    /// # Errors
    /// It does not within `limit`; the hint says what to do.
    pub fn require_answer(&self, limit: Duration) -> Result<()> {
        let deadline = Deadline::after(limit);
        self.require_connection(limit)?;
        self.read("exit", deadline.left().max(CHECK)).map(drop).map_err(|error| self.unanswered(error, limit))
    }

    /// Checks that the control master runs.
    ///
    /// # Errors
    /// The guest accepts no login within `limit`; the hint says what to do.
    pub fn require_connection(&self, limit: Duration) -> Result<()> {
        helpers::check_qemu(self.machine)?;
        self.connect(Deadline::after(limit)).map_err(|error| self.unanswered(error, limit))
    }

    fn unanswered(&self, error: anyhow::Error, limit: Duration) -> anyhow::Error {
        // A stopped helper process explains it better than a timeout.
        let lost = self.machine.run().facts().and_then(|facts| helpers::check(self.machine, &facts).err());
        if let Some(lost) = lost.filter(|_| !error.is::<Interrupted>()) {
            return lost;
        }
        if exit_code(&error) == EXIT_TIMEOUT { self.silent(limit).into() } else { error }
    }

    fn silent(&self, limit: Duration) -> Failure {
        let name = &self.machine.name;
        Failure::timeout(format!("{name} does not answer: no ssh session in {} s", limit.as_secs())).with_hint(format!(
            "to see why: agent-vm status {name}\nto end everything in the machine: agent-vm restart {name}"
        ))
    }

    /// Runs a command in the workspace, connected with us by `streams`, and returns its exit code. It ends with this process.
    ///
    /// # Errors
    /// The guest does not start it within `limit`, the connection is lost, or a signal arrived.
    pub fn exec(&self, command: &[String], streams: Streams, limit: Duration) -> Result<i32> {
        let quoted = shlex::try_join(command.iter().map(String::as_str)).context("an argument contains a NUL byte")?;
        // Without exec, the shell turns death by a signal into 128 + its number; ssh would return 255.
        let script = watched(&format!("{NOT_FOUND}; {} {quoted}; agent_vm_end", self.begin()));
        match streams {
            Streams::Terminal => self.attached(streams, &after(TERMINAL_TYPE, &script), limit),
            Streams::Pipes => self.attached(streams, &script, limit),
        }
    }

    /// Returns the beginning of a script: what the command after it needs.
    fn begin(&self) -> String {
        let setup = self.root.and_then(|root| root.setup).map(|setup| format!("{setup} </dev/null && "));
        format!("{}cd {} &&", setup.unwrap_or_default(), self.workspace)
    }

    /// Runs a login shell in the workspace on our terminal and returns its exit code.
    ///
    /// # Errors
    /// See [`Self::exec`].
    pub fn shell(&self, limit: Duration) -> Result<i32> {
        let begin = self.begin();
        // With a terminal, the guest's kernel hangs up when ssh ends; without one, only the wrapper ends the shell.
        if std::io::stdin().is_terminal() {
            let script = after(TERMINAL_TYPE, &format!("{begin} exec \"$SHELL\" -l"));
            return self.attached(Streams::Terminal, &script, limit);
        }
        self.attached(Streams::Pipes, &watched(&format!("{begin} \"$SHELL\" -l; agent_vm_end")), limit)
    }

    /// Runs a script and prints each line of its output, without control characters, as it arrives. Returns its exit code.
    ///
    /// # Errors
    /// The connection is lost, or stdout is closed.
    pub fn stream(&self, script: &str) -> Result<i32> {
        let _use = in_use::begin(&self.machine.dir);
        let print = |line: &str| crate::term::output::print(&(crate::term::text::printable(line) + "\n"));
        let code = ending_with_us(&self.remote(&watched(script)), "KILL").each_line(print)?;
        if code == SSH_FAILED { self.lost(&[]) } else { Ok(code) }
    }

    fn attached(&self, streams: Streams, script: &str, limit: Duration) -> Result<i32> {
        let facts = self.machine.run().facts();
        let workspace = || facts.as_ref().map_or(Ok(()), |facts| helpers::check_workspace(self.machine, facts));
        workspace()?;
        let _use = in_use::begin(&self.machine.dir);
        let terminal = Some(streams).filter(|streams| *streams == Streams::Terminal).and_then(|_| OwnTerminal::new());
        let words = Words::new()?;
        // ssh logs to a separate pipe, so that stderr carries only the command's output.
        let ssh = self.base_that_says(if self.verbosity == Verbosity::Debug { "DEBUG3" } else { "DEBUG1" });
        let options = ["-E", &words.path(), "-o", "ControlMaster=no", streams.ssh_flag(), "--", &self.destination()];
        let ssh = ssh.args(options).arg(script);
        let began = Instant::now();
        let mut answered = false;
        let mut lost = None;
        let ssh = ending_with_us(&ssh, streams.end());
        // In a terminal, the command's output is all on stdout. ssh itself reports the end of each such session on stderr.
        let ssh = if streams == Streams::Terminal { ssh.discarding_stderr() } else { ssh };
        let code = ssh.run_attached(|| {
            terminal.as_ref().map_or(Ok(()), OwnTerminal::check)?;
            if !answered && (words.opened() || began.elapsed() > limit) {
                // Another version of ssh may log other words. A guest that sends a greeting is alive.
                answered = words.opened() || self.greets(GREETING, &interrupt::check)?;
                if !answered {
                    return Err(self.unanswered(self.silent(limit).into(), limit));
                }
            }
            // When a machine stops, virtiofsd ends shortly before QEMU. A suspended one may be resumed.
            if self.machine.run().virtiofsd().is_some() || workspace().is_ok() {
                lost = None;
            } else if lost.get_or_insert_with(Instant::now).elapsed() > WITHOUT_WORKSPACE {
                return workspace();
            }
            Ok(())
        })?;
        if code == SSH_FAILED { self.lost(&reasons(words.all(), script)) } else { Ok(code) }
    }

    /// Interprets ssh's own exit code: ssh failed, or the command ended with the same code.
    fn lost(&self, words: &[String]) -> Result<i32> {
        let name = &self.machine.name;
        let failure = if words.is_empty() {
            // Root's connection is not shared: ssh would have given a reason.
            if self.root.is_some() || self.connected(CHECK) {
                return Ok(SSH_FAILED);
            }
            Failure::new(format!("the connection to {name} was lost"))
        } else {
            Failure::new(format!("{name} did not run the command:\n{}", words.join("\n")))
        };
        Err(failure
            .with_hint(format!("to see why: agent-vm status {name}\nto start it again: agent-vm restart {name}"))
            .into())
    }
}

/// Returns the lines of ssh's log that are not about a session that ended as it should: without a control master, ssh also
/// logs the beginning of the script and the number of bytes.
fn reasons(mut log: Vec<String>, script: &str) -> Vec<String> {
    log.retain(|line| {
        let is_count = line.starts_with("Transferred: ") || line.starts_with("Bytes per second: ");
        !is_count && !script.lines().any(|one| one.trim_end().starts_with(line.as_str()))
    });
    log
}

/// Returns ssh wrapped so that the kernel signals it when this process ends. The control master then closes the session.
pub(super) fn ending_with_us(ssh: &Invocation, signal: &str) -> Invocation {
    ssh.within(Invocation::new("setpriv").args(["--pdeathsig", signal, "--"]))
}

/// The log of an ssh process.
struct Words {
    opened: Arc<AtomicBool>,
    listener: JoinHandle<Vec<String>>,
    pipe: PipeWriter,
}

impl Words {
    fn new() -> Result<Self> {
        let (reader, pipe) = std::io::pipe().context("failed to make a pipe for ssh's messages")?;
        let opened = Arc::<AtomicBool>::default();
        let listener = {
            let opened = Arc::clone(&opened);
            std::thread::spawn(move || listen(reader, &opened))
        };
        Ok(Self { opened, listener, pipe })
    }

    /// Returns the path that ssh can open: it closes inherited descriptors.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.pipe.as_raw_fd())
    }

    fn opened(&self) -> bool {
        self.opened.load(Ordering::Relaxed)
    }

    /// Returns the last lines, once ssh has ended.
    fn all(self) -> Vec<String> {
        drop(self.pipe);
        self.listener.join().unwrap_or_default()
    }
}

fn listen(reader: PipeReader, opened: &AtomicBool) -> Vec<String> {
    let mut last = Vec::new();
    for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
        let line = crate::term::text::one_line(String::from_utf8_lossy(&line).trim_end());
        if OPENED.iter().any(|words| line.contains(words)) {
            opened.store(true, Ordering::Relaxed);
        }
        if line.starts_with("debug") {
            tracing::debug!("ssh: {line}");
            continue;
        }
        last.push(line);
        last.drain(..last.len().saturating_sub(WORDS));
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The log of OpenSSH for a session without a control master.
    #[test]
    fn reasons_are_neither_the_script_nor_counts() {
        let log = [
            "    trap : HUP",
            "file=/usr/lib/os-",
            "Transferred: sent 1, received 2 bytes, in 1.2 seconds",
            "Bytes per second: sent 4034.3, received 2671.1",
        ];
        let script = "(\n    trap : HUP\nfile=/usr/lib/os-release\n)";
        let reasons =
            |reason: &[&str]| super::reasons(log.iter().chain(reason).map(|line| (*line).to_owned()).collect(), script);
        assert!(reasons(&[]).is_empty());
        let lost = "Connection to 127.0.0.1 closed by remote host.";
        assert_eq!(reasons(&[lost]), [lost]);
    }

    #[test]
    fn the_error_about_a_missing_program_leaves_out_our_script() {
        for shell in ["bash", "sh"] {
            let run = |script: &str| Invocation::new(shell).args(["-c", &watched(script)]).output().unwrap();
            let done = run(&format!("{NOT_FOUND}; cd / && no-such-program x; exit $?"));
            assert_eq!(done.status.code(), Some(127));
            let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
            if shell == "bash" {
                assert_eq!(stderr, "no-such-program: command not found\n");
                assert!(String::from_utf8_lossy(&run("no-such-program").stderr).contains("line"), "control");
            }
        }
    }

    #[test]
    fn the_wrapper_is_valid_shell_and_keeps_the_exit_code() {
        for (script, code) in
            [("true; agent_vm_end", 0), ("sh -c 'exit 7'; agent_vm_end", 7), ("sh -c 'kill -9 $$'; agent_vm_end", 137)]
        {
            let done = Invocation::new("sh").args(["-c", &watched(script)]).output().unwrap();
            assert_eq!(done.status.code(), Some(code), "{script}");
            assert!(done.stderr.is_empty() || code == 137, "{}", String::from_utf8_lossy(&done.stderr));
        }
    }
}
