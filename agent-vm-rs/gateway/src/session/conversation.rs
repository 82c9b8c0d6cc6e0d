//! A session: what the client sends, and what the gateway answers in the server's place.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local};

use super::handshake::{Hello, Phase};
use super::stand_in::empty_answer;
use super::waiting::Waiting;
use super::wishes::Wishes;
use super::{Outbox, pump};
use crate::era::Translator;
use crate::json::{Id, Kind, Message, Object, error_with_data, result};
use crate::report;
use crate::supervise::{Running, Server};

/// Maximal number of open requests of a client.
const MOST_OPEN: usize = 1000;
/// An error code in the range that JSON-RPC reserves for implementations.
pub const NOT_RUNNING: i64 = -32000;

/// A client's session with a process of a server.
pub struct Session {
    /// Name that nobody can guess.
    pub id: String,
    /// The server.
    pub server: Rc<Server>,
    /// The streams to the client.
    pub outbox: Outbox,
    pub(super) state: RefCell<State>,
    waiting: Waiting,
    pump: RefCell<Option<AbortHandle>>,
    /// Whether the session needs a process. A client that only asks whether the server answers needs none.
    pub(super) wanted: Cell<bool>,
    pub(super) wants: Notify,
    used: Cell<Instant>,
    /// Number of the gateway's own messages that the client has not read.
    told: Cell<usize>,
}

pub(super) struct State {
    pub(super) running: Option<Rc<Running>>,
    pub(super) phase: Phase,
    pub(super) hello: Option<Hello>,
    /// Whether the client has sent `notifications/initialized`.
    pub(super) initialized: bool,
    /// Whether the client was promised capabilities that the server may lack.
    pub(super) promised: bool,
    /// The server's earlier result of `initialize`, if the client was given that.
    pub(super) remembered: Option<Rc<str>>,
    /// Capabilities of the server, as JSON.
    pub(super) capabilities: String,
    /// Requests that the server has not answered, and when it was asked.
    pub(super) open: HashMap<Id, Instant>,
    pub(super) translator: Option<Translator>,
    /// What every process of the session is asked for.
    pub(super) wishes: Wishes,
    pub(super) starts: u64,
}

impl Session {
    /// Opens a session. A single session has only one stream.
    pub fn open(id: String, server: &Rc<Server>, single: bool) -> Rc<Session> {
        let state = State {
            running: None,
            phase: Phase::Down,
            hello: None,
            initialized: false,
            promised: false,
            remembered: None,
            capabilities: "{}".to_owned(),
            open: HashMap::new(),
            translator: None,
            wishes: Wishes::default(),
            starts: 0,
        };
        let session = Rc::new(Session {
            id,
            server: Rc::clone(server),
            outbox: Outbox::new(single),
            state: RefCell::new(state),
            waiting: Waiting::default(),
            pump: RefCell::default(),
            wanted: Cell::new(false),
            wants: Notify::new(),
            used: Cell::new(Instant::now()),
            told: Cell::new(0),
        });
        let pump = spawn_local(pump::run(Rc::clone(&session)));
        session.pump.replace(Some(pump.abort_handle()));
        session
    }

    /// Ends the session and its process.
    pub fn end(&self) {
        if let Some(pump) = self.pump.borrow_mut().take() {
            pump.abort();
        }
        self.state.borrow_mut().running = None;
        self.waiting.take();
        self.outbox.finish();
    }

    /// Returns whether the session has a process.
    pub fn has_process(&self) -> bool {
        self.state.borrow().running.is_some()
    }

    /// Records that the client uses the session.
    pub fn touch(&self) {
        self.used.set(Instant::now());
    }

    /// Returns when the client last used the session; None if it uses it now.
    pub fn idle_since(&self) -> Option<Instant> {
        if self.outbox.is_busy() {
            self.touch();
            return None;
        }
        Some(self.used.get())
    }

    /// Handles a message of the client.
    pub fn receive(self: &Rc<Self>, message: Message) {
        self.touch();
        if !is_probe(&message) && !self.wanted.replace(true) {
            self.wants.notify_one();
        }
        match message.kind() {
            Kind::Request { method, .. } if method == "initialize" && self.state.borrow().hello.is_none() => {
                self.greet(message);
            }
            Kind::Request { id, method } => self.request(id.clone(), method, &message),
            Kind::Notification { method } if method == "notifications/initialized" => self.client_initialized(&message),
            Kind::Notification { method } if method == "notifications/cancelled" => self.cancel(&message),
            _ => self.pass_on(&message),
        }
    }

    /// Sends the client a message of the gateway.
    pub(super) fn tell(self: &Rc<Self>, message: Message) {
        // A client that sends and never reads loses answers.
        if self.told.get() >= MOST_OPEN {
            return;
        }
        self.told.set(self.told.get() + 1);
        let session = Rc::clone(self);
        spawn_local(async move {
            session.outbox.deliver(&message).await;
            session.told.set(session.told.get() - 1);
        });
    }

    /// Answers a request with an error that says why the server does not.
    pub(super) fn refuse(self: &Rc<Self>, id: &str) {
        self.refuse_because(id, &self.server.explain());
    }

    /// Answers a request with an error.
    pub(super) fn refuse_because(self: &Rc<Self>, id: &str, why: &str) {
        let data = serde_json::to_string(&self.server.describe()).unwrap_or_else(|_| "null".to_owned());
        self.tell(error_with_data(id, NOT_RUNNING, why, &data));
    }

    /// Sends the requests that wait for the server, or refuses them.
    pub(super) fn release_waiting(self: &Rc<Self>) {
        for request in self.waiting.take() {
            if self.is_ready() {
                self.send_request(&request);
            } else {
                self.refuse(request.raw_id());
            }
        }
    }

    fn is_ready(&self) -> bool {
        self.state.borrow().phase.is_ready()
    }

    fn request(self: &Rc<Self>, id: Id, method: &str, request: &Message) {
        if self.is_ready() {
            let empty = {
                let state = self.state.borrow();
                let promised = state.promised;
                empty_answer(method, &Object::or_empty(Some(&state.capabilities))).filter(|_| promised)
            };
            match empty {
                Some(empty) => self.tell(result(request.raw_id(), empty)),
                None => self.send_request(request),
            }
            return;
        }
        if method == "ping" {
            self.tell(result(request.raw_id(), "{}"));
            return;
        }
        self.server.wake();
        if self.server.failed() || self.outbox.count_open() > MOST_OPEN {
            self.refuse(request.raw_id());
            return;
        }
        let (session, asked) = (Rc::downgrade(self), Instant::now());
        self.waiting.add(id, request.clone(), self.server.settings.patience, move |request| {
            let Some(session) = session.upgrade() else { return };
            if session.server.state() == report::State::Running {
                // Another process of the server runs, but that of this session does not yet.
                session.refuse_because(request.raw_id(), &session.server.explain_start(asked));
            } else {
                session.refuse(request.raw_id());
            }
        });
    }

    fn send_request(self: &Rc<Self>, request: &Message) {
        let Some(id) = request.id() else { return };
        let full = self.state.borrow().open.len() >= MOST_OPEN;
        if full || !self.to_server(request) {
            self.refuse(request.raw_id());
            return;
        }
        let mut state = self.state.borrow_mut();
        state.open.insert(id.clone(), Instant::now());
        state.wishes.record(request);
    }

    fn pass_on(self: &Rc<Self>, message: &Message) {
        if self.is_ready() {
            self.to_server(message);
        }
    }

    fn cancel(self: &Rc<Self>, message: &Message) {
        let params = Object::or_empty(message.params());
        let Some(id) = params.get("requestId").map(Id::of) else { return };
        self.state.borrow_mut().open.remove(&id);
        if !self.waiting.remove(&id) {
            self.pass_on(message);
        }
        // A late answer still reaches the client, but its stream does not wait for one for ever.
        let session = Rc::downgrade(self);
        spawn_local(async move {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            if let Some(session) = session.upgrade() {
                session.outbox.forget(&id);
            }
        });
    }
}

/// Returns whether a message is only a question of `agent-vm` whether the server answers.
pub fn is_probe(message: &Message) -> bool {
    let params = Object::or_empty(message.params());
    let name = params.object("clientInfo").and_then(|name| name.text("name"));
    message.method() == Some("initialize") && name.as_deref() == Some("agent-vm")
}
