//! A server: its state, and its processes.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::check::{Checked, Era};
use super::{Running, Settings};
use crate::config;
use crate::link::{Ended, Stop};
use crate::report::{Priority, State, States, Status, log};

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
    states: Rc<States>,
    processes: Cell<usize>,
    answering: Cell<usize>,
}

/// What is known of a server.
pub(super) struct Inner {
    pub(super) state: State,
    pub(super) spare: Option<Rc<Running>>,
    /// Process that was checked, and has not been used.
    pub(super) checked: Option<Checked>,
    pub(super) era: Era,
    pub(super) discovering: bool,
    /// The server's last result of `initialize`.
    pub(super) hello: Option<Rc<str>>,
    /// Time that the server needed to answer.
    pub(super) startup: Option<Duration>,
    pub(super) discovered: Option<Rc<str>>,
    pub(super) all: Vec<Weak<Running>>,
    pub(super) failures: usize,
    pub(super) restarts: u32,
    pub(super) started: Instant,
    pub(super) stopping: bool,
    why: Option<String>,
    end: Ended,
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
            states: Rc::clone(states),
            processes: Cell::new(0),
            answering: Cell::new(0),
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
        }
    }

    /// Returns why a request is not answered, as a sentence.
    pub fn explain(&self) -> String {
        let (name, inner) = (&self.name, self.inner.borrow());
        match inner.state {
            State::Failed => self.has_failed(inner.why.as_deref().unwrap_or_default(), &inner.end.last_line),
            State::Starting => {
                let seconds = inner.started.elapsed().as_secs();
                format!(
                    "The MCP server {name} is still starting after {seconds} s. Try again; for details: agent-vm logs"
                )
            }
            State::Running => {
                format!("The MCP server {name} runs, but does not read its input. For details: agent-vm logs")
            }
        }
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

    pub(super) fn started_one(&self, running: &Rc<Running>) {
        self.processes.set(self.processes.get() + 1);
        let mut inner = self.inner.borrow_mut();
        inner.all.retain(|known| known.strong_count() > 0);
        inner.all.push(Rc::downgrade(running));
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

    /// Records that a process has ended by itself; returns why requests to it are not answered.
    pub(super) fn ended(self: &Rc<Self>, running: &Rc<Running>, end: Ended) -> String {
        self.released(running.has_answered());
        let why = match (&end.verdict, end.signal, end.code) {
            (Some(verdict), _, _) => verdict.clone(),
            (None, Some(signal), _) => format!("was ended by signal {signal}"),
            (None, None, code) => format!("exited with status {}", code.unwrap_or(-1)),
        };
        let explanation = self.has_failed(&why, &end.last_line);
        {
            let mut inner = self.inner.borrow_mut();
            if inner.stopping {
                return explanation;
            }
            inner.spare.take_if(|spare| Rc::ptr_eq(spare, running));
            inner.checked.take_if(|checked| Rc::ptr_eq(&checked.running, running));
            if running.has_answered() && running.started.elapsed() >= self.settings.steady {
                inner.failures = 0;
            }
        }
        if running.has_answered() && (self.answering.get() > 0 || self.inner.borrow().failures == 0) {
            self.goes_on(&why);
        } else {
            self.fail(why, end);
        }
        explanation
    }

    /// Records that a process has ended which does not show that others will.
    fn goes_on(self: &Rc<Self>, why: &str) {
        log(Priority::Warning, &format!("server {}: one of its processes {why}", self.name));
        if self.answering.get() > 0 {
            self.inner.borrow_mut().restarts += 1;
            self.report();
        } else {
            self.inner.borrow_mut().failures = 1;
            self.restart();
        }
    }

    /// Records a failure, and restarts the server after a pause.
    pub(super) fn fail(self: &Rc<Self>, why: String, end: Ended) {
        let name = &self.name;
        if self.answering.get() > 0 {
            self.goes_on(&why);
            return;
        }
        let pause = {
            let mut inner = self.inner.borrow_mut();
            inner.state = State::Failed;
            inner.why = Some(why.clone());
            inner.end = end;
            inner.failures += 1;
            self.settings.pause(inner.failures)
        };
        log(Priority::Warning, &format!("server {name} {why}; restarting in {} s", pause.as_secs()));
        self.report();
        let server = Rc::clone(self);
        let launched = self.inner.borrow().started;
        spawn_local(async move {
            sleep(pause).await;
            // A request may have restarted it meanwhile.
            if server.failed() && server.inner.borrow().started == launched {
                server.restart();
            }
        });
    }

    fn has_failed(&self, why: &str, last_line: &str) -> String {
        let last = if last_line.is_empty() { String::new() } else { format!("; its last line was: {last_line}") };
        format!("The MCP server {} has failed: it {why}{last}. For details: agent-vm logs", self.name)
    }
}
