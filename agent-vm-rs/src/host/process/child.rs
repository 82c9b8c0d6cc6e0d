//! A process that ends with its owner.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::{Detached, Invocation, ProcessId};

/// A process that is ended when this is dropped.
pub struct Child {
    process: Detached,
    id: Option<ProcessId>,
}

impl Child {
    /// Starts a program with our own stdout and stderr. `name` is its name in messages.
    ///
    /// # Errors
    /// It is not installed or cannot be started.
    pub fn start(invocation: &Invocation, name: &str) -> Result<Self> {
        let process = invocation.start_beside_us()?.called(name);
        let id = ProcessId::of(process.pid()?);
        Ok(Self { process, id })
    }

    /// Writes its pid file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn remember(&self, file: &Path) -> Result<()> {
        self.id.as_ref().map_or(Ok(()), |id| id.write(file))
    }

    /// Checks that it still runs; the error shows the last lines of `log`.
    ///
    /// # Errors
    /// It has ended.
    pub fn check(&self, log: &Path) -> Result<()> {
        self.process.check_alive(log)
    }

    /// Waits until it ends, at most for `most`.
    ///
    /// # Errors
    /// The kernel reports an error.
    pub fn wait(&self, most: Duration) -> Result<()> {
        self.process.wait(most)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            id.end(Duration::from_secs(2));
        }
    }
}
