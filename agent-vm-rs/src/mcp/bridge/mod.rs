//! Bridges MCP over stdio to a machine's endpoint, so that a client needs only a command and no secret.
//!
//! Messages from the machine may be hostile. Each is parsed, checked against limits and rewritten, so that the client
//! gets exactly one line of JSON for it.

mod json;
mod message;
mod output;
mod session;
mod sse;

use std::io::{self, BufRead, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};

use self::message::{INVALID_REQUEST, Kind, Message, NO_ID, PARSE_ERROR, Problem, longest, too_long};
pub use self::output::Output;
pub use self::session::Session;
use crate::host::interrupt::Deadline;

/// Carries messages until the client closes its input. Open requests then have `timeout` to finish.
///
/// # Errors
/// The client's input cannot be read. A problem with one message is reported in the answer to it.
pub fn run(session: Session, input: impl BufRead, timeout: Duration) -> Result<()> {
    let session = Arc::new(session);
    let open = Arc::new(AtomicUsize::new(0));
    let mut input = input;
    while let Some(line) = next_line(&mut input).context("failed to read from the client")? {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match message_of(&line) {
            Ok(message) => carry(&session, message, &open),
            Err(problem) => session.output().error(NO_ID, problem.code, &problem.text),
        }
        if session.output().closed() {
            break;
        }
    }
    let deadline = Deadline::after(timeout);
    while open.load(Ordering::Acquire) > 0 && !deadline.passed() {
        std::thread::sleep(Duration::from_millis(5));
    }
    session.close();
    Ok(())
}

/// Sends one message. The first message opens the session and notifications must keep their order, so these block the
/// next message; requests run in parallel.
fn carry(session: &Arc<Session>, message: Message, open: &Arc<AtomicUsize>) {
    if matches!(message.kind(), Kind::Request) && message.method() != Some("initialize") {
        let (session, open) = (Arc::clone(session), Arc::clone(open));
        open.fetch_add(1, Ordering::AcqRel);
        std::thread::spawn(move || {
            session.exchange(&message);
            open.fetch_sub(1, Ordering::AcqRel);
        });
        return;
    }
    let begins = message.method() == Some("notifications/initialized");
    if session.exchange(&message) && begins {
        let session = Arc::clone(session);
        std::thread::spawn(move || session.listen());
    }
}

fn message_of(line: &[u8]) -> Result<Message, Problem> {
    if line.len() > longest() {
        return Err(Problem { code: INVALID_REQUEST, text: too_long() });
    }
    let message = Message::parse(line).map_err(|problem| match problem.code {
        // The client sent the message and needs to know why it was refused.
        PARSE_ERROR => Problem { text: format!("not sent: {}", problem.text), ..problem },
        _ => problem,
    })?;
    Ok(message)
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
