//! What a running program says, read while it runs, with a bound on what is kept of it.

use std::io::{self, Read};
use std::process::{ExitStatus, Output};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use duct::Expression;

/// Of stderr the end is kept, which says why.
const STDERR: usize = 256 << 10;

/// Stdout of more bytes than these, which were allowed.
pub(super) struct TooMuch(pub usize);

/// Closed once a program has said all.
pub(super) type Surplus = Receiver<TooMuch>;

/// The two streams of a program.
pub(super) struct CapturedOutput {
    stdout: Stream,
    stderr: Stream,
    /// Whether there is too much of it.
    pub(super) surplus: Surplus,
}

type Stream = JoinHandle<io::Result<Vec<u8>>>;

impl CapturedOutput {
    /// What an expression will say, of whose stdout `most` bytes are allowed.
    pub(super) fn by(expression: &Expression, most: usize) -> io::Result<(Expression, Self)> {
        let (out, to_out) = io::pipe()?;
        let (tell, surplus) = channel();
        let goes_on = tell.clone();
        let stdout = thread::spawn(move || {
            let text = start_of(out, most.saturating_add(1))?;
            if text.len() > most {
                // Nobody listens once the program has been given up.
                drop(tell.send(TooMuch(most)));
            }
            Ok(text)
        });
        let (expression, stderr) = end_of_stderr(&expression.stdout_file(to_out), move || drop(goes_on))?;
        Ok((expression, Self { stdout, stderr, surplus }))
    }

    /// All of it.
    pub(super) fn output(self, status: ExitStatus) -> io::Result<Output> {
        Ok(Output { status, stdout: join(self.stdout)?, stderr: join(self.stderr)? })
    }
}

/// Waits a moment for a program to have said all; tells whether it has.
pub(super) fn all_said(surplus: &Surplus, moment: Duration) -> Result<bool, TooMuch> {
    match surplus.recv_timeout(moment) {
        Ok(too_much) => Err(too_much),
        Err(RecvTimeoutError::Timeout) => Ok(false),
        Err(RecvTimeoutError::Disconnected) => Ok(true),
    }
}

/// Reads an expression's stderr and keeps the end of it; `ended` is called at its end.
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

/// What a stream held.
pub(super) fn join(stream: Stream) -> io::Result<Vec<u8>> {
    stream.join().unwrap_or_else(|_| Err(io::Error::other("what read it broke off")))
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
    fn of_a_stream_the_start_or_the_end_is_kept() {
        let text: Vec<u8> = (0..=99).collect();
        for most in [1, 7, 50, 99, 100, 101] {
            let kept = most.min(text.len());
            assert_eq!(start_of(text.as_slice(), most).unwrap(), text[..kept]);
            assert_eq!(end_of(text.as_slice(), most).unwrap(), text[text.len() - kept..]);
        }
    }
}
