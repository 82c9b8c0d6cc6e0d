//! One message to the machine over streamable HTTP, and the messages that answer it.

use std::io::{BufReader, Read};

use anyhow::{Context as _, Error, Result};
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Body, RequestBuilder};

use super::message::{Kind, Message, longest, too_long};
use super::session::SESSION;
use super::sse::Events;
use crate::mcp::endpoint::{Endpoint, connection_error, was_not_connected};
use crate::term::error::Failure;
use crate::term::progress::note;
use crate::term::text::one_line;

/// Largest part of a refusal's body that is read, in bytes; it may contain the reason.
const LONGEST_REFUSAL: u64 = 64 << 10;

/// Why a message has no answer.
pub(super) enum Lost {
    /// It was not sent, because the machine could not be reached.
    Unsent(Error),
    /// The machine does not know the session.
    NoSession,
    /// The machine may have received it.
    Failed(Error),
}

/// The headers of an exchange.
pub(super) type Headers = [(&'static str, String)];

/// Adds headers to a request.
pub(super) fn with_headers<T>(request: RequestBuilder<T>, headers: &Headers) -> RequestBuilder<T> {
    headers.iter().fold(request, |request, (name, value)| request.header(*name, value))
}

/// Sends a message, and passes each valid message of the response to `each`. Returns the response's headers.
///
/// # Errors
/// A request has no answer.
pub(super) fn exchange(
    endpoint: &Endpoint,
    path: &str,
    message: &Message,
    headers: &Headers,
    each: &mut dyn FnMut(&HeaderMap, &Message),
) -> Result<(), Lost> {
    let request = endpoint.post(path).header("Content-Type", "application/json");
    let request = with_headers(request, headers).header("Accept", "application/json, text/event-stream");
    let answer = request.send(message.line()).map_err(|error| {
        let unsent = was_not_connected(&error);
        let error = connection_error(error).context("the machine does not answer");
        if unsent { Lost::Unsent(error) } else { Lost::Failed(error) }
    })?;
    if !answer.status().is_success() {
        return refused(answer, message, headers, each);
    }
    if message.kind() != Kind::Request {
        return Ok(());
    }
    let (parts, body) = answer.into_parts();
    let mut answered = false;
    let mut each = |text: &[u8]| {
        // The client gets only valid MCP messages.
        match Message::parse(text) {
            Ok(received) => {
                answered |= received.answers(message);
                each(&parts.headers, &received);
            }
            Err(_) => note("warning: ignored an invalid message from the machine"),
        }
    };
    read(&content_type(&parts.headers), body, &mut each).map_err(Lost::Failed)?;
    if answered { Ok(()) } else { Err(Lost::Failed(Failure::new("the machine did not answer this request").into())) }
}

fn read(kind: &str, body: Body, each: &mut dyn FnMut(&[u8])) -> Result<()> {
    const CUT: &str = "the machine's answer was cut off";
    let mut body = body.into_reader();
    match kind {
        "text/event-stream" => {
            let mut events = Events::new(BufReader::new(body), longest());
            while let Some(data) = events.next_data().map_err(connection_error).context(CUT)? {
                each(&data);
            }
        }
        "application/json" => {
            let mut text = Vec::new();
            body.by_ref().take(longest() as u64 + 1).read_to_end(&mut text).map_err(connection_error).context(CUT)?;
            if text.len() > longest() {
                let limit = longest() >> 20;
                return Err(Failure::new(format!("the machine's answer is larger than {limit} MiB")).into());
            }
            each(&text);
        }
        _ => {}
    }
    Ok(())
}

/// Returns the type of a response's body, without parameters.
pub(super) fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Passes on a refusal that answers the message, and describes any other.
fn refused(
    answer: Response<Body>,
    message: &Message,
    headers: &Headers,
    each: &mut dyn FnMut(&HeaderMap, &Message),
) -> Result<(), Lost> {
    let (parts, body) = answer.into_parts();
    let no_session = parts.status == StatusCode::NOT_FOUND && headers.iter().any(|(name, _)| *name == SESSION);
    let mut text = Vec::new();
    drop(body.into_reader().take(LONGEST_REFUSAL).read_to_end(&mut text));
    if no_session {
        return Err(Lost::NoSession);
    }
    if let Some(error) = Message::parse(&text).ok().filter(|error| error.answers(message)) {
        each(&parts.headers, &error);
        return Ok(());
    }
    let why = match parts.status {
        StatusCode::UNAUTHORIZED => "the machine refuses its own token (to renew it: agent-vm restart)".to_owned(),
        StatusCode::NOT_FOUND => "the machine has no MCP server at this path".to_owned(),
        StatusCode::PAYLOAD_TOO_LARGE => too_long(),
        StatusCode::BAD_GATEWAY => "the machine's MCP servers are not running (to see why: agent-vm status)".to_owned(),
        _ => {
            let body = serde_json::from_slice::<serde_json::Value>(&text).ok();
            let text = body.as_ref().and_then(|body| body.pointer("/error/message")?.as_str()).map(one_line);
            let text: String = text.unwrap_or_default().chars().take(300).collect();
            if text.is_empty() { "the machine refused the message".to_owned() } else { text }
        }
    };
    let error = Failure::new(format!("{why} (HTTP {})", parts.status.as_u16())).into();
    // The reverse proxy is up before the gateway. A message that begins a session may arrive twice.
    let is_early = parts.status == StatusCode::BAD_GATEWAY && message.method() == Some("initialize");
    Err(if is_early { Lost::Unsent(error) } else { Lost::Failed(error) })
}
