//! One process of a pool, and the calls that it has not answered.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::Pool;
use super::call::{Call, INTERNAL_ERROR};
use crate::json::{Id, Message, Object, notification, quote, request};
use crate::supervise::{Checked, Running, initialize_params};

const HELLO: &str = "agent-mcp-initialize";

/// A process of a pool.
pub struct Member {
    /// Capabilities of the clients that use it, as JSON; empty for all clients without those that matter to a server.
    pub(super) class: String,
    /// Whether the server is spoken to without a session.
    pub(super) stateless: bool,
    running: RefCell<Option<Rc<Running>>>,
    /// The server's result of `initialize`, or an empty one.
    hello: RefCell<Option<Rc<str>>>,
    pub(super) dead: Cell<bool>,
    pub(super) calls: RefCell<BTreeMap<u64, Rc<Call>>>,
    /// Number of calls that were given the process and have not been sent.
    pub(super) reserved: Cell<usize>,
    /// Whether one call has the process for itself.
    pub(super) exclusive: Cell<bool>,
    /// When a call last used it.
    pub(super) used: Cell<Instant>,
    level: RefCell<String>,
    pub(super) changed: Notify,
}

impl Member {
    /// Starts a process for clients with some capabilities.
    pub(super) fn start(pool: &Rc<Pool>, class: &str, name: Option<&str>, stateless: bool) -> Rc<Member> {
        let member = Rc::new(Member {
            class: class.to_owned(),
            stateless,
            running: RefCell::default(),
            hello: RefCell::default(),
            dead: Cell::new(false),
            calls: RefCell::default(),
            reserved: Cell::new(0),
            exclusive: Cell::new(false),
            used: Cell::new(Instant::now()),
            level: RefCell::default(),
            changed: Notify::new(),
        });
        let params = initialize_params(Some(class).filter(|class| !class.is_empty()), name);
        spawn_local(run(Rc::clone(pool), Rc::clone(&member), params));
        member
    }

    /// Returns the server's result of `initialize` once it is there.
    pub(super) fn hello(&self) -> Option<Rc<str>> {
        self.hello.borrow().clone()
    }

    /// Returns whether the server has a capability.
    pub(super) fn has(&self, capability: &str) -> bool {
        let hello = self.hello().unwrap_or_else(|| "{}".into());
        let hello = Object::or_empty(Some(&hello));
        hello.object("capabilities").is_some_and(|capabilities| capabilities.has(capability))
    }

    /// Returns whether no call is open. A subscription is none.
    pub(super) fn is_idle(&self) -> bool {
        self.calls.borrow().values().all(|call| call.is_subscription()) && self.reserved.get() == 0
    }

    /// Returns whether another call may ask for log messages, which do not name their call.
    pub(super) fn may_log(&self) -> bool {
        let calls = self.calls.borrow();
        let logs = calls.values().any(|call| call.meta.level.is_some() && !call.is_subscription());
        !logs && self.reserved.get() == 0
    }

    /// Sends the server a message; returns false if it does not read.
    pub(super) fn send(&self, message: &Message) -> bool {
        self.running.borrow().as_ref().is_some_and(|running| running.send(message))
    }

    /// Sends the server a call; returns false if it does not read.
    pub(super) fn send_call(&self, call: &Rc<Call>) -> bool {
        if !self.stateless
            && let Some(level) = &call.meta.level
            && self.has("logging")
            && *self.level.borrow() != *level
        {
            let params = format!(r#"{{"level":{level}}}"#);
            self.send(&request(&quote(&format!("agent-mcp-level-{}", call.number)), "logging/setLevel", &params));
            self.level.replace(level.clone());
        }
        self.calls.borrow_mut().insert(call.number, Rc::clone(call));
        let sent = self.send(&call.sent());
        if !sent {
            self.calls.borrow_mut().remove(&call.number);
        }
        sent
    }

    /// Removes a call; frees the process if the call had it for itself.
    pub(super) fn remove(&self, pool: &Pool, number: u64) -> Option<Rc<Call>> {
        let call = self.calls.borrow_mut().remove(&number);
        self.used.set(Instant::now());
        if call.is_some() && self.is_idle() {
            self.exclusive.set(false);
            self.changed.notify_waiters();
            pool.server.touch();
        }
        call
    }

    /// Ends the process.
    pub(super) fn end(&self) {
        self.dead.set(true);
        self.running.borrow_mut().take();
        self.changed.notify_waiters();
    }
}

async fn run(pool: Rc<Pool>, member: Rc<Member>, params: String) {
    let checked = if member.class.is_empty() { pool.server.take_checked(member.stateless) } else { None };
    let (running, hello) = match checked {
        Some(Checked { running, hello }) => (running, Some(hello.unwrap_or_else(|| "{}".into()))),
        None => (pool.server.acquire().await, member.stateless.then(|| "{}".into())),
    };
    if member.dead.get() {
        return;
    }
    member.running.replace(Some(Rc::clone(&running)));
    match hello {
        Some(hello) => {
            member.hello.replace(Some(hello));
            if member.stateless {
                pool.listen_with(&member);
            } else {
                pool.subscribe_new(&member);
            }
            member.changed.notify_waiters();
        }
        None => {
            pool.server.initialize(&running, &request(&quote(HELLO), "initialize", &params));
        }
    }
    // The member alone keeps the process: it may be ended while this waits.
    let running = Rc::downgrade(&running);
    let mut explanation = None;
    loop {
        let Some(process) = running.upgrade() else { break };
        let next = tokio::select! {
            next = process.next() => next,
            () = ended(&member) => break,
        };
        if next.is_none() {
            explanation = Some(process.explain());
        }
        drop(process);
        match next {
            None => break,
            Some(message) if member.hello().is_none() => greeted(&pool, &member, &message),
            Some(message) => member.from_server(&pool, message).await,
        }
    }
    member.end();
    pool.forget(&member);
    pool.end_listeners(&member);
    let text = explanation.unwrap_or_else(|| pool.server.explain());
    for call in std::mem::take(&mut *member.calls.borrow_mut()).into_values() {
        if !call.is_copy {
            call.fail(INTERNAL_ERROR, &text);
        }
    }
}

async fn ended(member: &Member) {
    while !member.dead.get() {
        member.changed.notified().await;
    }
}

/// Handles the answer to `initialize`. Other messages before it are for nobody.
fn greeted(pool: &Rc<Pool>, member: &Rc<Member>, message: &Message) {
    let Some(running) = member.running.borrow().clone() else { return };
    running.decline(message);
    if message.id() != Some(&Id::Text(HELLO.to_owned())) || message.method().is_some() {
        return;
    }
    let Some(result) = message.result() else {
        let error: String = message.error().unwrap_or_default().chars().take(200).collect();
        running.kill(&format!("refused to initialize: {error}"));
        return;
    };
    member.hello.replace(Some(result.into()));
    member.send(&notification("notifications/initialized", ""));
    pool.subscribe_new(member);
    member.changed.notify_waiters();
}
