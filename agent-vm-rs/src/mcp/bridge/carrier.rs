//! Carries messages between a client and a machine, whose session it begins again when the machine has forgotten it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::exchange::{Lost, exchange, with_headers};
use super::headers;
use super::link::{Lease, Link};
use super::message::{Kind, METHOD_NOT_FOUND, Message, NO_WAY};
use super::open::Open;
use super::output::Output;
use super::session::{Current, Session};
use crate::host::interrupt::Deadline;
use crate::mcp::endpoint::Endpoint;
use crate::term::error::Failure;
use crate::term::progress::note;
use crate::term::text::one_line;

/// Time for open requests to finish after the client has closed its input.
const FINISH: Duration = Duration::from_secs(1);
/// Time between checks whether the client has gone.
pub(super) const CHECK: Duration = Duration::from_millis(50);
/// Time limit for cancelling a request, and for ending the session. The server also ends it by itself later.
const FAREWELL: Duration = Duration::from_secs(1);
/// Methods that a session allows before `initialize`, or that begin it.
const BEFORE_SESSION: [&str; 2] = ["initialize", "ping"];
/// Lists that may differ after the machine restarted, by capability.
const LISTS: [&str; 3] = ["tools", "prompts", "resources"];

/// A client's connection to a machine.
pub(super) struct Carrier {
    pub(super) link: Link,
    pub(super) output: Output,
    pub(super) session: Session,
    open: Open,
    listening: AtomicBool,
}

impl Carrier {
    /// Returns a connection on which nothing was sent yet.
    pub(super) fn new(link: Link, output: Output) -> Self {
        Self { link, output, session: Session::default(), open: Open::default(), listening: AtomicBool::new(false) }
    }

    /// Returns the client's end.
    pub(super) fn output(&self) -> &Output {
        &self.output
    }

    /// Sends one message. The first message opens the session and notifications must keep their order, so these block the
    /// next message; requests run in parallel.
    pub(super) fn carry(self: &Arc<Self>, message: Message) {
        let method = message.method().unwrap_or_default();
        if method == "notifications/cancelled"
            && message.param_text("requestId").is_some_and(|id| self.open.cancel(&id))
        {
            return;
        }
        if message.kind() == Kind::Request && method != "initialize" {
            let carrier = Arc::clone(self);
            std::thread::spawn(move || carrier.send(&message));
            return;
        }
        let begins = method == "notifications/initialized";
        if self.send(&message) && begins && !self.listening.swap(true, Ordering::AcqRel) {
            let carrier = Arc::clone(self);
            std::thread::spawn(move || carrier.listen());
        }
    }

    /// Sends a message and passes the answers to the client. If a request fails, its answer is an error. Returns
    /// whether the message arrived.
    fn send(&self, message: &Message) -> bool {
        let entry = (message.kind() == Kind::Request).then(|| self.open.add(message));
        let is_cancelled = || entry.as_ref().is_some_and(super::open::Entry::cancelled);
        let uses = |lease: &Lease<'_>| entry.iter().for_each(|entry| entry.uses(lease));
        match self.deliver(message, &uses, &is_cancelled) {
            Ok(()) => return true,
            // The client expects no answer.
            Err(_) if is_cancelled() => {}
            Err(error) if message.kind() == Kind::Request => {
                self.output.error(message.id(), error.code, &format!("{:#}", error.why));
            }
            Err(error) => {
                note(&format!(
                    "warning: a message did not reach the machine: {}",
                    one_line(&format!("{:#}", error.why))
                ));
            }
        }
        false
    }

    fn deliver(
        &self,
        message: &Message,
        uses: &dyn Fn(&Lease<'_>),
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<(), Refusal> {
        let own = headers::of(message);
        let method = message.method().unwrap_or_default();
        if own.is_none() && !self.session.has_begun() && is_unknown(message) {
            let why = Failure::new(format!("{} comes before initialize", one_line(method))).into();
            return Err(Refusal { code: METHOD_NOT_FOUND, why });
        }
        let deadline = self.link.deadline();
        let mut again = true;
        loop {
            // A new session has no headers of an old one.
            let current = if method == "initialize" { Current::default() } else { self.session.current() };
            let sent = self.attempt(message, own.as_deref().unwrap_or(&current.headers), uses, is_cancelled);
            match sent {
                Ok(()) => return Ok(()),
                Err(_) if is_cancelled() => return Err(anyhow!("the client has cancelled the request").into()),
                Err(Lost::NoSession) if again => {
                    again = false;
                    self.begin_again(current.age, deadline)?;
                }
                Err(Lost::NoSession) => return Err(Failure::new("the machine ended the session").into()),
                Err(Lost::Unsent(error)) if deadline.passed() => return Err(error.into()),
                Err(Lost::Unsent(_)) => {
                    self.link.find_again(true, deadline)?;
                    if own.is_none() && method != "initialize" {
                        self.begin_again(current.age, deadline)?;
                    }
                }
                Err(Lost::Failed(error)) if own.is_some() && method == "server/discover" => {
                    // A client then begins with `initialize`.
                    return Err(Refusal { code: METHOD_NOT_FOUND, why: error });
                }
                Err(Lost::Failed(error)) => return Err(error.into()),
            }
        }
    }

    fn attempt(
        &self,
        message: &Message,
        headers: &[(&'static str, String)],
        uses: &dyn Fn(&Lease<'_>),
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<(), Lost> {
        let _use = (message.kind() == Kind::Request).then(|| self.link.begin_use());
        let mut lease = self.link.lease();
        uses(&lease);
        if is_cancelled() {
            return Err(Lost::Failed(anyhow!("the client has cancelled the request")));
        }
        let mut each = |headers: &_, received: &Message| {
            if received.answers(message) && received.succeeded() {
                if message.method() == Some("initialize") {
                    self.session.begun(headers, received);
                }
                self.session.accepted(message);
            }
            if !is_cancelled() {
                self.output.send(received);
            }
        };
        let sent = exchange(&lease, self.link.path(), message, headers, &mut each);
        if sent.is_ok() && message.kind() == Kind::Notification {
            self.session.accepted(message);
        }
        if sent.is_err() || is_cancelled() {
            lease.discard();
        }
        sent
    }

    /// Begins the session after number `age` as the client began it, unless another thread has.
    pub(super) fn begin_again(&self, age: u64, deadline: Deadline) -> Result<()> {
        let Some(_beginning) = self.session.begin_again(age) else { return Ok(()) };
        let Some((hello, follow)) = self.session.beginning() else { return Ok(()) };
        let mut answer = None;
        loop {
            let mut each = |headers: &_, received: &Message| {
                if received.answers(&hello) && received.succeeded() {
                    self.session.begun(headers, received);
                    answer = Some(received.clone());
                }
            };
            match exchange(&self.link.lease(), self.link.path(), &hello, &[], &mut each) {
                Ok(()) => break,
                Err(Lost::Unsent(error)) if deadline.passed() => return Err(error),
                Err(Lost::Unsent(_)) => self.link.find_again(true, deadline)?,
                Err(Lost::NoSession) => break,
                Err(Lost::Failed(error)) => return Err(error),
            }
        }
        let Some(answer) = answer else {
            return Err(Failure::new("the machine ended the session and refuses a new one").into());
        };
        tracing::info!("the machine has forgotten the session; a new one has begun");
        let current = self.session.current();
        for message in follow {
            // A refusal concerns this message alone, and was no reason to end the client's session before.
            let _refused =
                exchange(&self.link.lease(), self.link.path(), &message, &current.headers, &mut |_, _| ()).is_err();
        }
        for list in LISTS.into_iter().filter(|list| answer.has_capability(list)) {
            self.output.send(&Message::notification(&format!("notifications/{list}/list_changed"), "{}"));
        }
        Ok(())
    }

    /// Waits for the answers to open requests, but not long, and only while the client reads them.
    pub(super) fn finish(&self) {
        let deadline = Deadline::after(FINISH);
        while !self.open.wait(deadline.at_most(CHECK)) && !deadline.passed() && !self.output.closed() {}
    }

    /// Cancels open requests and ends the session.
    pub(super) fn end(&self) {
        let current = self.session.current();
        for request in self.open.all() {
            if self.open.cancel(request.id()) || !current.has_id() {
                continue;
            }
            let params = format!(r#"{{"requestId":{},"reason":"the client has ended"}}"#, request.id());
            let notice = Message::notification("notifications/cancelled", &params);
            let endpoint = self.link.lease();
            let post = endpoint.post(self.link.path()).header("Content-Type", "application/json");
            let post = with_headers(post, &current.headers).header("Accept", "application/json, text/event-stream");
            drop(post.config().timeout_global(Some(FAREWELL)).build().send(notice.line()));
        }
        if current.has_id() {
            let endpoint: &Endpoint = &self.link.lease();
            let request = with_headers(endpoint.delete(self.link.path()), &current.headers);
            // Servers may refuse this request.
            drop(request.config().timeout_global(Some(FAREWELL)).build().call());
        }
    }
}

/// Why a message was not answered, with a JSON-RPC error code.
struct Refusal {
    code: i32,
    why: anyhow::Error,
}

impl From<anyhow::Error> for Refusal {
    fn from(why: anyhow::Error) -> Self {
        Self { code: NO_WAY, why }
    }
}

impl From<Failure> for Refusal {
    fn from(why: Failure) -> Self {
        Self { code: NO_WAY, why: why.into() }
    }
}

/// Returns whether a request has no meaning before a session begins. The server answers those that it may know.
fn is_unknown(message: &Message) -> bool {
    let method = message.method().unwrap_or_default();
    message.kind() == Kind::Request && !BEFORE_SESSION.contains(&method)
}
