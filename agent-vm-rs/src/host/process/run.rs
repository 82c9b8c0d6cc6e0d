//! Running an [`Invocation`] until it ends.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{ExitStatus, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context as _, Result};
use duct::{Expression, Handle};

use super::captured_output::{CapturedOutput, LimitExceeded, Surplus, end_of_stderr, join, streams_ended};
use super::inherited::{small_environment, whole_environment};
use super::terminate::Group;
use super::{Invocation, find};
use crate::host::interrupt::{self, Deadline};
use crate::term::error::Failure;
use crate::term::progress::{note, without_spinners};
use crate::term::text::{bytes, last_lines};

static DEBUG: AtomicBool = AtomicBool::new(false);

/// Enables the trace output of git, for `--debug`: git has a variable for it and no flag.
pub fn set_debug() {
    DEBUG.store(true, Ordering::Relaxed);
}

/// Number of lines of a failed program's stderr that the error shows.
pub(super) const STDERR_LINES: usize = 8;

const HINT: &str = "run it again with --debug to log every program it runs";

/// Default limit of stdout, in bytes: more than any program on the host writes.
const STDOUT: usize = 64 << 20;
/// Longest line, in bytes; a longer one is passed on in parts.
const LINE: u64 = 64 << 10;
/// Interval at which a wait checks for signals and deadlines.
const MOMENT: Duration = Duration::from_millis(100);

impl Invocation {
    pub(super) fn expression(&self) -> Result<Expression> {
        let program = find(&self.program)?;
        tracing::info!("running {self}");
        let mut environment = if self.whole_environment { whole_environment(&self.env) } else { small_environment() };
        if DEBUG.load(Ordering::Relaxed) {
            environment.insert("GIT_TRACE".into(), "1".into());
        }
        environment.extend(self.env.iter().cloned());
        let mut words: Vec<OsString> = vec![program.into()];
        if self.limits.memory.is_some() {
            let before = ["--pdeathsig", "KILL", "--"].map(OsString::from);
            words.splice(0..0, std::iter::once(find("setpriv".as_ref())?.into()).chain(before));
        }
        words.extend(self.args.iter().cloned());
        let program = words.remove(0);
        let mut expression = duct::cmd(program, words).unchecked().full_env(environment);
        if let Some(dir) = &self.cwd {
            expression = expression.dir(dir);
        }
        Ok(expression)
    }

    /// Runs it and returns its output, whatever its exit status. Of stderr, only the end is kept.
    ///
    /// # Errors
    /// It is not installed or cannot be started; or a signal arrived or stdout exceeded its limit, and it and its children\n    /// were killed.
    pub fn output(&self) -> Result<Output> {
        self.output_within(STDOUT)
    }

    /// Runs it as [`Self::output`] does, with a limit of `most` bytes on stdout.
    ///
    /// # Errors
    /// See [`Self::output`].
    pub fn output_within(&self, most: usize) -> Result<Output> {
        self.captured(most, Group::Own)
    }

    /// Runs it as [`Self::output`] does, but so that it and its children can ask on this process's terminal, for example for
    /// the passphrase of a key. In a group of its own, the kernel would stop it when it reads from the terminal.
    ///
    /// # Errors
    /// See [`Self::output`]. Of its children, only those that the terminal signals are ended.
    pub fn output_with_terminal(&self) -> Result<Output> {
        self.captured(STDOUT, Group::Ours)
    }

    fn captured(&self, most: usize, group: Group) -> Result<Output> {
        let expression = self.expression()?.stdin_bytes(self.stdin.clone());
        let (expression, captured) = CapturedOutput::by(&expression, most)
            .with_context(|| format!("failed to open pipes for {}", self.name()))?;
        let status = self.wait(expression, &captured.surplus, group)?;
        if group == Group::Ours {
            // Ctrl-C in a terminal signals this process, too.
            interrupt::check()?;
        }
        let output = captured.output(status).with_context(|| format!("failed to read from {}", self.name()))?;
        log_stderr(&self.name(), &output.stderr);
        Ok(output)
    }

    /// Runs it as [`Self::output`] does, but a failing status is an error with the last lines of stderr.
    ///
    /// # Errors
    /// See [`Self::output`].
    pub fn checked(&self) -> Result<Output> {
        self.checked_within(STDOUT)
    }

    /// Runs it as [`Self::checked`] does, with a limit of `most` bytes on stdout.
    ///
    /// # Errors
    /// See [`Self::checked`].
    pub fn checked_within(&self, most: usize) -> Result<Output> {
        let output = self.output_within(most)?;
        if output.status.success() {
            return Ok(output);
        }
        Err(self.failed(output.status, &output.stderr).into())
    }

    /// Runs it as [`Self::checked`] does and returns stdout as text without trailing line feeds.
    ///
    /// # Errors
    /// Those of [`Self::checked`], or stdout is not valid UTF-8.
    pub fn read(&self) -> Result<String> {
        let output = self.checked()?;
        let text = String::from_utf8(output.stdout)
            .with_context(|| format!("the output of {} is not valid UTF-8", self.name()))?;
        Ok(text.trim_end_matches('\n').to_owned())
    }

    /// Runs it with its stdout and stderr on our stderr: for programs that report progress.
    ///
    /// # Errors
    /// See [`Self::checked`].
    pub fn run_with_progress(&self) -> Result<()> {
        let expression = self.expression()?.stdin_null().stdout_to_stderr();
        let (_, nothing) = channel();
        let status = without_spinners(|| self.wait(expression, &nothing, Group::Own))?;
        if status.success() { Ok(()) } else { Err(self.failed(status, &[]).into()) }
    }

    /// Runs it, calls `each` for each line of its stdout and returns its exit code. A line that is too long is passed in
    /// parts. The last lines of its stderr are printed at the end.
    ///
    /// # Errors
    /// It cannot be started, or `each` failed and it was killed.
    pub fn each_line(&self, mut each: impl FnMut(&str) -> Result<()>) -> Result<i32> {
        use std::io::{BufRead as _, Read as _};
        let failed = || format!("failed to read from {}", self.name());
        let expression = self.expression()?.stdin_bytes(self.stdin.clone());
        let (expression, stderr) = end_of_stderr(&expression, || {}).with_context(failed)?;
        let reader = self.limits.starting(|| expression.reader()).with_context(failed)?;
        drop(expression);
        let mut lines = std::io::BufReader::new(&reader);
        let mut line = Vec::new();
        while lines.by_ref().take(LINE).read_until(b'\n', &mut line).with_context(failed)? > 0 {
            if let Err(error) = each(String::from_utf8_lossy(&line).trim_end_matches('\n')) {
                reader.kill().with_context(failed)?;
                return Err(error);
            }
            line.clear();
        }
        let stderr = join(stderr).with_context(failed)?;
        log_stderr(&self.name(), &stderr);
        let last_words = last_lines(&String::from_utf8_lossy(&stderr), STDERR_LINES);
        if !last_words.is_empty() {
            note(&last_words);
        }
        let output = reader.try_wait().with_context(failed)?;
        Ok(output.and_then(|output| output.status.code()).unwrap_or(1))
    }

    fn wait(&self, expression: Expression, surplus: &Surplus, group: Group) -> Result<ExitStatus> {
        interrupt::check()?;
        let grouped = expression.before_spawn(move |command| {
            if group == Group::Own {
                command.process_group(0);
            }
            Ok(())
        });
        let handle =
            self.limits.starting(|| grouped.start()).with_context(|| format!("failed to start {}", self.name()))?;
        // They hold the write ends of the pipes: the streams could not end.
        drop((expression, grouped));
        let deadline = self.time_limit.map(Deadline::after);
        loop {
            match self.ended(&handle, surplus) {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => {}
                Err(error) => {
                    group.terminate(&handle);
                    return Err(error);
                }
            }
            if deadline.is_some_and(Deadline::passed) {
                group.terminate(&handle);
                return Err(Failure::timeout(format!("{} timed out", self.name())).into());
            }
        }
    }

    /// Waits a moment for its streams to end and for it to exit; None if it still runs.
    fn ended(&self, handle: &Handle, surplus: &Surplus) -> Result<Option<ExitStatus>> {
        interrupt::check()?;
        let ended = streams_ended(surplus, MOMENT).map_err(|LimitExceeded(most)| {
            Failure::new(format!("the output of {} exceeded {}", self.name(), bytes(most as u64))).general_hint(HINT)
        })?;
        if !ended {
            return Ok(None);
        }
        let ended = handle.wait_timeout(MOMENT).with_context(|| format!("failed to wait for {}", self.name()))?;
        Ok(ended.map(|output| output.status))
    }

    pub(super) fn failed(&self, status: ExitStatus, stderr: &[u8]) -> Failure {
        let stderr = last_lines(&String::from_utf8_lossy(stderr), STDERR_LINES);
        let tail = if stderr.is_empty() { String::new() } else { format!(":\n{stderr}") };
        let what = match status.signal() {
            Some(signal) => format!("was ended by signal {signal}"),
            None => format!("failed ({status})"),
        };
        Failure::new(format!("{} {what}{tail}", self.name())).general_hint(HINT)
    }
}

/// Logs a program's stderr for `--debug`, even if it succeeded.
fn log_stderr(name: &str, stderr: &[u8]) {
    for line in String::from_utf8_lossy(stderr).lines() {
        tracing::debug!("{name}: {}", crate::term::text::one_line(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::process::ProcessId;

    #[test]
    fn the_error_of_a_failed_program_shows_its_stderr() {
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
    fn a_program_whose_output_exceeds_the_limit_is_killed() {
        let says = |words: &str| Invocation::new("sh").args(["-c", words]).checked_within(1000);
        assert_eq!(says("head -c 1000 /dev/zero").unwrap().stdout.len(), 1000);
        // Without the kill, it and its child would keep running even with stdout closed.
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let lives = format!("trap '' PIPE; sleep 1000 & echo $! > '{}'; head -c 1001 /dev/zero; wait", pid.display());
        let error = says(&lives).unwrap_err().to_string();
        assert!(error.contains("the output of sh exceeded 1000"), "{error}");
        let started = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        let gone = ProcessId::of(started).is_none_or(|process| process.wait_gone(Duration::from_secs(5)));
        assert!(gone, "{started} is alive");
    }

    #[test]
    fn only_the_end_of_stderr_is_kept() {
        let says = "head -c 10000000 /dev/zero >&2; echo last >&2; exit 3";
        let output = Invocation::new("sh").args(["-c", says]).output().unwrap();
        assert!(output.stderr.len() < 1_000_000 && output.stderr.ends_with(b"last\n"));
    }

    #[test]
    fn a_long_line_is_passed_in_parts() {
        let mut lengths = Vec::new();
        let says = Invocation::new("sh").args(["-c", "head -c 100000 /dev/zero; echo; echo short; exit 3"]);
        let code = says.each_line(|line| {
            lengths.push(line.len());
            Ok(())
        });
        assert_eq!((code.unwrap(), lengths), (3, vec![65_536, 100_000 - 65_536, 5]));
    }

    #[test]
    fn stdin_env_and_cwd_are_passed() {
        let invocation = Invocation::new("sh").args(["-c", "cat; echo $X; pwd"]).stdin("in ").env("X", "y").cwd("/");
        assert_eq!(invocation.read().unwrap(), "in y\n/");
    }
}
