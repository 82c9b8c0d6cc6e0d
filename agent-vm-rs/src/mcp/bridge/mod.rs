//! Bridges MCP over stdio to a machine's endpoint, so that a client needs only a command and no secret.
//!
//! Messages from the machine may be hostile. Each is parsed, checked against limits and rewritten, so that the client
//! gets exactly one line of JSON for it.

mod carrier;
mod exchange;
mod headers;
mod input;
mod json;
mod link;
mod listen;
mod message;
mod open;
mod output;
mod session;
mod sse;

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;

use anyhow::{Context as _, Result};

use self::carrier::{CHECK, Carrier};
use self::input::Input;
pub use self::link::{Find, Link};
use self::message::{INVALID_REQUEST, Message, NO_ID, PARSE_ERROR, Problem, longest, too_long};
pub use self::output::Output;
use crate::host::interrupt;

/// Carries messages until the client closes its input or ends. Open requests then have a second to finish; the others are
/// cancelled.
///
/// # Errors
/// The client's input cannot be read, or a signal arrives. A problem with one message is reported in the answer to it.
pub fn run(link: Link, output: Output, input: impl std::io::Read + Send + 'static) -> Result<()> {
    let carrier = Arc::new(Carrier::new(link, output));
    let lines = input::read(input);
    let ended = loop {
        if let Err(interrupted) = interrupt::check() {
            break Err(interrupted);
        }
        if carrier.output().closed() {
            break Ok(());
        }
        match lines.recv_timeout(CHECK) {
            Ok(Input::Line(line)) if line.iter().all(u8::is_ascii_whitespace) => {}
            Ok(Input::Line(line)) => match message_of(&line) {
                Ok(message) => carrier.carry(message),
                Err(problem) => carrier.output().error(NO_ID, problem.code, &problem.text),
            },
            Ok(Input::Failed(error)) => break Err(error).context("failed to read from the client"),
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Input::End) | Err(RecvTimeoutError::Disconnected) => {
                carrier.finish();
                break Ok(());
            }
        }
    };
    carrier.end();
    ended
}

fn message_of(line: &[u8]) -> Result<Message, Problem> {
    if line.len() > longest() {
        return Err(Problem { code: INVALID_REQUEST, text: too_long() });
    }
    Message::parse(line).map_err(|problem| match problem.code {
        // The client sent the message and needs to know why it was refused.
        PARSE_ERROR => Problem { text: format!("not sent: {}", problem.text), ..problem },
        _ => problem,
    })
}
