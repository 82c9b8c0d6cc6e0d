//! One running server and its messages, whether it is a process or a server on the network.

mod lines;
mod processor_time;
mod remote;
mod stdio;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::Pid;
use tokio::sync::Notify;

pub use lines::{Line, Lines};
pub use remote::connect;
pub use stdio::spawn;

use crate::json::Message;
use crate::policy::MCP;
use crate::queue::Queue;

/// Maximal number of messages that wait for a server that does not read its input.
const MOST_UNREAD: usize = 1000;
/// Maximal number of a server's messages that wait for the client, and their size.
const MOST_WAITING: (usize, usize) = (64, 1 << 20);

/// How a server ended.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// Its exit status.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why it was ended.
    pub verdict: Option<String>,
    /// Its last line on standard error.
    pub last_line: String,
    /// Whether it has not read all of its input.
    pub left_input: bool,
}

impl Ended {
    /// Returns what happened, as the end of a sentence.
    pub fn why(&self) -> String {
        match (&self.verdict, self.signal, self.code) {
            (Some(verdict), _, _) => verdict.clone(),
            (None, Some(signal), _) => format!("was ended by signal {signal}"),
            (None, None, code) => format!("exited with status {}", code.unwrap_or(-1)),
        }
    }
}

/// How to end a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Not at all.
    Not,
    /// Close its input, and signal it if it does not end.
    Close,
    /// Signal it, and kill it if it does not end.
    Terminate,
    /// Kill it.
    Kill,
}

/// The ends of the queues and signals between a server and its user.
struct Shared {
    to: Queue<Bytes>,
    from: Queue<Message>,
    stop: Cell<Stop>,
    stopped: Notify,
    verdict: RefCell<Option<String>>,
    /// The process group, if it is a program.
    group: Cell<Option<Pid>>,
    ended: RefCell<Option<Ended>>,
    ending: Notify,
}

/// A running server. It is ended when this is dropped.
pub struct Link(Rc<Shared>);

impl Link {
    fn new() -> (Link, Rc<Shared>) {
        let shared = Rc::new(Shared {
            to: Queue::new(MOST_UNREAD, MCP.longest_message),
            from: Queue::new(MOST_WAITING.0, MOST_WAITING.1),
            stop: Cell::new(Stop::Not),
            stopped: Notify::new(),
            verdict: RefCell::default(),
            group: Cell::default(),
            ended: RefCell::default(),
            ending: Notify::new(),
        });
        (Link(Rc::clone(&shared)), shared)
    }

    /// Queues a message for the server; returns false if it reads nothing and the queue is full, or if it has ended.
    pub fn send(&self, message: &Message) -> bool {
        let raw = message.raw();
        self.0.to.try_push(raw.clone(), raw.len()).is_ok()
    }

    /// Returns the server's next message; None once it has ended.
    pub async fn next(&self) -> Option<Message> {
        self.0.from.pop().await
    }

    /// Returns the processor time that the program and its children have used; None if it is not known.
    pub fn processor_time(&self) -> Option<Duration> {
        self.end().is_none().then(|| processor_time::of_group(self.0.group.get()?)).flatten()
    }

    /// Ends the server; `verdict` is reported as the reason.
    pub fn kill(&self, verdict: &str) {
        self.0.verdict.replace(Some(verdict.to_owned()));
        self.stop(Stop::Kill);
    }

    /// Ends the server.
    pub fn stop(&self, how: Stop) {
        self.0.ask(how);
    }

    /// Returns how the server has ended, if it has.
    pub fn end(&self) -> Option<Ended> {
        self.0.ended.borrow().clone()
    }

    /// Returns what waits until the server has ended, but does not keep it.
    pub fn ending(&self) -> impl Future<Output = ()> + use<> {
        let shared = Rc::clone(&self.0);
        async move { shared.ended().await }
    }

    /// Waits until the server has ended.
    pub async fn ended(&self) -> Ended {
        self.0.ended().await;
        self.end().unwrap_or_default()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.0.from.abandon();
        self.0.ask(Stop::Close);
    }
}

impl Shared {
    async fn ended(&self) {
        loop {
            let ending = self.ending.notified();
            if self.ended.borrow().is_some() {
                return;
            }
            ending.await;
        }
    }

    fn ask(&self, how: Stop) {
        if how > self.stop.get() {
            self.stop.set(how);
            self.stopped.notify_one();
        }
    }

    fn end(&self, ended: Ended) {
        self.to.abandon();
        self.from.close();
        self.ended.replace(Some(ended));
        self.ending.notify_waiters();
    }
}
