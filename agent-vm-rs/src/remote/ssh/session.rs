//! Programs in a machine that have our standard input and output, or whose output goes on: none of them outlives us, and
//! none is waited for that a wedged machine never starts.

use std::io::{BufRead as _, BufReader, IsTerminal as _, PipeReader, PipeWriter};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::{CHECK, Ssh};
use crate::host::interrupt::{self, Deadline};
use crate::host::process::Invocation;
use crate::machine::helpers;
use crate::term::error::{EXIT_TIMEOUT, Failure, Interrupted, exit_code};
use crate::term::verbosity::Verbosity;

/// ssh's own exit code when it could not run the command.
const SSH_FAILED: i32 = 255;
/// What ssh says (mux.c, clientloop.c) once sshd has opened the session, by the kept connection or by one of its own.
const OPENED: [&str; 2] = ["master session id", "Entering interactive session"];
/// For a guest that has not opened a session in time to show that it is there after all.
const GREETING: Duration = Duration::from_secs(5);
/// How long a running command is left without its workspace, which does not come back.
const WITHOUT_WORKSPACE: Duration = Duration::from_secs(2);
/// Bash says of itself which line of ours it is at; a missing program is the user's concern, our lines are not.
const NOT_FOUND: &str = "command_not_found_handle() { printf '%s: command not found\\n' \"$1\" >&2; return 127; }";
/// Of ssh's own words the last ones are shown.
const WORDS: usize = 8;

const WATCHED: &str = include_str!("watched.sh");

/// A script of which nothing is left running once nobody listens to it any more.
fn watched(script: &str) -> String {
    let watch = WATCHED.lines().filter(|line| !line.trim_start().starts_with('#'));
    watch.chain([script]).collect::<Vec<_>>().join("\n")
}

impl Ssh<'_> {
    /// Makes sure that the kept connection is there and the guest starts programs.
    ///
    /// # Errors
    /// It does not within `limit`; the hint says what to do.
    pub fn require_answer(&self, limit: Duration) -> Result<()> {
        let deadline = Deadline::after(limit);
        self.require_connection(limit)?;
        self.read("exit", deadline.left().max(CHECK)).map(drop).map_err(|error| self.unanswered(error, limit))
    }

    /// Makes sure that the kept connection is there.
    ///
    /// # Errors
    /// The guest does not let us in within `limit`; the hint says what to do.
    pub fn require_connection(&self, limit: Duration) -> Result<()> {
        helpers::check_qemu(self.machine)?;
        self.connect(Deadline::after(limit)).map_err(|error| self.unanswered(error, limit))
    }

    fn unanswered(&self, error: anyhow::Error, limit: Duration) -> anyhow::Error {
        // Why it does not answer says more than that.
        let lost = self.machine.run().facts().and_then(|facts| helpers::check(self.machine, &facts).err());
        if let Some(lost) = lost.filter(|_| !error.is::<Interrupted>()) {
            return lost;
        }
        if exit_code(&error) == EXIT_TIMEOUT { self.silent(limit).into() } else { error }
    }

    fn silent(&self, limit: Duration) -> Failure {
        let name = &self.machine.name;
        Failure::timeout(format!("{name} does not answer: no ssh session in {} s", limit.as_secs())).with_hint(format!(
            "agent-vm status {name} shows what is wrong; agent-vm restart {name} ends all that runs in it"
        ))
    }

    /// Runs a command in the workspace with our stdin, stdout and stderr; gives its exit code. It ends with us.
    ///
    /// # Errors
    /// The guest does not start it within `limit`, the connection is lost, or a signal came.
    pub fn exec(&self, command: &[String], limit: Duration) -> Result<i32> {
        let quoted = shlex::try_join(command.iter().map(String::as_str)).context("an argument holds a NUL byte")?;
        // No exec: the shell turns a death by signal into 128 + its number, which ssh would tell as 255.
        let script = watched(&format!("{NOT_FOUND}; cd {} && {quoted}; exit $?", self.workspace));
        self.attached("-T", &script, "KILL", limit)
    }

    /// A login shell in the workspace on our terminal; gives its exit code.
    ///
    /// # Errors
    /// As [`Self::exec`].
    pub fn shell(&self, limit: Duration) -> Result<i32> {
        let begin = format!("cd {} &&", self.workspace);
        // With a terminal the guest's kernel hangs up; without one, nobody does.
        if std::io::stdin().is_terminal() {
            // By a signal that ssh gives the terminal back at.
            return self.attached("-tt", &format!("{begin} exec \"$SHELL\" -l"), "TERM", limit);
        }
        self.attached("-T", &watched(&format!("{begin} \"$SHELL\" -l; exit $?")), "KILL", limit)
    }

    /// Runs a script whose output goes on; prints each line, without control characters, as it comes. Gives
    /// its exit code.
    ///
    /// # Errors
    /// The connection is lost, or stdout is closed.
    pub fn stream(&self, script: &str) -> Result<i32> {
        let print = |line: &str| crate::term::output::print(&(crate::term::text::printable(line) + "\n"));
        let code = ending_with_us(&self.remote(&watched(script)), "KILL").each_line(print)?;
        if code == SSH_FAILED { self.lost(&[]) } else { Ok(code) }
    }

    fn attached(&self, terminal: &str, script: &str, end: &str, limit: Duration) -> Result<i32> {
        let facts = self.machine.run().facts();
        let workspace = || facts.as_ref().map_or(Ok(()), |facts| helpers::check_workspace(self.machine, facts));
        workspace()?;
        let words = Words::new()?;
        // What it says itself comes to us by a pipe: standard error is the command's alone.
        let ssh = self.base_that_says(if self.verbosity == Verbosity::Debug { "DEBUG3" } else { "DEBUG1" });
        let ssh =
            ssh.args(["-E", &words.path(), "-o", "ControlMaster=no", terminal, "--", &self.destination(), script]);
        let began = Instant::now();
        let mut answered = false;
        let mut lost = None;
        let code = ending_with_us(&ssh, end).run_attached(|| {
            if !answered && (words.opened() || began.elapsed() > limit) {
                // Words may change from one ssh to the next: a guest that greets is there.
                answered = words.opened() || self.greets(GREETING, &interrupt::check)?;
                if !answered {
                    return Err(self.unanswered(self.silent(limit).into(), limit));
                }
            }
            // It ends for a moment before QEMU does in a machine that is stopped; and who suspends it may go on with it.
            if self.machine.run().virtiofsd().is_some() || workspace().is_ok() {
                lost = None;
            } else if lost.get_or_insert_with(Instant::now).elapsed() > WITHOUT_WORKSPACE {
                return workspace();
            }
            Ok(())
        })?;
        if code == SSH_FAILED { self.lost(&words.all()) } else { Ok(code) }
    }

    /// What ssh's own exit code means: its own failure, or that of a command that ended with the same one.
    fn lost(&self, words: &[String]) -> Result<i32> {
        let name = &self.machine.name;
        let failure = if words.is_empty() {
            if self.connected(CHECK) {
                return Ok(SSH_FAILED);
            }
            Failure::new(format!("the connection to {name} was lost"))
        } else {
            Failure::new(format!("{name} did not run the command:\n{}", words.join("\n")))
        };
        Err(failure.with_hint(format!("agent-vm status {name}, agent-vm restart {name}")).into())
    }
}

/// ssh hands our streams to the kept connection's process, which ends the session as soon as ssh ends.
fn ending_with_us(ssh: &Invocation, signal: &str) -> Invocation {
    ssh.within(Invocation::new("setpriv").args(["--pdeathsig", signal, "--"]))
}

/// What ssh says to its log.
struct Words {
    opened: Arc<AtomicBool>,
    listener: JoinHandle<Vec<String>>,
    pipe: PipeWriter,
}

impl Words {
    fn new() -> Result<Self> {
        let (reader, pipe) = std::io::pipe().context("failed to make a pipe for ssh's words")?;
        let opened = Arc::<AtomicBool>::default();
        let listener = {
            let opened = Arc::clone(&opened);
            std::thread::spawn(move || listen(reader, &opened))
        };
        Ok(Self { opened, listener, pipe })
    }

    /// ssh closes what it inherits, and opens this by its name.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.pipe.as_raw_fd())
    }

    fn opened(&self) -> bool {
        self.opened.load(Ordering::Relaxed)
    }

    /// The last of them, once ssh has ended.
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

    #[test]
    fn a_missing_program_is_said_without_our_lines() {
        for shell in ["bash", "sh"] {
            let run = |script: &str| Invocation::new(shell).args(["-c", &watched(script)]).output().unwrap();
            let done = run(&format!("{NOT_FOUND}; cd / && no-such-program x; exit $?"));
            assert_eq!(done.status.code(), Some(127));
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            if shell == "bash" {
                assert_eq!(said, "no-such-program: command not found\n");
                assert!(String::from_utf8_lossy(&run("no-such-program").stderr).contains("line"), "control");
            }
        }
    }

    #[test]
    fn the_watch_is_no_riddle_to_a_shell_and_keeps_the_exit_code() {
        for (script, code) in
            [("true; exit $?", 0), ("sh -c 'exit 7'; exit $?", 7), ("sh -c 'kill -9 $$'; exit $?", 137)]
        {
            let done = Invocation::new("sh").args(["-c", &watched(script)]).output().unwrap();
            assert_eq!(done.status.code(), Some(code), "{script}");
            assert!(done.stderr.is_empty() || code == 137, "{}", String::from_utf8_lossy(&done.stderr));
        }
    }
}
