//! Becoming another program.

use std::convert::Infallible;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::inherited::whole_environment;
use super::{Invocation, find};

impl Invocation {
    /// Replaces this process by the program, which gets our whole environment, standard streams and terminal. Signals and the
    /// exit code are then its own.
    ///
    /// # Errors
    /// It is not installed or cannot be executed.
    pub fn exec(&self) -> Result<Infallible> {
        let program = find(&self.program)?;
        tracing::info!("becoming {self}");
        let mut environment = whole_environment(&self.env);
        environment.extend(self.env.iter().cloned());
        let mut command = Command::new(program);
        command.args(&self.args).env_clear().envs(environment);
        if let Some(dir) = &self.cwd {
            command.current_dir(dir);
        }
        Err(command.exec()).with_context(|| format!("failed to execute {}", self.name()))
    }
}
