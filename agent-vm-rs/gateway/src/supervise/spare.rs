//! Starting processes. A spare one, of which no client has heard, makes the next session quick.

use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::check::keep;
use super::{Running, Server};
use crate::config::Launch;
use crate::json::Message;
use crate::link::{self, Ended};
use crate::report::{State, reason};

/// Time that a process may need to answer so that clients wait for it.
const SOON: Duration = Duration::from_millis(500);

/// Time after which a process is looked for again.
const AGAIN: Duration = Duration::from_secs(1);

impl Server {
    /// Starts the server.
    pub fn start(self: &Rc<Self>) {
        self.inner.borrow_mut().started = Instant::now();
        self.check();
    }

    /// Starts a server that has failed, unless its last start was too recent.
    pub fn wake(self: &Rc<Self>) {
        if self.failed() && self.inner.borrow().started.elapsed() >= self.settings.spacing {
            self.restart();
        }
    }

    /// Waits for a process that no client has used, and takes it.
    pub async fn acquire(self: &Rc<Self>) -> Rc<Running> {
        loop {
            if let Some(running) = self.take() {
                return running;
            }
            // Not the change that an attempt to start one has made.
            let changed = self.changed.notified();
            // Another client's process may become unused meanwhile.
            let _ = timeout(AGAIN, changed).await;
        }
    }

    /// Returns how long a client should wait for the server's own answer to `initialize`.
    pub fn grace(&self) -> Duration {
        let inner = self.inner.borrow();
        let age = match &inner.spare {
            // Only `initialize` itself is left. Nothing better can be answered in the server's place before it was once.
            Some(spare) if spare.has_answered() => {
                return self.settings.grace * if inner.hello.is_some() { 1 } else { 5 };
            }
            Some(spare) => spare.started.elapsed(),
            None if inner.state == State::Starting => inner.started.elapsed(),
            None => Duration::ZERO,
        };
        // Not known before the first answer: half of the servers need less.
        let expected = inner.startup.map_or(self.settings.grace, |startup| startup + startup / 2);
        if expected.saturating_sub(age) <= SOON || (inner.startup.is_none() && age < expected) {
            self.settings.grace.saturating_sub(if inner.startup.is_none() { age } else { Duration::ZERO })
        } else {
            Duration::ZERO
        }
    }

    pub(super) fn restart(self: &Rc<Self>) {
        {
            let mut inner = self.inner.borrow_mut();
            if inner.stopping {
                return;
            }
            inner.state = State::Starting;
            inner.restarts += 1;
            inner.started = Instant::now();
        }
        self.report();
        self.check();
    }

    /// Takes the spare process or starts another one. Returns None if the server has failed or has too many processes.
    fn take(self: &Rc<Self>) -> Option<Rc<Running>> {
        let (spare, state, failures) = {
            let mut inner = self.inner.borrow_mut();
            if inner.stopping {
                return None;
            }
            (inner.spare.take(), inner.state, inner.failures)
        };
        let running = match spare {
            Some(spare) => {
                spare.taken.notify_one();
                Some(spare)
            }
            None if state == State::Failed || (state == State::Starting && failures > 0) => None,
            None if self.is_ending() => None,
            None if self.is_full() && !self.drop_checked() && !self.make_room() => None,
            None => self.launch(),
        };
        if let Some(running) = &running {
            running.used.set(true);
            if self.default {
                spawn_local(refill(Rc::clone(self), Rc::downgrade(running)));
            }
        }
        running
    }

    /// Ends the checked process to make room for another one; returns whether there was one.
    fn drop_checked(&self) -> bool {
        let checked = self.inner.borrow_mut().checked.take();
        if let Some(checked) = &checked {
            checked.running.taken.notify_one();
        }
        checked.is_some()
    }

    /// Starts a spare process, if there is none.
    pub(super) fn start_spare(self: &Rc<Self>) {
        let wanted = {
            let inner = self.inner.borrow();
            inner.spare.is_none() && !inner.stopping && inner.state == State::Running
        };
        if wanted
            && !self.is_full()
            && let Some(running) = self.launch()
        {
            self.keep_spare(running);
        }
    }

    /// Keeps a process that no client has used as the spare one, if there is none.
    pub(super) fn keep_spare(self: &Rc<Self>, running: Rc<Running>) {
        let mut inner = self.inner.borrow_mut();
        if inner.spare.is_some() {
            return;
        }
        inner.spare = Some(Rc::clone(&running));
        drop(inner);
        self.touch();
        spawn_local(async move { keep(&running).await });
    }

    pub(super) fn launch(self: &Rc<Self>) -> Option<Rc<Running>> {
        if self.inner.borrow().stopping {
            return None;
        }
        let link = match &self.launch {
            Launch::Program { argv, env } => link::spawn(&self.name, argv, env, &self.settings.workspace),
            Launch::Remote(remote) => Ok(link::connect(remote)),
        };
        match link {
            Ok(link) => {
                let running = Rc::new(Running::new(self, link));
                self.started_one(&running);
                Some(running)
            }
            Err(error) => {
                self.fail(format!("cannot be started: {}", reason(&error)), Ended::default());
                None
            }
        }
    }

    /// Sends a process `initialize`, and ends it if it does not answer.
    pub fn initialize(&self, running: &Rc<Running>, message: &Message) {
        running.was_asked(message.id());
        running.send(message);
        let (running, deadline) = (Rc::downgrade(running), self.settings.deadline);
        spawn_local(async move {
            sleep(deadline).await;
            if let Some(running) = running.upgrade()
                && !running.is_initialized()
            {
                running.kill(&format!("did not answer initialize in {} s", deadline.as_secs()));
            }
        });
    }
}

/// Starts another spare process once the one that a client has taken has started.
async fn refill(server: Rc<Server>, taken: Weak<Running>) {
    loop {
        let changed = server.changes();
        match taken.upgrade() {
            Some(running) if !running.has_answered() => {
                drop(running);
                tokio::select! {
                    () = changed => {}
                    () = sleep(Duration::from_secs(1)) => {}
                }
            }
            _ => break,
        }
    }
    // A server that starts quickly does not disturb its new client for long.
    let startup = server.inner.borrow().startup.unwrap_or_default();
    sleep(server.settings.refill.min(startup)).await;
    server.start_spare();
}
