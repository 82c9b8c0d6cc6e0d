//! Reads the client's messages, one per line.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, sync_channel};

use super::message::longest;

/// What the client's input gives.
pub(super) enum Input {
    /// A line.
    Line(Vec<u8>),
    /// Its end.
    End,
    /// It cannot be read.
    Failed(io::Error),
}

/// Reads the input in a thread of its own, because a read ends only when the client sends something. At most one line waits.
pub(super) fn read(input: impl Read + Send + 'static) -> Receiver<Input> {
    let (sender, receiver) = sync_channel(0);
    std::thread::spawn(move || {
        let mut input = BufReader::new(input);
        loop {
            let next = match next_line(&mut input) {
                Ok(Some(line)) => Input::Line(line),
                Ok(None) => Input::End,
                Err(error) => Input::Failed(error),
            };
            let more = matches!(next, Input::Line(_));
            // Nobody receives once the bridge ends.
            if sender.send(next).is_err() || !more {
                return;
            }
        }
    });
    receiver
}

/// Returns the next line. A line that is too long is cut off, and the rest of it is skipped.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let limit = longest() as u64 + 2;
    let mut line = Vec::new();
    let read = input.by_ref().take(limit).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if !line.ends_with(b"\n") && line.len() > longest() {
        loop {
            let mut rest = Vec::new();
            let more = input.by_ref().take(1 << 20).read_until(b'\n', &mut rest)?;
            if more == 0 || rest.ends_with(b"\n") {
                break;
            }
        }
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_too_long_are_skipped_whole() {
        let mut text = vec![b'x'; longest() + 10];
        text.extend_from_slice(b"\nshort\nlast");
        let mut input = io::BufReader::new(text.as_slice());
        assert!(next_line(&mut input).unwrap().unwrap().len() > longest());
        assert_eq!(next_line(&mut input).unwrap().unwrap(), b"short\n");
        assert_eq!(next_line(&mut input).unwrap().unwrap(), b"last");
        assert_eq!(next_line(&mut input).unwrap(), None);
    }
}
