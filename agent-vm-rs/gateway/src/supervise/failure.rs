//! What follows when a process ends by itself.

use std::rc::Rc;

use tokio::task::spawn_local;
use tokio::time::sleep;

use super::{Running, Server};
use crate::link::Ended;
use crate::report::{Priority, State, log};

impl Server {
    /// Records that a process has ended by itself; returns why requests to it are not answered.
    pub(super) fn ended(self: &Rc<Self>, running: &Rc<Running>, end: Ended) -> String {
        self.released(running.has_answered());
        let why = end.why();
        let explanation = self.has_failed(&why, &end.last_line);
        let at_ping = self.ended_at_ping(running) && end.verdict.is_none() && !end.left_input;
        // One that ends at `initialize` shows nothing by its answer to `ping`.
        let answered = running.has_answered() && !running.is_asked();
        let had_session = {
            let mut inner = self.inner.borrow_mut();
            if inner.stopping {
                return explanation;
            }
            inner.spare.take_if(|spare| Rc::ptr_eq(spare, running));
            inner.checked.take_if(|checked| Rc::ptr_eq(&checked.running, running));
            if answered && running.was_steady() {
                inner.failures = 0;
            }
            // The session itself starts another process.
            answered && running.used.get() && !inner.discovering
        };
        if had_session {
            self.counts(&why);
        } else if answered && (self.answering.get() > 0 || self.inner.borrow().failures == 0) {
            self.goes_on(&why);
        } else if at_ping {
            log(Priority::Info, &format!("server {} {why} when it was sent ping; starting it without", self.name));
            self.check();
        } else {
            self.fail(why, end);
        }
        explanation
    }

    /// Records that a process has ended which does not show that others will.
    fn goes_on(self: &Rc<Self>, why: &str) {
        if self.answering.get() > 0 {
            self.counts(why);
        } else {
            self.warn_of_end(why);
            self.inner.borrow_mut().failures = 1;
            self.restart();
        }
    }

    /// Counts the end of a process after which nothing is to be started.
    fn counts(&self, why: &str) {
        self.warn_of_end(why);
        self.inner.borrow_mut().restarts += 1;
        self.report();
    }

    fn warn_of_end(&self, why: &str) {
        log(Priority::Warning, &format!("server {}: one of its processes {why}", self.name));
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

    /// Returns that the server has failed, as a sentence.
    pub(super) fn has_failed(&self, why: &str, last_line: &str) -> String {
        let last = if last_line.is_empty() { String::new() } else { format!("; its last line was: {last_line}") };
        format!("The MCP server {} has failed: it {why}{last}. For details: agent-vm logs", self.name)
    }
}
