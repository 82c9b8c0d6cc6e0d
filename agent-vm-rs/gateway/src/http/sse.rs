//! HTTP+SSE of 2024-11-05: one stream for everything, and a path to send to.

use std::rc::Rc;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use super::body::Body;
use super::gateway::Gateway;
use super::post::messages;
use super::reply::{INVALID_REQUEST, Reply, events, refusal, status};
use crate::policy::MCP;
use crate::supervise::Server;

/// Opens a session. It ends with its stream.
pub fn open(gateway: &Rc<Gateway>, server: &Rc<Server>, base: &str) -> Reply {
    let Some(session) = gateway.open_session(server, true, None) else {
        let text = format!("The MCP server {} has too many sessions in use", server.name);
        return refusal(StatusCode::SERVICE_UNAVAILABLE, INVALID_REQUEST, &text);
    };
    let path = format!("{base}{}/?session_id={}", MCP.messages_path, session.id);
    session.outbox.general().push_now(Some("endpoint"), path.into());
    let reader = session.outbox.general().connect(None);
    let (gateway, id) = (Rc::clone(gateway), session.id.clone());
    events(Body::events(reader, false, false).at_end(move || gateway.table.end(&id)))
}

/// Handles a client's messages.
pub async fn receive(gateway: &Rc<Gateway>, server: &Rc<Server>, request: Request<Incoming>) -> Reply {
    let query = request.uri().query().unwrap_or_default();
    let id = query.split('&').find_map(|pair| pair.strip_prefix("session_id=")).unwrap_or_default();
    let Some(session) = gateway.table.find(id, server) else {
        return refusal(StatusCode::NOT_FOUND, INVALID_REQUEST, "there is no such session");
    };
    let (parts, body) = request.into_parts();
    match messages(&parts.headers, body).await {
        Ok((messages, _)) => {
            for message in messages {
                session.receive(message);
            }
            status(StatusCode::ACCEPTED)
        }
        Err(reply) => *reply,
    }
}
