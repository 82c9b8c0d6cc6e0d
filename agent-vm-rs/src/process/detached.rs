//! Programs that outlive us.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use command_fds::{CommandFdExt as _, FdMapping};
use duct::Handle;

use super::inherited::{FIRST, daemons_environment};
use super::run::STDERR_LINES;
use super::{Invocation, find};
use crate::error::Failure;
use crate::log_file::last_lines;

impl Invocation {
    /// Starts it in a session of its own, to live on after us, with `log` as its stdout and stderr
    /// and nothing of our environment but PATH, HOME and LANG.
    ///
    /// # Errors
    /// It is not installed or cannot be started.
    pub fn start_detached(&self, log: &Path) -> Result<Detached> {
        self.start_detached_with(log, &[])
    }

    /// As [`Self::start_detached`], with these sockets as its descriptors from the third on, and no others.
    ///
    /// # Errors
    /// As said.
    pub fn start_detached_with(&self, log: &Path, sockets: &[BorrowedFd<'_>]) -> Result<Detached> {
        let program = find(&self.program)?;
        tracing::info!("starting {self}");
        let mut environment = daemons_environment();
        environment.extend(self.env.iter().cloned());
        // setsid(1) becomes the program, so the pid stays the same.
        let args = std::iter::once(program.into_os_string()).chain(self.args.iter().cloned());
        let log_file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("failed to open the log {}", log.display()))?;
        let mut expression = duct::cmd(find("setsid".as_ref())?, args)
            .full_env(environment)
            .stdin_null()
            .stderr_to_stdout()
            .stdout_file(log_file)
            .unchecked();
        if let Some(dir) = &self.cwd {
            expression = expression.dir(dir);
        }
        let held = sockets.iter().map(BorrowedFd::try_clone_to_owned).collect::<io::Result<Vec<_>>>();
        let held = held.context("failed to pass a socket on")?;
        let expression = expression.before_spawn(move |command| {
            let numbered = (FIRST..).zip(&held);
            let mappings =
                numbered.map(|(child_fd, socket)| Ok(FdMapping { parent_fd: socket.try_clone()?, child_fd }));
            command.fd_mappings(mappings.collect::<io::Result<_>>()?).map(drop).map_err(io::Error::other)
        });
        let handle = expression.start().with_context(|| format!("failed to start {}", self.name()))?;
        Ok(Detached { handle, name: self.name() })
    }
}

/// A program that outlives us.
#[derive(Debug)]
pub struct Detached {
    handle: Handle,
    name: String,
}

impl Detached {
    /// Its process id.
    ///
    /// # Errors
    /// Never: it was started.
    pub fn pid(&self) -> Result<i32> {
        let pid = self.handle.pids().first().copied().with_context(|| format!("{} has no process", self.name))?;
        i32::try_from(pid).context("a process id is out of range")
    }

    /// Waits until it ends, for so long at most.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn wait(&self, most: Duration) -> Result<()> {
        self.handle.wait_timeout(most).map(drop).with_context(|| format!("failed to look after {}", self.name))
    }

    /// Fails if it has ended; `log` is where its last words are.
    ///
    /// # Errors
    /// It has ended.
    pub fn check_alive(&self, log: &Path) -> Result<()> {
        let ended = self.handle.try_wait().with_context(|| format!("failed to look after {}", self.name))?;
        let Some(output) = ended else { return Ok(()) };
        let said = last_lines(log, STDERR_LINES);
        let status = output.status;
        Err(Failure::new(format!("{} ended ({status}):\n{said}", self.name))
            .hint(format!("the whole log is in {}", log.display()))
            .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detached_program_keeps_its_pid_and_little_of_our_environment() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let detached = Invocation::new("sh")
            .args(["-c", "echo pid $$; env; exit 7"])
            .env("KEPT", "1")
            .start_detached(&log)
            .unwrap();
        let pid = detached.pid().unwrap();
        let error = loop {
            if let Err(error) = detached.check_alive(&log) {
                break error;
            }
        };
        assert!(error.to_string().contains("exit status: 7"), "{error}");
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(said.contains(&format!("pid {pid}\n")) && said.contains("KEPT=1"), "{said}");
        assert!(!said.contains("CARGO"), "{said}");
    }
}
