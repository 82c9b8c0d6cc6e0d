//! One process of a server, in use or spare.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::Notify;

use super::Server;
use super::probe::Probe;
use crate::json::Message;
use crate::link::{Link, Stop};

/// A process of a server. It is ended when this is dropped.
pub struct Running {
    server: Rc<Server>,
    link: Link,
    pub(super) probe: Cell<Option<Probe>>,
    pub(super) answered: Cell<bool>,
    /// Whether it was sent a ping, which chooses the versions with sessions.
    pub(super) pinged: Cell<bool>,
    pub(super) started: Instant,
    /// Notified when a client takes the spare process.
    pub(super) taken: Notify,
    ended: Cell<bool>,
}

impl Running {
    pub(super) fn new(server: &Rc<Server>, link: Link) -> Running {
        Running {
            server: Rc::clone(server),
            link,
            probe: Cell::new(None),
            answered: Cell::new(false),
            pinged: Cell::new(false),
            started: Instant::now(),
            taken: Notify::new(),
            ended: Cell::new(false),
        }
    }

    /// Sends a message; returns false if the server reads nothing and the queue is full, or if it has ended.
    pub fn send(&self, message: &Message) -> bool {
        self.link.send(message)
    }

    /// Returns the next message for a client; None once the server has ended, which is then recorded.
    pub async fn next(self: &Rc<Self>) -> Option<Message> {
        loop {
            let Some(message) = self.link.next().await else {
                self.record_end().await;
                return None;
            };
            if message.method().is_none() && !self.answered.replace(true) {
                self.server.answered();
                if self.probe.get().is_some() {
                    self.server.conclude_soon();
                }
            }
            match self.probe.get().and_then(|probe| probe.finding(&message)) {
                Some(finding) => self.server.learn(self, finding),
                None => return Some(message),
            }
        }
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

    /// Returns whether the process has answered anything.
    pub fn has_answered(&self) -> bool {
        self.answered.get()
    }

    async fn record_end(self: &Rc<Self>) {
        let ended = self.link.ended().await;
        if !self.ended.replace(true) {
            self.server.ended(self, ended);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended.get() {
            self.server.released(self.answered.get());
        }
    }
}
