//! Running a program on this process's terminal and streams.

use std::fs::File;
use std::io::{self, IsTerminal, PipeReader, Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt as _;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use duct::Expression;

use super::Invocation;
use super::terminate::terminate;
use crate::host::interrupt;

/// Interval between two checks for a signal and of `watch`.
const MOMENT: Duration = Duration::from_millis(100);

impl Invocation {
    /// Runs it on this process's terminal and standard input; returns its exit code (128 + signal if one ended it). A
    /// stdout or stderr that is not a terminal is connected through a pipe, because the program may leave it to a
    /// process that never closes it. `watch` is called at intervals while it runs.
    ///
    /// # Errors
    /// It is not installed or cannot be started; or a signal arrived or `watch` failed, and it was terminated.
    pub fn run_attached(&self, mut watch: impl FnMut() -> Result<()>) -> Result<i32> {
        let failed = || format!("failed to listen to {}", self.name());
        let (expression, stdout) =
            passed_on(self.expression()?, &io::stdout(), Expression::stdout_file).with_context(failed)?;
        let (expression, stderr) = if self.discards_stderr {
            let quiet = expression.stderr_null();
            // It holds the write end of a pipe, too.
            drop(expression);
            (quiet, None)
        } else {
            passed_on(expression, &io::stderr(), Expression::stderr_file).with_context(failed)?
        };
        let handle =
            self.limits.starting(|| expression.start()).with_context(|| format!("failed to start {}", self.name()))?;
        // The expression holds the write ends of the pipes.
        drop(expression);
        let copies: Vec<_> = [stdout, stderr].into_iter().flatten().collect();
        let code = loop {
            let ended = handle.wait_timeout(MOMENT).with_context(|| format!("failed to wait for {}", self.name()))?;
            if let Some(output) = ended {
                let status = output.status;
                break status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
            }
            if let Err(error) = interrupt::check().and_then(|()| watch()) {
                terminate(&handle);
                return Err(error);
            }
        };
        // The reader of this process's output may be slow.
        while copies.iter().any(|copy| !copy.is_finished()) {
            interrupt::check()?;
            thread::sleep(Duration::from_millis(2));
        }
        // Ctrl-C in a terminal signals this process, too.
        interrupt::check()?;
        Ok(code)
    }
}

/// Connects an output of an expression to a stream of this process: through a pipe, unless the stream is a terminal.
/// Also returns the thread that copies the output.
fn passed_on(
    expression: Expression,
    ours: &(impl IsTerminal + AsFd),
    into: fn(&Expression, io::PipeWriter) -> Expression,
) -> io::Result<(Expression, Option<JoinHandle<()>>)> {
    if ours.is_terminal() {
        return Ok((expression, None));
    }
    let (reader, writer) = io::pipe()?;
    let ours = File::from(ours.as_fd().try_clone_to_owned()?);
    Ok((into(&expression, writer), Some(thread::spawn(move || pass_on(reader, ours)))))
}

/// Copies until either end is closed. Then it closes both, which ends a program that still writes.
///
/// Not with `io::copy`, which splices: when a splice ends, the kernel sets the file's offset to the one at its beginning
/// plus what it wrote. In a file that is both stdout and stderr, later output would overwrite earlier output.
fn pass_on(mut reader: PipeReader, mut ours: File) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) if ours.write_all(&buffer[..length]).is_ok() => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}
