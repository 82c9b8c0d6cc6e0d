//! Programs that outlive us.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use duct::Handle;

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
        let program = find(&self.program)?;
        tracing::info!("starting {self}");
        let inherited =
            ["PATH", "HOME", "LANG"].into_iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
        let env = inherited.chain(self.env.iter().cloned());
        // setsid(1) becomes the program, so the pid stays the same.
        let args = std::iter::once(program.into_os_string()).chain(self.args.iter().cloned());
        let log_file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("failed to open the log {}", log.display()))?;
        let mut expression = duct::cmd(find("setsid".as_ref())?, args)
            .full_env(env)
            .stdin_null()
            .stderr_to_stdout()
            .stdout_file(log_file)
            .unchecked();
        if let Some(dir) = &self.cwd {
            expression = expression.dir(dir);
        }
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
