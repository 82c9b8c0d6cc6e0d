//! The session of a client that began with `initialize`. It outlives the machine's session: when the machine has forgotten that,
//! the bridge begins a new one in the same way.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ureq::http::HeaderMap;

use super::headers::VERSION;
use super::message::Message;

/// Name of the header with the session's id.
pub(super) const SESSION: &str = "mcp-session-id";
/// Largest number of subscriptions that a new session gets again.
const MOST_SUBSCRIPTIONS: usize = 1000;

/// What a session consists of.
#[derive(Default)]
pub(super) struct Session {
    state: Mutex<State>,
    /// Held while a session begins again.
    beginning: Mutex<()>,
}

/// A session's headers, and how many sessions there were before it.
#[derive(Clone, Default)]
pub(super) struct Current {
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) age: u64,
}

#[derive(Default)]
struct State {
    current: Current,
    /// The client's messages that begin a session.
    hello: Option<Message>,
    ready: Option<Message>,
    /// Its last message that sets the log level, and those that subscribe to resources.
    level: Option<Message>,
    subscriptions: BTreeMap<String, Message>,
}

impl Session {
    /// Returns the current headers.
    pub(super) fn current(&self) -> Current {
        self.state().current.clone()
    }

    /// Returns whether the client has begun a session.
    pub(super) fn has_begun(&self) -> bool {
        self.state().hello.is_some()
    }

    /// Waits for another thread that begins the session again. Returns None if the session after `age` has begun already.
    pub(super) fn begin_again(&self, age: u64) -> Option<MutexGuard<'_, ()>> {
        let beginning = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        (self.state().current.age == age).then_some(beginning)
    }

    /// Remembers the machine's answer to `initialize`.
    pub(super) fn begun(&self, headers: &HeaderMap, answer: &Message) {
        // The MCP specification allows only visible ASCII in a session id.
        let id = headers
            .get(SESSION)
            .and_then(|id| id.to_str().ok())
            .filter(|id| (1..=1024).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()));
        let is_plain = |text: &String| {
            (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        };
        let version = answer.result("protocolVersion").filter(is_plain);
        let mut state = self.state();
        state.current.age += 1;
        state.current.headers = id
            .map(|id| (SESSION, id.to_owned()))
            .into_iter()
            .chain(version.map(|version| (VERSION, version)))
            .collect();
    }

    /// Remembers a message that the machine has accepted and that a new session needs, too.
    pub(super) fn accepted(&self, message: &Message) {
        let mut state = self.state();
        match message.method() {
            Some("initialize") => {
                *state = State { current: state.current.clone(), hello: Some(message.clone()), ..State::default() };
            }
            Some("notifications/initialized") => state.ready = Some(message.clone()),
            Some("logging/setLevel") => state.level = Some(message.clone()),
            Some("resources/subscribe") if state.subscriptions.len() < MOST_SUBSCRIPTIONS => {
                state.subscriptions.extend(message.param("uri").map(|uri| (uri, message.clone())));
            }
            Some("resources/unsubscribe") => {
                message.param("uri").map(|uri| state.subscriptions.remove(&uri));
            }
            _ => {}
        }
    }

    /// Returns the client's message that begins a session, and those that follow it.
    pub(super) fn beginning(&self) -> Option<(Message, Vec<Message>)> {
        let state = self.state();
        let follow = state.ready.iter().chain(&state.level).chain(state.subscriptions.values());
        Some((state.hello.clone()?, follow.cloned().collect()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    /// Returns whether the machine has given the session an id.
    pub(super) fn has_id(&self) -> bool {
        self.headers.iter().any(|(name, _)| *name == SESSION)
    }
}
