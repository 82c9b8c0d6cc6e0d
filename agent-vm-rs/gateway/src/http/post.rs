//! Messages of clients with sessions.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{HeaderMap, Request, StatusCode};
use tokio::time::timeout;

use super::body::{Body, Unread, read};
use super::gateway::Gateway;
use super::headers::{Accepts, SESSION, VERSION, is_json, text};
use super::reply::{INVALID_REQUEST, PARSE_ERROR, Reply, events, json, refusal, status};
use super::stateless;
use crate::json::{Kind, Message, Object, error, parse_batch};
use crate::policy::{MCP, SESSION_VERSIONS, STATELESS};
use crate::session::{NOT_RUNNING, Reader, Session};
use crate::supervise::Server;

/// Time in which an answer may come before the response begins.
const SOON: Duration = Duration::from_secs(10);

/// Handles the body of a request.
pub async fn handle(gateway: &Rc<Gateway>, server: &Rc<Server>, request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    let accepts = Accepts::of(&parts.headers);
    if !accepts.json && !accepts.events {
        let text = "the client must accept application/json and text/event-stream";
        return refusal(StatusCode::NOT_ACCEPTABLE, INVALID_REQUEST, text);
    }
    let messages = match messages(&parts.headers, body).await {
        Ok(messages) => messages,
        Err(reply) => return *reply,
    };
    if let ([message], false) = (&messages.0[..], messages.1)
        && stateless::is_meant(&parts.headers, message)
    {
        return stateless::handle(gateway, server, &parts.headers, message, accepts).await;
    }
    let session = match session(gateway, server, &parts.headers, &messages) {
        Ok(session) => session,
        Err(reply) => return *reply,
    };
    let requests: Vec<&Message> =
        messages.0.iter().filter(|message| matches!(message.kind(), Kind::Request { .. })).collect();
    if requests.is_empty() {
        for message in messages.0 {
            session.receive(message);
        }
        return status(StatusCode::ACCEPTED);
    }
    let hello = requests.iter().any(|request| request.method() == Some("initialize"));
    let stream = session.outbox.open(requests.iter().copied());
    let prime = requests.iter().any(|request| is_primed(request, &parts.headers));
    let reader = stream.connect(None);
    for message in messages.0 {
        session.receive(message);
    }
    let mut reply = match at_once(&reader, accepts.json && !messages.1).await {
        Some(answer) => json(StatusCode::OK, &answer),
        None if accepts.events => events(Body::events(reader, true, prime)),
        None => answers(reader, messages.1).await,
    };
    if hello && let Ok(id) = HeaderValue::from_str(&session.id) {
        reply.headers_mut().insert(SESSION, id);
    }
    reply
}

/// Reads a body: its messages, and whether they were a batch.
pub async fn messages(headers: &HeaderMap, body: Incoming) -> Result<(Vec<Message>, bool), Box<Reply>> {
    if !is_json(headers) {
        let text = "the content type must be application/json";
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID_REQUEST, text);
    }
    let body = read(body).await.map_err(|unread| match unread {
        Unread::TooLong => {
            let text =
                format!("the message is longer than {} MiB, the maximum for this server", MCP.longest_message >> 20);
            Box::new(refusal(StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST, &text))
        }
        Unread::Broken => Box::new(status(StatusCode::BAD_REQUEST)),
    })?;
    parse(body)
}

fn parse(body: Bytes) -> Result<(Vec<Message>, bool), Box<Reply>> {
    if let Some(message) = Message::parse(body.clone()) {
        return Ok((vec![message], false));
    }
    if let Some(batch) = parse_batch(&body) {
        return Ok((batch, true));
    }
    let (code, text) = match serde_json::from_slice::<serde::de::IgnoredAny>(&body) {
        Err(_) => (PARSE_ERROR, "the body is not valid JSON"),
        Ok(_) => (INVALID_REQUEST, "the body is not a JSON-RPC message"),
    };
    refuse(StatusCode::BAD_REQUEST, code, text)
}

fn refuse<T>(status: StatusCode, code: i64, text: &str) -> Result<T, Box<Reply>> {
    Err(Box::new(refusal(status, code, text)))
}

/// Returns the session that messages belong to, a new one for `initialize`.
fn session(
    gateway: &Gateway,
    server: &Rc<Server>,
    headers: &HeaderMap,
    (messages, batch): &(Vec<Message>, bool),
) -> Result<Rc<Session>, Box<Reply>> {
    let hello = messages.iter().find(|message| message.method() == Some("initialize"));
    if let Some(hello) = hello {
        if *batch {
            return refuse(StatusCode::BAD_REQUEST, INVALID_REQUEST, "initialize must not be part of a batch");
        }
        return gateway.open_session(server, false, Some(hello)).ok_or_else(|| {
            let text = format!(
                "The MCP server {} has {} sessions in use, which is the maximum. Close a client and try again",
                server.name, server.settings.most_processes
            );
            Box::new(json(StatusCode::SERVICE_UNAVAILABLE, &error(hello.raw_id(), NOT_RUNNING, &text)))
        });
    }
    let version = text(headers, VERSION).unwrap_or("2025-03-26");
    if !SESSION_VERSIONS.contains(&version) {
        let text = format!("the version {version} of the protocol is not supported with a session");
        return refuse(StatusCode::BAD_REQUEST, INVALID_REQUEST, &text);
    }
    let session = find(gateway, server, headers)?;
    if *batch && version != "2025-03-26" {
        let text = format!("the version {version} of the protocol has no batches");
        return refuse(StatusCode::BAD_REQUEST, INVALID_REQUEST, &text);
    }
    Ok(session)
}

/// Returns the session that the headers name.
pub fn find(gateway: &Gateway, server: &Rc<Server>, headers: &HeaderMap) -> Result<Rc<Session>, Box<Reply>> {
    let Some(id) = text(headers, SESSION) else {
        let text = "the header Mcp-Session-Id is missing: initialize first";
        return refuse(StatusCode::BAD_REQUEST, INVALID_REQUEST, text);
    };
    gateway.table.find(id, server).ok_or_else(|| {
        let text = "there is no such session: initialize again";
        Box::new(refusal(StatusCode::NOT_FOUND, INVALID_REQUEST, text))
    })
}

/// Returns whether the client understands an event without a message at the stream's start.
fn is_primed(request: &Message, headers: &HeaderMap) -> bool {
    let asked = Object::or_empty(request.params()).text("protocolVersion");
    let version = if request.method() == Some("initialize") { asked.as_deref() } else { text(headers, VERSION) };
    version.is_some_and(|version| (SESSION_VERSIONS[0]..STATELESS).contains(&version))
}

/// Returns the answer, if it is all that there is on a stream and comes soon. It needs no stream of events then, which some
/// clients limit to events of 1 MiB.
pub async fn at_once(reader: &Reader, accepted: bool) -> Option<Message> {
    if !accepted {
        return None;
    }
    let Ok(Some((event, true))) = timeout(SOON, reader.peek()).await else { return None };
    let answer = Message::parse(event.data).filter(|message| message.method().is_none())?;
    reader.stream().discard();
    Some(answer)
}

/// Returns only the answers, for a client that accepts no stream.
pub async fn answers(reader: Reader, batch: bool) -> Reply {
    let mut answers = Vec::new();
    while let Some(event) = reader.next().await {
        if let Some(message) = Message::parse(event.data)
            && message.method().is_none()
        {
            answers.push(message);
        }
    }
    match &answers[..] {
        [] => status(StatusCode::ACCEPTED),
        [only] if !batch => json(StatusCode::OK, only),
        _ => {
            let texts: Vec<&str> = answers.iter().filter_map(|answer| std::str::from_utf8(answer.raw()).ok()).collect();
            super::reply::text(StatusCode::OK, &format!("[{}]", texts.join(",")))
        }
    }
}
