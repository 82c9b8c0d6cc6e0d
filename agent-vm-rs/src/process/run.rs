//! Running an [`Invocation`] to its end.

use std::os::unix::process::CommandExt as _;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use duct::{Expression, Handle};

use super::{Invocation, find};
use crate::error::Failure;
use crate::interrupt::{self, Deadline};
use crate::text::last_lines;

/// Variables by which a git hook (which may have called us) points git at its own repository.
const GIT_VARIABLES: [&str; 8] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
];

static DEBUG: AtomicBool = AtomicBool::new(false);

/// Has programs that take no flag for it (git) say what they do, for `--debug`.
pub fn set_debug() {
    DEBUG.store(true, Ordering::Relaxed);
}

/// Lines of a failed program's stderr that its error shows.
pub(super) const STDERR_LINES: usize = 8;

impl Invocation {
    fn expression(&self) -> Result<Expression> {
        let program = find(&self.program)?;
        tracing::info!("running {self}");
        let mut expression = duct::cmd(program, &self.args).unchecked();
        for (name, value) in &self.env {
            expression = expression.env(name, value);
        }
        if DEBUG.load(Ordering::Relaxed) {
            expression = expression.env("GIT_TRACE", "1");
        }
        // In duct what was said first wins: a variable set above stays set.
        for name in GIT_VARIABLES {
            expression = expression.env_remove(name);
        }
        if let Some(dir) = &self.cwd {
            expression = expression.dir(dir);
        }
        Ok(expression)
    }

    /// Runs it to its end; gives its output whatever its status.
    ///
    /// # Errors
    /// It is not installed or cannot be started, or a signal came: then it and its children are killed.
    pub fn output(&self) -> Result<Output> {
        let expression = self.expression()?.stdin_bytes(self.stdin.clone()).stdout_capture().stderr_capture();
        self.wait_in_own_group(&expression)
    }

    /// As [`Self::output`], but a failing status is an error with the last lines of stderr.
    ///
    /// # Errors
    /// As said.
    pub fn checked(&self) -> Result<Output> {
        let output = self.output()?;
        if output.status.success() {
            return Ok(output);
        }
        Err(self.failed(&output).into())
    }

    /// Standard output of a successful run, as text without the last line feed.
    ///
    /// # Errors
    /// As [`Self::checked`]; output that is no UTF-8.
    pub fn read(&self) -> Result<String> {
        let output = self.checked()?;
        let text = String::from_utf8(output.stdout).with_context(|| format!("{} wrote no UTF-8", self.name()))?;
        Ok(text.trim_end_matches('\n').to_owned())
    }

    /// Runs it with its stderr (and stdout) on ours: for programs that report progress.
    ///
    /// # Errors
    /// As [`Self::checked`].
    pub fn run_talking(&self) -> Result<()> {
        let expression = self.expression()?.stdin_null().stdout_to_stderr();
        let output = self.wait_in_own_group(&expression)?;
        if output.status.success() { Ok(()) } else { Err(self.failed(&output).into()) }
    }

    /// Hands it our terminal, streams and signals; gives its exit code (128 + signal if one ended it).
    ///
    /// # Errors
    /// It is not installed or cannot be started.
    pub fn run_interactive(&self) -> Result<i32> {
        use std::os::unix::process::ExitStatusExt as _;
        let output = self.expression()?.run().with_context(|| format!("failed to start {}", self.name()))?;
        let status = output.status;
        Ok(status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1))
    }

    /// Runs it and hands over each line of its stdout as it comes; gives its exit code.
    ///
    /// # Errors
    /// It cannot be started, or `each` fails: then it is killed.
    pub fn each_line(&self, mut each: impl FnMut(&str) -> Result<()>) -> Result<i32> {
        use std::io::BufRead as _;
        let failed = || format!("failed to read from {}", self.name());
        let reader = self.expression()?.stdin_null().reader().with_context(failed)?;
        let mut lines = std::io::BufReader::new(&reader);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).with_context(failed)? > 0 {
            if let Err(error) = each(String::from_utf8_lossy(&line).trim_end_matches('\n')) {
                reader.kill().with_context(failed)?;
                return Err(error);
            }
            line.clear();
        }
        let output = reader.try_wait().with_context(failed)?;
        Ok(output.and_then(|output| output.status.code()).unwrap_or(1))
    }

    fn wait_in_own_group(&self, expression: &Expression) -> Result<Output> {
        interrupt::check()?;
        // A terminal's Ctrl-C then reaches us alone, and we pass it on to everything it started.
        let grouped = expression.before_spawn(|command| {
            command.process_group(0);
            Ok(())
        });
        let handle = grouped.start().with_context(|| format!("failed to start {}", self.name()))?;
        let deadline = self.time_limit.map(Deadline::after);
        loop {
            let ended = handle
                .wait_timeout(Duration::from_millis(100))
                .with_context(|| format!("failed to wait for {}", self.name()))?;
            if let Some(output) = ended {
                log_stderr(&self.name(), output);
                return Ok(output.clone());
            }
            if let Err(interrupted) = interrupt::check() {
                end_group(&handle);
                return Err(interrupted);
            }
            if deadline.is_some_and(Deadline::passed) {
                end_group(&handle);
                return Err(Failure::timeout(format!("{} took too long", self.name())).into());
            }
        }
    }

    fn failed(&self, output: &Output) -> Failure {
        let stderr = last_lines(&String::from_utf8_lossy(&output.stderr), STDERR_LINES);
        let status = output.status;
        let tail = if stderr.is_empty() { String::new() } else { format!(":\n{stderr}") };
        Failure::new(format!("{} failed ({status}){tail}", self.name()))
            .hint("add --debug to see every program as it is run")
    }
}

/// With `--debug` what a program said is shown even if it succeeded.
fn log_stderr(name: &str, output: &Output) {
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        tracing::debug!("{name}: {}", crate::text::one_line(line));
    }
}

/// SIGTERM to a process group, SIGKILL to what is left of it after two seconds.
fn end_group(handle: &Handle) {
    use rustix::process::{Pid, Signal, kill_process_group};
    let group = handle.pids().first().and_then(|pid| Pid::from_raw(i32::try_from(*pid).ok()?));
    for (signal, patience) in [(Signal::TERM, 2_000), (Signal::KILL, 2_000)] {
        if let Some(group) = group {
            // An error means that nothing is left to signal.
            let _ = kill_process_group(group, signal);
        }
        if matches!(handle.wait_timeout(Duration::from_millis(patience)), Ok(Some(_)) | Err(_))
            && signal == Signal::KILL
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_shows_its_last_words() {
        let error = Invocation::new("sh").args(["-c", "echo first; echo last >&2; exit 3"]).checked().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.contains("last") && !text.contains("first"), "{text}");
    }

    #[test]
    fn arguments_are_never_split_or_expanded() {
        let odd = "a b\n$(id) 'q' \"d\" ;|&";
        assert_eq!(Invocation::new("printf").args(["%s", odd]).read().unwrap(), odd);
        let shown = Invocation::new("echo").arg("it's $HOME").to_string();
        assert_eq!(shlex::split(&shown).unwrap(), ["echo", "it's $HOME"]);
    }

    #[test]
    fn stdin_env_and_cwd_arrive() {
        let invocation = Invocation::new("sh").args(["-c", "cat; echo $X; pwd"]).stdin("in ").env("X", "y").cwd("/");
        assert_eq!(invocation.read().unwrap(), "in y\n/");
    }
}
