//! A session with the machine's endpoint over streamable HTTP.

use std::io::{BufReader, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Body, RequestBuilder};

use super::message::{Kind, Message, NO_WAY, longest, too_long};
use super::output::Output;
use super::sse::Events;
use crate::mcp::endpoint::{Endpoint, connection_error};
use crate::term::error::Failure;
use crate::term::progress::note;
use crate::term::text::one_line;

const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";
/// Time limit for ending the session. The server also ends it by itself later.
const FAREWELL: Duration = Duration::from_secs(5);
/// Seconds between attempts to open the stream of the server's own messages.
const PAUSES: [u64; 5] = [1, 2, 5, 15, 30];
/// Largest part of a refusal's body that is read, in bytes; it may contain the reason.
const LONGEST_REFUSAL: u64 = 64 << 10;

/// A session, shared by the threads that carry its messages.
pub struct Session {
    endpoint: Endpoint,
    path: String,
    output: Output,
    headers: Mutex<Vec<(&'static str, String)>>,
    listening: AtomicBool,
}

impl Session {
    /// Returns a session that is not open yet.
    pub fn new(endpoint: Endpoint, path: String, output: Output) -> Self {
        Self { endpoint, path, output, headers: Mutex::default(), listening: AtomicBool::new(false) }
    }

    /// Returns the client's end.
    pub(super) fn output(&self) -> &Output {
        &self.output
    }

    /// Sends a message and passes the answers to the client. If a request fails, its answer is an error. Returns
    /// whether the message arrived.
    pub(super) fn exchange(&self, message: &Message) -> bool {
        let begins = message.method() == Some("initialize");
        if begins {
            self.set_headers(Vec::new());
        }
        let failed = match self.post(message, begins) {
            Ok(()) => return true,
            Err(error) => format!("{error:#}"),
        };
        if message.kind() == Kind::Request {
            self.output.error(message.id(), NO_WAY, &failed);
        } else {
            note(&format!("warning: a message did not reach the machine: {}", one_line(&failed)));
        }
        false
    }

    fn post(&self, message: &Message, begins: bool) -> Result<()> {
        let request = self.endpoint.post(&self.path).header("Content-Type", "application/json");
        let request = self.with_headers(request).header("Accept", "application/json, text/event-stream");
        let answer = request.send(message.line()).map_err(connection_error).context("the machine does not answer")?;
        let status = answer.status();
        if !status.is_success() {
            return Err(refusal(answer, self.in_session()).into());
        }
        if begins {
            self.remember(answer.headers());
        }
        if message.kind() != Kind::Request {
            return Ok(());
        }
        let kind = content_type(answer.headers());
        let mut body = answer.into_body().into_reader();
        let mut answered = false;
        let mut each = |text: &[u8]| {
            // The client gets only valid MCP messages.
            let Ok(received) = Message::parse(text) else {
                note("warning: ignored an invalid message from the machine");
                return;
            };
            if received.answers(message) {
                answered = true;
                if begins {
                    self.remember_version(&received);
                }
            }
            self.output.send(&received);
        };
        match kind.as_str() {
            "text/event-stream" => {
                let mut events = Events::new(BufReader::new(body), longest());
                while let Some(data) =
                    events.next_data().map_err(connection_error).context("the machine's answer was cut off")?
                {
                    each(&data);
                }
            }
            "application/json" => {
                let mut text = Vec::new();
                body.by_ref()
                    .take(longest() as u64 + 1)
                    .read_to_end(&mut text)
                    .map_err(connection_error)
                    .context("the machine's answer was cut off")?;
                if text.len() > longest() {
                    return Err(
                        Failure::new(format!("the machine's answer is larger than {} MiB", longest() >> 20)).into()
                    );
                }
                each(&text);
            }
            _ => {}
        }
        if answered { Ok(()) } else { Err(Failure::new("the machine did not answer this request").into()) }
    }

    /// Passes on the messages that the server sends by itself, if it does; returns when the session ends.
    pub(super) fn listen(&self) {
        if self.listening.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut tries = 0;
        while let Some(received) = self.receive() {
            tries = if received { 0 } else { tries + 1 };
            let Some(pause) = PAUSES.get(tries) else { break };
            std::thread::sleep(Duration::from_secs(*pause));
        }
        self.listening.store(false, Ordering::Release);
    }

    /// Reads one stream of the server's own messages. Returns whether there were any; None if the server offers no
    /// stream.
    fn receive(&self) -> Option<bool> {
        let request = self.with_headers(self.endpoint.get(&self.path)).header("Accept", "text/event-stream");
        let Ok(answer) = request.call() else { return Some(false) };
        let is_stream = content_type(answer.headers()) == "text/event-stream";
        if !(answer.status().is_success() && is_stream) {
            return answer.status().is_server_error().then_some(false);
        }
        let mut events = Events::new(BufReader::new(answer.into_body().into_reader()), longest());
        let mut received = false;
        while let Ok(Some(data)) = events.next_data() {
            received = true;
            match Message::parse(&data) {
                Ok(message) => self.output.send(&message),
                Err(_) => note("warning: ignored an invalid message from the machine"),
            }
        }
        Some(received)
    }

    /// Ends the session.
    pub(super) fn close(&self) {
        if self.in_session() {
            let request = self.with_headers(self.endpoint.delete(&self.path));
            // Servers may refuse this request.
            drop(request.config().timeout_global(Some(FAREWELL)).build().call());
        }
    }

    fn in_session(&self) -> bool {
        self.headers().iter().any(|(name, _)| *name == SESSION)
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        self.headers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn set_headers(&self, headers: Vec<(&'static str, String)>) {
        *self.headers.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = headers;
    }

    fn with_headers<T>(&self, request: RequestBuilder<T>) -> RequestBuilder<T> {
        self.headers().into_iter().fold(request, |request, (name, value)| request.header(name, value))
    }

    fn remember(&self, headers: &HeaderMap) {
        // The MCP specification allows only visible ASCII in a session id.
        let id = headers
            .get(SESSION)
            .and_then(|id| id.to_str().ok())
            .filter(|id| (1..=1024).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()));
        self.set_headers(id.map(|id| (SESSION, id.to_owned())).into_iter().collect());
    }

    fn remember_version(&self, answer: &Message) {
        let version = answer.result("protocolVersion");
        let is_plain = |text: &String| {
            (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        };
        if let Some(version) = version.filter(is_plain) {
            let mut headers = self.headers();
            headers.push((VERSION, version));
            self.set_headers(headers);
        }
    }
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Describes why a message was refused.
fn refusal(answer: Response<Body>, in_session: bool) -> Failure {
    let status = answer.status();
    let why = match status {
        StatusCode::UNAUTHORIZED => "the machine refuses its own token (to renew it: agent-vm restart)".to_owned(),
        StatusCode::NOT_FOUND if in_session => {
            "the session ended, probably because the machine restarted; reconnect to this MCP server".to_owned()
        }
        StatusCode::NOT_FOUND => "the machine has no MCP server at this path".to_owned(),
        StatusCode::PAYLOAD_TOO_LARGE => too_long(),
        StatusCode::BAD_GATEWAY => "the machine's MCP servers are not running (to see why: agent-vm status)".to_owned(),
        _ => {
            let mut body = Vec::new();
            drop(answer.into_body().into_reader().take(LONGEST_REFUSAL).read_to_end(&mut body));
            let body = serde_json::from_slice::<serde_json::Value>(&body).ok();
            let text = body.as_ref().and_then(|body| body.pointer("/error/message")?.as_str()).map(one_line);
            let text: String = text.unwrap_or_default().chars().take(300).collect();
            if text.is_empty() { "the machine refused the message".to_owned() } else { text }
        }
    };
    Failure::new(format!("{why} (HTTP {})", status.as_u16()))
}
