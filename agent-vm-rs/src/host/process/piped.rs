//! Running a program whose input is written, or whose output is read, while it runs.

use std::io::{self, PipeReader, PipeWriter};
use std::os::unix::process::CommandExt as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use duct::Expression;

use super::Invocation;
use super::captured_output::{end_of_stderr, join};
use super::terminate::terminate_group;
use crate::host::interrupt;

/// Interval between two checks for a signal.
const MOMENT: Duration = Duration::from_millis(10);
/// Time for a program to exit after its stream has ended.
const EXIT: Duration = Duration::from_secs(5);

impl Invocation {
    /// Runs it, and has `read` read its stdout.
    ///
    /// # Errors
    /// It cannot be started or fails, `read` fails, or a signal arrived and it was ended.
    pub fn with_output<T: Send>(&self, read: impl FnOnce(PipeReader) -> Result<T> + Send) -> Result<T> {
        let (reader, writer) = io::pipe().context("failed to make a pipe")?;
        let expression = self.expression()?.stdin_null().stdout_file(writer);
        self.piped(expression, move || read(reader))
    }

    /// Runs it, and has `write` write its stdin.
    ///
    /// # Errors
    /// It cannot be started or fails, `write` fails, or a signal arrived and it was ended.
    pub fn with_input(&self, write: impl FnOnce(PipeWriter) -> Result<()> + Send) -> Result<()> {
        let (reader, writer) = io::pipe().context("failed to make a pipe")?;
        // A statement of its own: the expressions in between hold the reader, too.
        let expression = self.expression()?.stdout_null().stdin_file(reader);
        self.piped(expression, move || write(writer))
    }

    fn piped<T: Send>(&self, expression: Expression, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        interrupt::check()?;
        let failed = || format!("failed to run {}", self.name());
        // Ctrl-C in a terminal then signals only this process, which ends the child's whole process group.
        let grouped = expression.before_spawn(|command| {
            command.process_group(0);
            Ok(())
        });
        let (whole, stderr) = end_of_stderr(&grouped, || {}).with_context(failed)?;
        let handle = self.limits.starting(|| whole.start()).with_context(failed)?;
        // They hold ends of the pipes: the streams could not end.
        drop((expression, grouped, whole));
        let (worked, interrupted) = thread::scope(|scope| {
            let worker = scope.spawn(work);
            let mut interrupted = Ok(());
            while !worker.is_finished() {
                interrupted = interrupt::check();
                if interrupted.is_err() {
                    terminate_group(&handle);
                    break;
                }
                thread::sleep(MOMENT);
            }
            (worker.join().unwrap_or_else(|_| Err(anyhow!("a copy failed unexpectedly"))), interrupted)
        });
        interrupted?;
        let ended = handle.wait_timeout(EXIT).with_context(failed)?.map(|output| output.status);
        let Some(status) = ended else {
            terminate_group(&handle);
            return worked.and_then(|_| Err(anyhow!("{} did not end with its stream", self.name())));
        };
        let stderr = join(stderr).with_context(failed)?;
        match worked {
            // The program's own message explains a stream that ended too soon.
            Err(error) if status.success() || !is_broken_stream(&error) => Err(error),
            Ok(value) if status.success() => Ok(value),
            _ => Err(self.failed(status, &stderr).into()),
        }
    }
}

/// Returns whether an error is about a stream that the other side closed.
fn is_broken_stream(error: &anyhow::Error) -> bool {
    let broken = [io::ErrorKind::UnexpectedEof, io::ErrorKind::BrokenPipe];
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|cause| broken.contains(&cause.kind())))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn streams_are_passed_and_failures_reported() {
        let sh = |words: &str| Invocation::new("sh").args(["-c", words]);
        let text = |mut stream: PipeReader| {
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        assert_eq!(sh("echo out").with_output(text).unwrap(), "out\n");
        let error = sh("echo out; echo why >&2; exit 3").with_output(text).unwrap_err().to_string();
        assert!(error.contains("why"), "{error}");
        sh("test \"$(cat)\" = in").with_input(|mut stream| Ok(stream.write_all(b"in")?)).unwrap();
        let endless = |mut stream: PipeWriter| loop {
            stream.write_all(&[0; 4096])?;
        };
        let error = sh("echo full >&2; exit 1").with_input(endless).unwrap_err().to_string();
        assert!(error.contains("full"), "{error}");
        let refused = sh("cat /dev/zero").with_output::<()>(|_| Err(anyhow!("too much"))).unwrap_err().to_string();
        assert_eq!(refused, "too much");
    }
}
