//! One process of a server, in use or spare.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Server;
use super::messages::{PING, answers};
use crate::json::{Id, Kind, METHOD_NOT_FOUND, Message, error, result};
use crate::link::{Ended, Link, Stop};

/// A process of a server. It is ended when this is dropped.
pub struct Running {
    server: Rc<Server>,
    link: Link,
    /// Whether it has answered anything at all.
    heard: Cell<bool>,
    /// Whether it has answered what shows that the server runs.
    answered: Cell<bool>,
    /// Identity of the `initialize` that it was sent.
    asked: RefCell<Option<Id>>,
    /// Whether it has answered that.
    initialized: Cell<bool>,
    /// Whether it was sent `ping` first.
    pub(super) pinged: Cell<bool>,
    /// Whether it may still answer that.
    pub(super) awaits_pong: Cell<bool>,
    /// Whether the gateway initializes it, although it was sent `ping`.
    pub(super) withdrawn: Cell<bool>,
    /// Whether a client has taken it.
    pub(super) used: Cell<bool>,
    pub(super) started: Instant,
    /// Notified when a client takes the process.
    pub(super) taken: Notify,
    ended: Cell<bool>,
    /// Why requests to it are not answered.
    explanation: RefCell<Option<String>>,
}

impl Running {
    pub(super) fn new(server: &Rc<Server>, link: Link) -> Running {
        Running {
            server: Rc::clone(server),
            link,
            heard: Cell::new(false),
            answered: Cell::new(false),
            asked: RefCell::default(),
            initialized: Cell::new(false),
            pinged: Cell::new(false),
            awaits_pong: Cell::new(false),
            withdrawn: Cell::new(false),
            used: Cell::new(false),
            started: Instant::now(),
            taken: Notify::new(),
            ended: Cell::new(false),
            explanation: RefCell::default(),
        }
    }

    /// Sends a message; returns false if the server reads nothing and the queue is full, or if it has ended.
    pub fn send(&self, message: &Message) -> bool {
        // A client may use the identity of `ping`.
        if self.initialized.get() && message.id().and_then(Id::text) == Some(PING) {
            self.awaits_pong.set(false);
        }
        self.link.send(message)
    }

    /// Returns the next message; None once the server has ended, which is then recorded.
    pub async fn next(self: &Rc<Self>) -> Option<Message> {
        let message = self.next_quietly().await;
        if message.is_none() && !self.ended.replace(true) {
            let end = self.link.ended().await;
            let explanation = self.server.ended(self, end);
            self.explanation.replace(Some(explanation));
        }
        message
    }

    /// Returns the next message; None once the server has ended, which is not recorded.
    pub(super) async fn next_quietly(self: &Rc<Self>) -> Option<Message> {
        loop {
            let Some(message) = self.link.next().await else {
                self.link.ended().await;
                return None;
            };
            if message.method().is_some() {
                return Some(message);
            }
            let pinged = self.pinged.get();
            if !self.heard.replace(true) && pinged {
                self.server.first_answer(self, &message);
            }
            // A client's `initialize` may have the same identity; its answer comes later.
            let is_pong = self.awaits_pong.get() && answers(&message, PING);
            let is_hello = !is_pong && self.is_hello(&message);
            if is_pong {
                self.awaits_pong.set(false);
            }
            // Answers to nothing show nothing.
            let shows = is_hello || is_pong || (!pinged && self.asked.borrow().is_none());
            if shows && !self.answered.replace(true) {
                self.server.answered();
            }
            self.initialized.set(self.initialized.get() || is_hello);
            // A client does not know of `ping`.
            if !is_pong {
                return Some(message);
            }
        }
    }

    /// Answers a request of the server in the place of a client: there is none. Some servers wait for the answer.
    pub fn decline(&self, message: &Message) {
        if let Kind::Request { method, .. } = message.kind() {
            let id = message.raw_id();
            let text = format!("no client that supports {method} is connected");
            let ping = method == "ping";
            self.send(&if ping { result(id, "{}") } else { error(id, METHOD_NOT_FOUND, &text) });
        }
    }

    /// Returns the next message of a process that no client uses; None once the server has ended, which is then recorded.
    pub(super) async fn next_unused(self: &Rc<Self>) -> Option<Message> {
        let message = self.next().await?;
        self.decline(&message);
        Some(message)
    }

    /// Records that the process was sent `initialize`.
    pub(super) fn was_asked(&self, id: Option<&Id>) {
        self.asked.replace(id.cloned());
    }

    fn is_hello(&self, message: &Message) -> bool {
        self.asked.borrow().as_ref().is_some_and(|asked| message.id() == Some(asked))
    }

    /// Returns why requests to the process are not answered.
    pub fn explain(&self) -> String {
        self.explanation.borrow().clone().unwrap_or_else(|| self.server.explain())
    }

    /// Ends the process because of an error of its own.
    pub fn kill(&self, verdict: &str) {
        self.link.kill(verdict);
    }

    /// Ends the process.
    pub fn stop(&self, how: Stop) {
        self.link.stop(how);
    }

    /// Waits until the process has ended.
    pub async fn wait(&self) {
        self.link.ended().await;
    }

    /// Returns what waits until the process has ended.
    pub(super) fn ending(&self) -> impl Future<Output = ()> + use<> {
        self.link.ending()
    }

    /// Returns how the process has ended, if it has.
    pub(super) fn end(&self) -> Option<Ended> {
        self.link.end()
    }

    /// Returns whether the process has run for so long that the pauses before a restart start over.
    pub fn was_steady(&self) -> bool {
        self.has_answered() && self.started.elapsed() >= self.server.settings.steady
    }

    /// Returns the processor time that the process and its children have used; None if it is not known.
    pub(super) fn processor_time(&self) -> Option<Duration> {
        self.link.processor_time()
    }

    /// Returns whether the process has answered what shows that the server runs.
    pub fn has_answered(&self) -> bool {
        self.answered.get()
    }

    /// Returns whether the process has answered `initialize`.
    pub(super) fn is_initialized(&self) -> bool {
        self.initialized.get()
    }

    /// Returns whether the process was sent `initialize` and has not answered it.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.borrow().is_some() && !self.initialized.get()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended.get() {
            self.server.released(self.answered.get());
            if self.pinged.get() && self.used.get() && !self.initialized.get() {
                self.server.check_again();
            }
        }
    }
}
