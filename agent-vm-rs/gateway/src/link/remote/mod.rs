//! A server on the network.

mod client;
mod events;
mod http;
mod proxy;
mod sse;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use tokio::task::spawn_local;

use super::{Ended, Link, Shared, Stop};
use crate::config::{Remote, RemoteKind};
use crate::json::{Id, Kind, Message, error};

/// Time for the end of a session.
const GOODBYE: Duration = Duration::from_secs(1);
/// JSON-RPC's code for an error that is not the client's.
const INTERNAL_ERROR: i64 = -32603;

/// Connects to a server. Nothing is sent before the first message.
pub fn connect(remote: &Remote) -> Link {
    let (link, shared) = Link::new();
    let remote = remote.clone();
    spawn_local(async move {
        let verdict = {
            let serving = async {
                match remote.kind {
                    RemoteKind::Http => http::run(&remote, &shared).await,
                    RemoteKind::Sse => sse::run(&remote, &shared).await,
                }
            };
            tokio::select! {
                verdict = serving => Some(verdict),
                () = stopping(&shared) => None,
            }
        };
        let own = shared.verdict.borrow_mut().take();
        shared.end(Ended { verdict: own.or(verdict), ..Ended::default() });
    });
    link
}

async fn stopping(shared: &Shared) {
    while shared.stop.get() == Stop::Not {
        shared.stopped.notified().await;
    }
}

/// Hands a message of the server to its user, once there is room.
async fn hand_over(shared: &Shared, message: Message) {
    let size = message.raw().len();
    shared.from.push(message, size).await;
}

/// Hands over all messages of a text, which may be a batch.
async fn hand_over_text(shared: &Shared, text: Bytes) -> bool {
    let messages = match Message::parse(text.clone()) {
        Some(message) => vec![message],
        None => crate::json::parse_batch(&text).unwrap_or_default(),
    };
    let any = !messages.is_empty();
    for message in messages {
        hand_over(shared, message).await;
    }
    any
}

/// Answers a request in the server's place.
async fn hand_over_error(shared: &Shared, request: &Message, text: &str) {
    if matches!(request.kind(), Kind::Request { .. }) {
        hand_over(shared, error(request.raw_id(), INTERNAL_ERROR, text)).await;
    }
}

/// Returns the identity of the request that a notification cancels.
fn cancelled(message: &Message) -> Option<Id> {
    if message.method() != Some("notifications/cancelled") {
        return None;
    }
    crate::json::Object::or_empty(message.params()).get("requestId").map(Id::of)
}
