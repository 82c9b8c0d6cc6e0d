//! Programs that keep running after this process ends.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result};
use command_fds::{CommandFdExt as _, FdMapping};
use duct::{Expression, Handle};

use super::inherited::{FIRST, daemons_environment};
use super::limits::Limits;
use super::run::STDERR_LINES;
use super::{Invocation, ProcessId, find};
use crate::host::log_file::{self, last_lines};
use crate::term::error::Failure;

/// Time for the log keeper to write the end of a log.
const LAST_OF_A_LOG: Duration = Duration::from_secs(1);

impl Invocation {
    /// Starts the program in a session of its own, with only PATH, HOME and LANG of our environment. A log keeper
    /// copies its output to `log` and keeps the last part of it.
    ///
    /// # Errors
    /// It is not installed or cannot be started.
    pub fn start_detached(&self, log: &Path) -> Result<Detached> {
        self.start_detached_with(log, &[])
    }

    /// Starts the program as [`Self::start_detached`] does, and passes it these sockets as descriptors 3 and up.
    ///
    /// # Errors
    /// See [`Self::start_detached`].
    pub fn start_detached_with(&self, log: &Path, sockets: &[BorrowedFd<'_>]) -> Result<Detached> {
        let (reader, writer) = io::pipe().context("failed to make a pipe")?;
        let own = crate::host::programs::own_path()?;
        let keeper = Self::new(own).arg("keep-log").arg(log);
        let cannot = || format!("failed to start writing the log {}", log.display());
        let file = log_file::open_to_append(log).with_context(cannot)?;
        let keeper = keeper.daemon()?.stdin_file(reader).stdout_file(file).stderr_null();
        let keeper = Limits::default().starting(|| keeper.start()).with_context(cannot)?;
        let expression = self.daemon()?.stdin_null().stderr_to_stdout().stdout_file(writer);
        let held = sockets.iter().map(BorrowedFd::try_clone_to_owned).collect::<io::Result<Vec<_>>>();
        let held = held.context("failed to pass a socket to a child process")?;
        let expression = expression.before_spawn(move |command| {
            let numbered = (FIRST..).zip(&held);
            let mappings =
                numbered.map(|(child_fd, socket)| Ok(FdMapping { parent_fd: socket.try_clone()?, child_fd }));
            command.fd_mappings(mappings.collect::<io::Result<_>>()?).map(drop).map_err(io::Error::other)
        });
        self.start(&expression, Some(keeper))
    }

    /// Starts the program as [`Self::start_detached`] does, with our own stdout and stderr.
    ///
    /// # Errors
    /// See [`Self::start_detached`].
    pub fn start_beside_us(&self) -> Result<Detached> {
        self.start(&self.daemon()?.stdin_null().stdout_to_stderr(), None)
    }

    fn start(&self, expression: &Expression, keeper: Option<Handle>) -> Result<Detached> {
        tracing::info!("starting {self}");
        let handle =
            self.limits.starting(|| expression.start()).with_context(|| format!("failed to start {}", self.name()))?;
        Ok(Detached { handle, keeper, name: self.name() })
    }

    /// Returns the expression that runs it under setsid(1), which executes the program, so the pid stays the same.
    fn daemon(&self) -> Result<Expression> {
        let mut environment = daemons_environment();
        environment.extend(self.env.iter().cloned());
        let words = std::iter::once(find(&self.program)?.into_os_string()).chain(self.args.iter().cloned());
        let expression = duct::cmd(find("setsid".as_ref())?, words).full_env(environment).unchecked();
        Ok(self.cwd.iter().fold(expression, |expression, dir| expression.dir(dir)))
    }
}

/// A detached program.
#[derive(Debug)]
pub struct Detached {
    handle: Handle,
    /// The process that writes its log, unless that is ours.
    keeper: Option<Handle>,
    name: String,
}

impl Detached {
    /// Sets its name for messages: the program itself, if this process only confines it.
    #[must_use]
    pub fn called(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Returns its process id.
    ///
    /// # Errors
    /// Never in practice: it was started.
    pub fn pid(&self) -> Result<i32> {
        let pid = self.handle.pids().first().copied().with_context(|| format!("{} has no process", self.name))?;
        i32::try_from(pid).context("a process id is out of range")
    }

    /// Returns the process that writes its log, if another process does.
    #[must_use]
    pub fn keeper(&self) -> Option<ProcessId> {
        let pid = *self.keeper.as_ref()?.pids().first()?;
        ProcessId::of(i32::try_from(pid).ok()?)
    }

    /// Waits until it ends, at most for `most`.
    ///
    /// # Errors
    /// The kernel reports an error.
    pub fn wait(&self, most: Duration) -> Result<()> {
        self.handle.wait_timeout(most).map(drop).with_context(|| format!("failed to wait for {}", self.name))
    }

    /// Checks that it still runs; the error shows the last lines of `log`.
    ///
    /// # Errors
    /// It has ended.
    pub fn check_alive(&self, log: &Path) -> Result<()> {
        let ended = self.handle.try_wait().with_context(|| format!("failed to wait for {}", self.name))?;
        let Some(output) = ended else { return Ok(()) };
        if let Some(keeper) = &self.keeper {
            // A keeper that other writers keep alive has already written this program's output.
            keeper.wait_timeout(LAST_OF_A_LOG).with_context(|| format!("failed to read {}", log.display()))?;
        }
        let tail = last_lines(log, STDERR_LINES);
        let how = how_it_ended(output.status);
        Err(Failure::new(format!("{} ended ({how}):\n{tail}", self.name))
            .with_hint(format!("the whole log is in {}", log.display()))
            .into())
    }
}

/// Returns how a program ended. A program that confines another one reports that one's signal as a code above 128.
fn how_it_ended(status: ExitStatus) -> String {
    let signal = status.signal().or_else(|| status.code().filter(|code| *code > 128).map(|code| code - 128));
    signal.map_or_else(|| status.to_string(), |signal| format!("{SIGNAL}{signal}"))
}

/// How a program ended that a signal ended; the signal's number follows.
const SIGNAL: &str = "killed by signal ";

/// Returns the signal that ended the program which an error of [`Detached::check_alive`] is about; None if it exited.
#[must_use]
pub fn signal_in(error: &anyhow::Error) -> Option<i32> {
    let number = |text: &str| {
        let (_, after) = text.lines().next()?.split_once(SIGNAL)?;
        after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    error.chain().find_map(|cause| number(&cause.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_reported_also_by_the_program_around() {
        let ended = |words: &str| how_it_ended(std::process::Command::new("sh").args(["-c", words]).status().unwrap());
        assert_eq!(ended("kill -KILL $$"), "killed by signal 9");
        assert_eq!(ended("sh -c 'kill -KILL $$'; exit $?"), "killed by signal 9");
        assert_eq!(ended("exit 3"), "exit status: 3");
        assert_eq!(ended("exit 128"), "exit status: 128");
        let error = |how: &str| anyhow::Error::msg(format!("QEMU ended ({how}):\nkilled by signal 5")).context("it");
        assert_eq!(signal_in(&error(&ended("kill -SEGV $$"))), Some(11));
        assert_eq!(signal_in(&error(&ended("exit 3"))), None);
    }
}
