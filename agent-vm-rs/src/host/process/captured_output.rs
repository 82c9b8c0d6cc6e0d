//! The output of a running program, read while it runs and kept up to a limit.

use std::io::{self, Read};
use std::process::{ExitStatus, Output};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use duct::Expression;

/// Bytes of stderr that are kept: its end, which has the error message.
const STDERR: usize = 256 << 10;

/// Error: stdout exceeded its limit, in bytes.
pub(super) struct LimitExceeded(pub usize);

/// Receives an error if stdout exceeds its limit; disconnected once both streams have ended.
pub(super) type Surplus = Receiver<LimitExceeded>;

/// The output streams of a program.
pub(super) struct CapturedOutput {
    stdout: Stream,
    stderr: Stream,
    /// Reports whether stdout exceeded its limit.
    pub(super) surplus: Surplus,
}

type Stream = JoinHandle<io::Result<Vec<u8>>>;

impl CapturedOutput {
    /// Redirects an expression's output into pipes and reads them; stdout may have `most` bytes.
    pub(super) fn by(expression: &Expression, most: usize) -> io::Result<(Expression, Self)> {
        let (out, to_out) = io::pipe()?;
        let (exceeded, surplus) = channel();
        let stderr_open = exceeded.clone();
        let stdout = thread::spawn(move || {
            let text = start_of(out, most.saturating_add(1))?;
            if text.len() > most {
                // Sending fails if the program was killed: the receiver is dropped.
                drop(exceeded.send(LimitExceeded(most)));
            }
            Ok(text)
        });
        let (expression, stderr) = end_of_stderr(&expression.stdout_file(to_out), move || drop(stderr_open))?;
        Ok((expression, Self { stdout, stderr, surplus }))
    }

    /// Returns the whole output, with the program's exit status.
    pub(super) fn output(self, status: ExitStatus) -> io::Result<Output> {
        Ok(Output { status, stdout: join(self.stdout)?, stderr: join(self.stderr)? })
    }
}

/// Waits up to `moment` for both streams to end and returns whether they have.
pub(super) fn streams_ended(surplus: &Surplus, moment: Duration) -> Result<bool, LimitExceeded> {
    match surplus.recv_timeout(moment) {
        Ok(error) => Err(error),
        Err(RecvTimeoutError::Timeout) => Ok(false),
        Err(RecvTimeoutError::Disconnected) => Ok(true),
    }
}

/// Reads an expression's stderr and keeps its end; calls `ended` when the stream ends.
pub(super) fn end_of_stderr(
    expression: &Expression,
    ended: impl FnOnce() + Send + 'static,
) -> io::Result<(Expression, Stream)> {
    let (err, to_err) = io::pipe()?;
    let stderr = thread::spawn(move || {
        let text = end_of(err, STDERR);
        ended();
        text
    });
    Ok((expression.stderr_file(to_err), stderr))
}

/// Returns the bytes that were read from a stream.
pub(super) fn join(stream: Stream) -> io::Result<Vec<u8>> {
    stream.join().unwrap_or_else(|_| Err(io::Error::other("the thread that read the output panicked")))
}

fn start_of(stream: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    stream.take(most as u64).read_to_end(&mut text)?;
    Ok(text)
}

fn end_of(mut stream: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    while stream.by_ref().take(most as u64).read_to_end(&mut text)? > 0 {
        text.drain(..text.len().saturating_sub(most));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_start_or_end_of_a_stream_is_kept() {
        let text: Vec<u8> = (0..=99).collect();
        for most in [1, 7, 50, 99, 100, 101] {
            let kept = most.min(text.len());
            assert_eq!(start_of(text.as_slice(), most).unwrap(), text[..kept]);
            assert_eq!(end_of(text.as_slice(), most).unwrap(), text[text.len() - kept..]);
        }
    }
}
