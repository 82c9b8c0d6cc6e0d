//! Starting processes. A spare one makes the first session quick, and shows whether the server runs.

use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use tokio::task::spawn_local;
use tokio::time::sleep;

use super::probe::{Era, Probe, ping};
use super::{Running, Server};
use crate::config::Launch;
use crate::link::{self, Ended};
use crate::report::State;

/// Time for the answer to `server/discover` after that to another request.
const LATE: Duration = Duration::from_millis(500);
/// Time for an answer to `server/discover` alone.
const PING_AFTER: Duration = Duration::from_secs(3);

impl Server {
    /// Starts the server.
    pub fn start(self: &Rc<Self>) {
        self.inner.borrow_mut().started = Instant::now();
        self.launch_spare();
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
            let changed = self.changed.notified();
            if let Some(running) = self.take() {
                return running;
            }
            changed.await;
        }
    }

    /// Takes the spare process or starts another one. Returns None if the server has failed, if it has too many processes, or
    /// if another client waits for its restart.
    pub fn take(self: &Rc<Self>) -> Option<Rc<Running>> {
        let spare = {
            let mut inner = self.inner.borrow_mut();
            if inner.stopping {
                return None;
            }
            inner.spare.take_if(|spare| spare.probe.get() != Some(Probe::Initialize))
        };
        let (state, failures) = (self.state(), self.inner.borrow().failures);
        let running = match spare {
            Some(spare) => {
                spare.taken.notify_one();
                Some(spare)
            }
            None if self.is_full() => None,
            None if state == State::Running || (state == State::Starting && failures == 0) => self.launch(),
            None => None,
        };
        if running.is_some() && self.default {
            self.refill();
        }
        running
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
        self.launch_spare();
    }

    /// Starts a server again that may have ended because of what it was asked; returns whether it did.
    pub(super) fn ask_less(self: &Rc<Self>, running: &Rc<Running>) -> bool {
        let Some(less) = running.probe.get().and_then(Probe::next) else { return false };
        self.inner.borrow_mut().probe = less;
        self.launch_spare();
        true
    }

    /// Starts another spare process once the server is not busy with its new client.
    fn refill(self: &Rc<Self>) {
        let server = Rc::clone(self);
        spawn_local(async move {
            sleep(server.settings.refill).await;
            let wanted = server.state() == State::Running && server.inner.borrow().spare.is_none();
            if wanted && !server.is_full() {
                server.launch_spare();
            }
        });
    }

    /// Concludes that a server which has answered something else knows no `server/discover`.
    pub(super) fn conclude_soon(self: &Rc<Self>) {
        let server = Rc::clone(self);
        spawn_local(async move {
            sleep(LATE).await;
            server.assume_sessions();
        });
    }

    /// Replaces a spare process that can no longer be used for all versions.
    pub(super) fn replace_spare(self: &Rc<Self>, running: &Running) {
        let spoilt = self.inner.borrow_mut().spare.take_if(|spare| std::ptr::eq(&raw const **spare, running));
        if let Some(spoilt) = spoilt {
            spoilt.taken.notify_one();
            self.launch_spare();
        }
    }

    fn launch_spare(self: &Rc<Self>) {
        let Some(running) = self.launch() else { return };
        let (probe, era) = {
            let inner = self.inner.borrow();
            (inner.probe, inner.era)
        };
        let probe = if era == Era::Sessions && probe == Probe::Discover { Probe::Ping } else { probe };
        running.probe.set(Some(probe));
        running.send(&probe.request());
        self.inner.borrow_mut().spare = Some(Rc::clone(&running));
        self.changed.notify_waiters();
        spawn_local(watch(Rc::clone(self), running));
    }

    fn launch(self: &Rc<Self>) -> Option<Rc<Running>> {
        let link = match &self.launch {
            Launch::Program { argv, env } => link::spawn(&self.name, argv, env, &self.settings.workspace),
            Launch::Remote(remote) => Ok(link::connect(remote)),
        };
        match link {
            Ok(link) => {
                let running = Rc::new(Running::new(self, link));
                self.started_one(&running);
                spawn_local(limit(Rc::downgrade(&running), self.settings.deadline));
                Some(running)
            }
            Err(error) => {
                self.fail(format!("cannot be started: {error}"), Ended::default());
                None
            }
        }
    }
}

/// Ends a process that does not answer.
async fn limit(running: Weak<Running>, deadline: Duration) {
    sleep(deadline).await;
    if let Some(running) = running.upgrade()
        && !running.has_answered()
    {
        running.kill(&format!("did not answer initialize in {} s", deadline.as_secs()));
    }
}

/// Reads the answers of a spare process until a client takes it. What else it says is for nobody.
async fn watch(server: Rc<Server>, running: Rc<Running>) {
    if running.probe.get() == Some(Probe::Discover) {
        spawn_local(ping_later(Rc::clone(&server), Rc::downgrade(&running)));
    }
    loop {
        let changed = server.changes();
        if running.probe.get() == Some(Probe::Initialize) && running.has_answered() {
            // It has shown that the server runs.
            server.inner.borrow_mut().spare.take_if(|spare| Rc::ptr_eq(spare, &running));
            return;
        }
        tokio::select! {
            message = running.next() => if message.is_none() { return },
            () = running.taken.notified() => return,
            () = changed => {}
        }
    }
}

/// Sends a spare process a ping if it does not answer anything else.
async fn ping_later(server: Rc<Server>, running: Weak<Running>) {
    sleep(PING_AFTER).await;
    let Some(running) = running.upgrade() else { return };
    let is_spare = server.inner.borrow().spare.as_ref().is_some_and(|spare| Rc::ptr_eq(spare, &running));
    if is_spare && !running.has_answered() && server.era() == Era::Unknown {
        running.pinged.set(true);
        running.send(&ping());
    }
}
