//! A server: its state, and its processes.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::check::{Checked, Era};
use super::messages::remembered;
use super::ping::Pings;
use super::{Running, Settings};
use crate::config;
use crate::link::{Ended, Stop};
use crate::report::{Calls, State, States, Status};

/// A server.
pub struct Server {
    /// Its name.
    pub name: String,
    /// Times and limits.
    pub settings: Rc<Settings>,
    pub(super) launch: config::Launch,
    /// Whether it always has a spare process.
    pub(super) default: bool,
    pub(super) inner: RefCell<Inner>,
    /// Notified after each change.
    pub(super) changed: Notify,
    make_room: RefCell<Option<MakeRoom>>,
    states: Rc<States>,
    processes: Cell<usize>,
    /// Number of processes, including those that end.
    all_processes: Cell<usize>,
    pub(super) answering: Cell<usize>,
    calls: Cell<Calls>,
}

/// Ends another process; returns whether it did.
type MakeRoom = Box<dyn Fn() -> bool>;

/// What is known of a server.
pub(super) struct Inner {
    pub(super) state: State,
    pub(super) spare: Option<Rc<Running>>,
    /// Process that was checked, and has not been used.
    pub(super) checked: Option<Checked>,
    pub(super) pings: Pings,
    pub(super) era: Era,
    /// Whether a client without a session has come.
    pub(super) discovering: bool,
    /// The server's last result of `initialize`, with the newest version that it may know.
    pub(super) hello: Option<Rc<str>>,
    /// Time that the server needed to answer.
    pub(super) startup: Option<Duration>,
    pub(super) discovered: Option<Rc<str>>,
    pub(super) all: Vec<Weak<Running>>,
    pub(super) failures: usize,
    pub(super) restarts: u32,
    pub(super) started: Instant,
    pub(super) stopping: bool,
    pub(super) why: Option<String>,
    pub(super) end: Ended,
}

impl Server {
    /// Returns a server that has not been started.
    pub fn new(server: config::Server, default: bool, settings: &Rc<Settings>, states: &Rc<States>) -> Rc<Server> {
        let server = Server {
            name: server.name,
            settings: Rc::clone(settings),
            launch: server.launch,
            default,
            inner: RefCell::new(Inner {
                state: State::Starting,
                spare: None,
                checked: None,
                pings: Pings::Unknown,
                era: Era::Unknown,
                discovering: false,
                hello: None,
                startup: None,
                discovered: None,
                all: Vec::new(),
                failures: 0,
                restarts: 0,
                started: Instant::now(),
                stopping: false,
                why: None,
                end: Ended::default(),
            }),
            changed: Notify::new(),
            make_room: RefCell::default(),
            states: Rc::clone(states),
            processes: Cell::new(0),
            all_processes: Cell::new(0),
            answering: Cell::new(0),
            calls: Cell::default(),
        };
        server.report();
        Rc::new(server)
    }

    /// Returns the state.
    pub fn state(&self) -> State {
        self.inner.borrow().state
    }

    /// Returns whether the server has failed.
    pub fn failed(&self) -> bool {
        self.state() == State::Failed
    }

    /// Takes it as known that the server has only versions with sessions. If it refuses `ping`, it is asked all the same.
    pub fn has_only_sessions(&self) {
        self.inner.borrow_mut().era = Era::Sessions;
    }

    /// Returns which versions the server knows.
    pub fn era(&self) -> Era {
        self.inner.borrow().era
    }

    /// Returns the server's result of `server/discover`, if it has that method.
    pub fn discovered(&self) -> Option<Rc<str>> {
        self.inner.borrow().discovered.clone()
    }

    /// Returns the server's last result of `initialize`.
    pub fn hello(&self) -> Option<Rc<str>> {
        self.inner.borrow().hello.clone()
    }

    /// Remembers the result of `initialize` for a client that asked for a version.
    pub fn remember(&self, hello: &str, asked: Option<&str>) {
        let mut inner = self.inner.borrow_mut();
        inner.hello = Some(remembered(inner.hello.as_deref(), hello, asked).into());
    }

    /// Waits for the next change.
    pub fn changes(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// Wakes those that wait for a change.
    pub fn touch(&self) {
        self.changed.notify_waiters();
    }

    /// Returns whether another process may be started.
    pub fn has_room(&self) -> bool {
        let inner = self.inner.borrow();
        self.processes.get() < self.settings.most_processes || inner.spare.is_some() || inner.checked.is_some()
    }

    /// Sets what ends an unused process when there are too many; it returns whether it did.
    pub fn when_full(&self, make_room: impl Fn() -> bool + 'static) {
        self.make_room.replace(Some(Box::new(make_room)));
    }

    /// Ends an unused process; returns whether there was one.
    pub fn make_room(&self) -> bool {
        self.make_room.borrow().as_ref().is_some_and(|make_room| make_room())
    }

    /// Returns the state as in `servers.json` (docs/reference/contract.md).
    pub fn describe(&self) -> Status {
        let inner = self.inner.borrow();
        let end = if inner.state == State::Failed { inner.end.clone() } else { Ended::default() };
        Status {
            name: self.name.clone(),
            state: inner.state,
            restarts: inner.restarts,
            exit_code: end.code,
            signal: end.signal,
            why: inner.why.clone().filter(|_| inner.state == State::Failed),
            last_line: Some(end.last_line).filter(|line| !line.is_empty()),
            calls: self.calls.get(),
        }
    }

    /// Counts a request that the server answered.
    pub fn count(&self, asked: Instant, is_error: bool) {
        let calls = self.calls.get().with(asked.elapsed(), is_error);
        self.calls.set(calls);
        self.states.counted(&self.name, calls);
    }

    /// Returns why a request is not answered, as a sentence.
    pub fn explain(&self) -> String {
        let (name, inner) = (&self.name, self.inner.borrow());
        match inner.state {
            State::Failed => self.has_failed(inner.why.as_deref().unwrap_or_default(), &inner.end.last_line),
            State::Starting => self.explain_start(inner.started),
            State::Running => {
                format!("The MCP server {name} runs, but does not read its input. For details: agent-vm logs")
            }
        }
    }

    /// Returns that a process which was started at some time has not answered, as a sentence.
    pub fn explain_start(&self, started: Instant) -> String {
        let (name, seconds) = (&self.name, started.elapsed().as_secs());
        format!("The MCP server {name} is still starting after {seconds} s. Try again; for details: agent-vm logs")
    }

    /// Ends all processes: gently first, and those that are left after a second for good.
    pub async fn stop(&self) {
        let all = {
            let mut inner = self.inner.borrow_mut();
            inner.stopping = true;
            inner.spare.take();
            inner.checked.take();
            std::mem::take(&mut inner.all)
        };
        let all: Vec<Rc<Running>> = all.iter().filter_map(Weak::upgrade).collect();
        for running in &all {
            running.stop(Stop::Terminate);
        }
        for running in &all {
            running.wait().await;
        }
    }

    pub(super) fn report(&self) {
        self.states.changed(self.describe());
        self.changed.notify_waiters();
    }

    pub(super) fn started_one(self: &Rc<Self>, running: &Rc<Running>) {
        self.processes.set(self.processes.get() + 1);
        self.all_processes.set(self.all_processes.get() + 1);
        let (server, ending) = (Rc::clone(self), running.ending());
        spawn_local(async move {
            ending.await;
            server.all_processes.set(server.all_processes.get() - 1);
            server.changed.notify_waiters();
        });
        let mut inner = self.inner.borrow_mut();
        inner.all.retain(|known| known.strong_count() > 0);
        inner.all.push(Rc::downgrade(running));
    }

    /// Returns whether so many processes have not ended yet, although nobody uses them, that no other may be started.
    pub(super) fn is_ending(&self) -> bool {
        self.all_processes.get().saturating_sub(self.processes.get()) >= self.settings.most_processes
    }

    pub(super) fn is_full(&self) -> bool {
        self.processes.get() >= self.settings.most_processes
    }

    pub(super) fn answered(&self) {
        self.answering.set(self.answering.get() + 1);
        if self.state() != State::Running {
            self.inner.borrow_mut().state = State::Running;
            self.report();
        }
    }

    /// Records that a process is no longer used.
    pub(super) fn released(&self, answered: bool) {
        self.processes.set(self.processes.get().saturating_sub(1));
        if answered {
            self.answering.set(self.answering.get().saturating_sub(1));
        }
        self.changed.notify_waiters();
    }
}
