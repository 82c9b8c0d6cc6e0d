//! Running a program on our own streams.

use std::fs::File;
use std::io::{self, IsTerminal, PipeReader};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt as _;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use duct::Expression;

use super::Invocation;
use super::end::end;
use crate::host::interrupt;

/// Between two looks at what else may end a wait.
const MOMENT: Duration = Duration::from_millis(100);

impl Invocation {
    /// Hands it our terminal and standard input; gives its exit code (128 + signal if one ended it). An output of ours that is
    /// no terminal gets what it says from us: it may hand its streams on to a process that keeps them. `watch` is called now and
    /// then while it runs.
    ///
    /// # Errors
    /// It is not installed or cannot be started; or a signal came or `watch` fails: then it is ended.
    pub fn run_attached(&self, mut watch: impl FnMut() -> Result<()>) -> Result<i32> {
        let failed = || format!("failed to listen to {}", self.name());
        let (expression, stdout) =
            passed_on(self.expression()?, &io::stdout(), Expression::stdout_file).with_context(failed)?;
        let (expression, stderr) =
            passed_on(expression, &io::stderr(), Expression::stderr_file).with_context(failed)?;
        let handle = expression.start().with_context(|| format!("failed to start {}", self.name()))?;
        // It holds the other ends of what it speaks into.
        drop(expression);
        let copies: Vec<_> = [stdout, stderr].into_iter().flatten().collect();
        let code = loop {
            let ended = handle.wait_timeout(MOMENT).with_context(|| format!("failed to wait for {}", self.name()))?;
            if let Some(output) = ended {
                let status = output.status;
                break status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
            }
            if let Err(error) = interrupt::check().and_then(|()| watch()) {
                end(&handle);
                return Err(error);
            }
        };
        // Whoever reads from us may be slow.
        while copies.iter().any(|copy| !copy.is_finished()) {
            interrupt::check()?;
            thread::sleep(Duration::from_millis(2));
        }
        // A terminal's Ctrl-C reaches both of us.
        interrupt::check()?;
        Ok(code)
    }
}

/// Has a stream of ours get what an expression says into a pipe, unless it is a terminal.
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

/// Until either end is closed; then both are, which ends whoever writes.
fn pass_on(mut reader: PipeReader, mut ours: File) {
    drop(io::copy(&mut reader, &mut ours));
}
