//! Streams of clients with sessions, and the end of a session.

use std::rc::Rc;

use hyper::{HeaderMap, StatusCode};

use super::body::Body;
use super::gateway::Gateway;
use super::headers::{Accepts, SESSION, VERSION, text};
use super::post::find;
use super::reply::{INVALID_REQUEST, Reply, events, not_allowed, refusal, status};
use crate::policy::{SESSION_VERSIONS, STATELESS};
use crate::supervise::Server;

/// Opens the stream for what belongs to no request, or resumes any stream.
pub fn listen(gateway: &Rc<Gateway>, server: &Rc<Server>, headers: &HeaderMap) -> Reply {
    if !Accepts::of(headers).events {
        return refusal(StatusCode::NOT_ACCEPTABLE, INVALID_REQUEST, "the client must accept text/event-stream");
    }
    if let Some(refused) = unsupported(headers) {
        return refused;
    }
    let session = match find(gateway, server, headers) {
        Ok(session) => session,
        Err(reply) => return *reply,
    };
    session.touch();
    let last = text(headers, "last-event-id").filter(|last| !last.is_empty());
    let (stream, from) = match last {
        None => (Some(Rc::clone(session.outbox.general())), None),
        Some(last) => match last.split_once('-').map(|(stream, event)| (stream.parse(), event.parse())) {
            Some((Ok(stream), Ok(event))) => (session.outbox.find(stream), Some(event)),
            _ => (None, None),
        },
    };
    let Some(stream) = stream else {
        return refusal(
            StatusCode::BAD_REQUEST,
            INVALID_REQUEST,
            "the stream of Last-Event-ID can no longer be resumed",
        );
    };
    let prime = last.is_none() && text(headers, VERSION).is_some_and(|version| version >= SESSION_VERSIONS[0]);
    events(Body::events(stream.connect(from), true, prime))
}

/// Ends a session.
pub fn delete(gateway: &Rc<Gateway>, server: &Rc<Server>, headers: &HeaderMap) -> Reply {
    if let Some(refused) = unsupported(headers) {
        return refused;
    }
    match find(gateway, server, headers) {
        Ok(session) => {
            gateway.table.end(&session.id);
            status(StatusCode::NO_CONTENT)
        }
        Err(reply) => *reply,
    }
}

/// Returns the refusal of a version that has no sessions, or of an unknown one.
fn unsupported(headers: &HeaderMap) -> Option<Reply> {
    let version = text(headers, VERSION)?;
    if version == STATELESS && text(headers, SESSION).is_none() {
        return Some(not_allowed("POST"));
    }
    let text = format!("the version {version} of the protocol is not supported with a session");
    (!SESSION_VERSIONS.contains(&version)).then(|| refusal(StatusCode::BAD_REQUEST, INVALID_REQUEST, &text))
}
