//! A server that speaks streamable HTTP.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::client::{Answer, Client, next};
use super::events::Events;
use super::{GOODBYE, cancelled, hand_over, hand_over_error, hand_over_text};
use crate::config::Remote;
use crate::json::{Id, Kind, Message, Object};
use crate::link::Shared;
use crate::policy::STATELESS;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// Time before a stream is opened again.
const AGAIN: Duration = Duration::from_secs(2);
/// Number of times that the stream of an answer is resumed.
const MOST_RESUMED: usize = 5;

struct Upstream {
    client: Client,
    url: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    session: RefCell<Option<HeaderValue>>,
    version: RefCell<Option<String>>,
    shared: Rc<Shared>,
}

/// Passes messages until the server fails; returns why it did.
pub async fn run(remote: &Remote, shared: &Rc<Shared>) -> String {
    let upstream = Rc::new(Upstream {
        client: Client::new(&remote.url),
        url: remote.url.clone(),
        headers: remote.headers.clone(),
        session: RefCell::default(),
        version: RefCell::default(),
        shared: Rc::clone(shared),
    });
    let mut tasks: JoinSet<Result<(), String>> = JoinSet::new();
    let mut open: HashMap<Id, AbortHandle> = HashMap::new();
    // Dropped with the tasks when the server is no longer used.
    let _goodbye = Goodbye(Rc::clone(&upstream));
    loop {
        let message = tokio::select! {
            Some(ended) = tasks.join_next() => match ended {
                Ok(Err(verdict)) => return verdict,
                _ => continue,
            },
            raw = shared.to.pop() => match raw.and_then(Message::parse) {
                Some(message) => message,
                // The queue is closed.
                None => std::future::pending().await,
            },
        };
        open.retain(|_, task| !task.is_finished());
        if upstream.session.borrow().is_none()
            && let Some(task) = cancelled(&message).and_then(|id| open.remove(&id))
        {
            // Without a session, the end of the stream is the cancellation.
            task.abort();
            continue;
        }
        let listens = message.method() == Some("notifications/initialized");
        let id = message.id().filter(|_| message.method().is_some()).cloned();
        let upstream = Rc::clone(&upstream);
        let task = tasks.spawn_local(async move {
            upstream.post(&message).await?;
            if listens { upstream.listen().await } else { Ok(()) }
        });
        if let Some(id) = id {
            open.insert(id, task);
        }
    }
}

/// Ends the session when it is dropped.
struct Goodbye(Rc<Upstream>);

impl Drop for Goodbye {
    fn drop(&mut self) {
        let upstream = Rc::clone(&self.0);
        if upstream.session.borrow().is_some() {
            tokio::task::spawn_local(async move {
                // The server may be gone.
                let _ = timeout(GOODBYE, upstream.request(Method::DELETE, &HeaderMap::new(), None)).await;
            });
        }
    }
}

impl Upstream {
    async fn request(&self, method: Method, extra: &HeaderMap, body: Option<bytes::Bytes>) -> Result<Answer, String> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = self.url.clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(session) = &*self.session.borrow() {
            headers.insert(SESSION, session.clone());
        }
        if let Some(version) = self.version.borrow().as_deref().and_then(|version| HeaderValue::from_str(version).ok())
        {
            headers.insert(VERSION, version);
        }
        headers.extend(extra.iter().map(|(name, value)| (name.clone(), value.clone())));
        headers.extend(self.headers.iter().cloned());
        let failed = |error: String| {
            format!("cannot be reached at {}: {error}", self.url.authority().map_or("", |name| name.as_str()))
        };
        self.client.send(request, body).await.map_err(failed)
    }

    /// Sends a message and hands over what comes back. An error ends the server.
    async fn post(&self, message: &Message) -> Result<(), String> {
        let answer = self.request(Method::POST, &repeated(message), Some(message.raw().clone())).await?;
        let status = answer.response.status();
        let is_request = matches!(message.kind(), Kind::Request { .. });
        if status == StatusCode::NOT_FOUND && self.session.borrow().is_some() {
            self.session.replace(None);
            return Err("has ended the session".to_owned());
        }
        if matches!(status.as_u16(), 401 | 403 | 407 | 500..) {
            let text = self.client.finish(answer).await.unwrap_or_default();
            // Some servers answer this way, but do answer.
            if is_request && Message::parse(text.clone()).is_some_and(|answer| answer.id() == message.id()) {
                hand_over_text(&self.shared, text).await;
                return Ok(());
            }
            return Err(format!("answered HTTP {status}"));
        }
        if message.method() == Some("initialize") && status.is_success() {
            self.session.replace(answer.response.headers().get(SESSION).cloned());
        }
        let events = answer
            .response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if events {
            return self.stream(answer, is_request.then_some(message)).await;
        }
        let text = self.client.finish(answer).await?;
        let answered = Message::parse(text.clone()).is_some_and(|answer| answer.id() == message.id());
        if let Some(answer) = Message::parse(text.clone()).filter(|_| message.method() == Some("initialize")) {
            self.agree(&answer);
        }
        if !is_request || answered || (status.is_success() && !text.is_empty()) {
            hand_over_text(&self.shared, text).await;
        } else {
            hand_over_error(&self.shared, message, &format!("the server answered HTTP {status}")).await;
        }
        Ok(())
    }

    /// Remembers the version of a session.
    fn agree(&self, answer: &Message) {
        self.version.replace(Object::or_empty(answer.result()).text("protocolVersion"));
    }

    /// Hands over the messages of a stream until the answer to a request, or until the stream's end.
    async fn stream(&self, answer: Answer, request: Option<&Message>) -> Result<(), String> {
        let mut events = Events::default();
        let mut current = Some(answer);
        let mut resumed = 0;
        loop {
            if let Some(mut answer) = current.take() {
                while let Ok(Some(bytes)) = next(&mut answer.response).await {
                    let read = events.take(&bytes).map_err(|_| "its event is too long".to_owned())?;
                    for event in read {
                        let Some(message) = Message::parse(event.data) else { continue };
                        let own = request.filter(|request| message.method().is_none() && message.id() == request.id());
                        if own.is_some_and(|request| request.method() == Some("initialize")) {
                            self.agree(&message);
                        }
                        hand_over(&self.shared, message).await;
                        if own.is_some() {
                            return Ok(());
                        }
                    }
                }
            }
            let Some(last) = events.last_id().and_then(|id| HeaderValue::from_str(id).ok()) else { break };
            if resumed == MOST_RESUMED {
                break;
            }
            resumed += 1;
            sleep(AGAIN / 4).await;
            let mut headers = HeaderMap::new();
            headers.insert("last-event-id", last);
            current = self
                .request(Method::GET, &headers, None)
                .await
                .ok()
                .filter(|answer| answer.response.status().is_success());
        }
        if let Some(request) = request {
            hand_over_error(&self.shared, request, "the server closed the stream without an answer").await;
        }
        Ok(())
    }

    /// Hands over what belongs to no request.
    async fn listen(&self) -> Result<(), String> {
        loop {
            let answer = self.request(Method::GET, &HeaderMap::new(), None).await?;
            if !answer.response.status().is_success() {
                // The server has no such stream.
                return Ok(());
            }
            self.stream(answer, None).await?;
            sleep(AGAIN).await;
        }
    }
}

/// Returns the headers that repeat members of a request without a session.
fn repeated(message: &Message) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let params = Object::or_empty(message.params());
    let meta = params.object("_meta").unwrap_or_default();
    if meta.text("io.modelcontextprotocol/protocolVersion").is_none() {
        return headers;
    }
    headers.insert(VERSION, HeaderValue::from_static(STATELESS));
    if let Some(method) = message.method().and_then(|method| HeaderValue::from_str(method).ok()) {
        headers.insert("mcp-method", method);
    }
    let name = match message.method() {
        Some("tools/call" | "prompts/get") => params.text("name"),
        Some("resources/read") => params.text("uri"),
        _ => None,
    };
    if let Some(name) = name.and_then(|name| HeaderValue::from_str(&encoded(&name)).ok()) {
        headers.insert("mcp-name", name);
    }
    headers
}

/// Returns a text as the value of a header.
fn encoded(text: &str) -> String {
    let plain =
        text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim() == text && !text.starts_with("=?base64?");
    if plain { text.to_owned() } else { format!("=?base64?{}?=", crate::json::to_base64(text.as_bytes())) }
}
