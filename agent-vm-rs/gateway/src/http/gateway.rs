//! Which request goes where.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::ORIGIN;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;

use super::origin::Origins;
use super::reply::{INVALID_REQUEST, Reply, not_allowed, refusal, status};
use super::{get, post, sse};
use crate::json::Message;
use crate::policy::MCP;
use crate::pool::Pool;
use crate::report::{Priority, States, log};
use crate::session::{Session, Table, is_probe};
use crate::supervise::Server;

/// Maximal number of connections.
const MOST_CONNECTIONS: usize = 1024;
/// Time for a request's headers.
const HEADERS: Duration = Duration::from_secs(20);

/// Everything that is served.
pub struct Gateway {
    /// The servers: the default one first.
    pub servers: Vec<Rc<Server>>,
    /// The processes of each server for clients without a session.
    pub pools: Vec<Rc<Pool>>,
    /// The sessions of all clients.
    pub table: Table,
    /// The web pages that may call.
    pub origins: Origins,
    /// Path that tells whether the gateway answers.
    pub health_path: String,
    /// The states of the servers.
    pub states: Rc<States>,
}

impl Gateway {
    /// Opens a session; returns None if the server has too many processes, all of which are in use. The question whether it
    /// answers needs no process.
    pub fn open_session(&self, server: &Rc<Server>, single: bool, hello: Option<&Message>) -> Option<Rc<Session>> {
        let room = hello.is_some_and(is_probe) || server.has_room() || server.make_room();
        room.then(|| self.table.open(server, single))
    }

    /// Returns the processes of a server for clients without a session.
    pub fn pool(&self, server: &Rc<Server>) -> Option<&Rc<Pool>> {
        self.pools.iter().find(|pool| Rc::ptr_eq(&pool.server, server))
    }
}

/// A server's endpoint.
enum Endpoint {
    Mcp,
    Sse,
    Messages,
}

/// Accepts connections until the program ends.
pub async fn serve(gateway: Rc<Gateway>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No file descriptors are left: some clients must go first.
                log(Priority::Warning, &format!("cannot accept a connection: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Answers are small, and their clients wait for them.
        let _ = stream.set_nodelay(true);
        let gateway = Rc::clone(&gateway);
        spawn_local(async move {
            let service = service_fn(move |request| {
                let gateway = Rc::clone(&gateway);
                async move { Ok::<_, Infallible>(answer(&gateway, request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .serve_connection(TokioIo::new(stream), service);
            // A client may go at any time.
            let _ = connection.await;
            drop(permit);
        });
    }
}

async fn answer(gateway: &Rc<Gateway>, request: Request<Incoming>) -> Reply {
    let origin = request.headers().get(ORIGIN).cloned();
    let mut reply = if gateway.origins.admit(request.headers()) {
        route(gateway, request).await
    } else {
        refusal(StatusCode::FORBIDDEN, INVALID_REQUEST, "requests of this origin are not allowed")
    };
    gateway.origins.mark(origin.as_ref(), &mut reply);
    reply
}

async fn route(gateway: &Rc<Gateway>, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    if request.method() == Method::OPTIONS {
        return status(StatusCode::NO_CONTENT);
    }
    if path == gateway.health_path {
        return health(gateway, request.method());
    }
    let Some((server, base, endpoint)) = find(gateway, &path) else {
        return refusal(StatusCode::NOT_FOUND, INVALID_REQUEST, "nothing is served at this path");
    };
    match (endpoint, request.method()) {
        (Endpoint::Mcp, &Method::POST) => post::handle(gateway, &server, request).await,
        (Endpoint::Mcp, &Method::GET) => get::listen(gateway, &server, request.headers()),
        (Endpoint::Mcp, &Method::DELETE) => get::delete(gateway, &server, request.headers()),
        (Endpoint::Mcp, _) => not_allowed("GET, POST, DELETE"),
        (Endpoint::Sse, &Method::GET) => sse::open(gateway, &server, base),
        (Endpoint::Sse, _) => not_allowed("GET"),
        (Endpoint::Messages, &Method::POST) => sse::receive(gateway, &server, request).await,
        (Endpoint::Messages, _) => not_allowed("POST"),
    }
}

/// Returns the server of a path, the part of the path that names it, and the endpoint.
fn find<'a>(gateway: &Gateway, path: &'a str) -> Option<(Rc<Server>, &'a str, Endpoint)> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let (server, base, rest) =
        match path.strip_prefix(MCP.servers_path.as_str()).and_then(|rest| rest.strip_prefix('/')) {
            None => (gateway.servers.first()?, "", path),
            Some(named) => {
                let (name, _) = named.split_once('/')?;
                let server = gateway.servers.iter().skip(1).find(|server| server.name == name)?;
                let (base, rest) = path.split_at(MCP.servers_path.len() + 1 + name.len());
                (server, base, rest)
            }
        };
    let endpoint = match rest {
        rest if rest == MCP.mcp_path => Endpoint::Mcp,
        rest if rest == MCP.sse_path => Endpoint::Sse,
        rest if rest == MCP.messages_path => Endpoint::Messages,
        _ => return None,
    };
    Some((Rc::clone(server), base, endpoint))
}

fn health(gateway: &Gateway, method: &Method) -> Reply {
    if method != Method::GET && method != Method::HEAD {
        return not_allowed("GET");
    }
    super::reply::text(StatusCode::OK, &gateway.states.to_json())
}
