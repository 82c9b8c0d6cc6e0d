//! Requests of clients without a session (2026-07-28).

use std::rc::Rc;

use hyper::{HeaderMap, StatusCode};

use super::body::Body;
use super::gateway::Gateway;
use super::headers::{Accepts, SESSION, VERSION, text};
use super::named::{check, unsupported};
use super::post::{answers, at_once};
use super::reply::{INVALID_REQUEST, Reply, events, json, refusal, status};
use crate::era::{Meta, REMOVED};
use crate::json::{Kind, METHOD_NOT_FOUND, Message, error};
use crate::policy::{SESSION_VERSIONS, STATELESS};
use crate::supervise::{Era, Server};

/// Returns whether a message is one without a session.
pub fn is_meant(headers: &HeaderMap, message: &Message) -> bool {
    let version = text(headers, VERSION);
    if version == Some(STATELESS) || Meta::of(message.params()).version.is_some() {
        return true;
    }
    // The error lists the supported versions.
    let known = version.is_none_or(|version| SESSION_VERSIONS.contains(&version));
    !known && !headers.contains_key(SESSION) && message.method() != Some("initialize")
}

/// Handles a message.
pub async fn handle(
    gateway: &Rc<Gateway>,
    server: &Rc<Server>,
    headers: &HeaderMap,
    message: &Message,
    accepts: Accepts,
) -> Reply {
    match message.kind() {
        Kind::Request { .. } => {}
        // The version defines none: the end of a stream is the cancellation.
        Kind::Notification { .. } => return status(StatusCode::ACCEPTED),
        Kind::Answer { .. } => {
            let text = "answers are sent as inputResponses of another request";
            return refusal(StatusCode::BAD_REQUEST, INVALID_REQUEST, text);
        }
    }
    let Some(pool) = gateway.pool(server) else { return status(StatusCode::NOT_FOUND) };
    let meta = Meta::of(message.params());
    if let (Some(version), None) = (text(headers, VERSION), &meta.version)
        && version != STATELESS
    {
        let answer = unsupported(message.raw_id(), version, server.discovered().as_deref());
        return json(StatusCode::BAD_REQUEST, &answer);
    }
    if let Err(answer) = check(pool, headers, message, &meta) {
        return json(StatusCode::BAD_REQUEST, &answer);
    }
    let method = message.method().unwrap_or_default();
    if server.era() != Era::Stateless && REMOVED.contains(&method) {
        let text = format!("{method} does not exist in the version {STATELESS}");
        return json(StatusCode::NOT_FOUND, &error(message.raw_id(), METHOD_NOT_FOUND, &text));
    }
    let open = match pool.call(message, &meta).await {
        Ok(open) => open,
        Err(answer) => return json(status_of(&answer), &answer),
    };
    let reader = open.stream().connect(None);
    match at_once(&reader, accepts.json).await {
        Some(answer) => json(status_of(&answer), &answer),
        // The call ends with the stream.
        None if accepts.events => events(Body::events(reader, false, false).at_end(move || drop(open))),
        None => {
            let reply = answers(reader, false).await;
            drop(open);
            reply
        }
    }
}

/// Returns the status of an answer.
fn status_of(answer: &Message) -> StatusCode {
    match answer.error_code() {
        Some(METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
        // Errors that the version sends with this status.
        Some(-32022..=-32020) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}
