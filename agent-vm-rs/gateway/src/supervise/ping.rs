//! The first process of a server. It is sent only `ping`, so that the first client with a session can use it.
//!
//! The process gets the gateway's `initialize` as well (see `check`) if it refuses `ping`, does not answer in time, or when the
//! first client without a session comes. Some servers end at a `ping` that comes early: they are started again without it, as
//! are those that answer it and end before they answer `initialize`, so that their state is `failed` until they do. A
//! process that was sent `ping` is never sent `server/discover`: some servers keep to the versions of the first message.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::check::Era;
use super::messages::{PING, answers, ping};
use super::{Running, Server};
use crate::config::Launch;
use crate::json::Message;
use crate::report::State;

/// Whether a server answers `ping` before `initialize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pings {
    /// It has not been asked.
    Unknown,
    /// It does.
    Answered,
    /// It does not, or it ends before it has answered `initialize`.
    Refused,
}

/// How long a process is waited for that has not answered `ping`: for the time limit, and longer while it works, because many
/// servers that start at once in an emulated machine need minutes.
struct Patience {
    limit: Duration,
    began: Instant,
    /// Its processor time at the last look.
    used: Option<Duration>,
}

impl Patience {
    /// Looks in a time limit, and maximal number of time limits.
    const LOOKS: u32 = 10;
    const MOST: u32 = 5;
    /// Part of a processor, as a divisor, that a process uses if it works.
    const WORK: u32 = 20;

    fn new(limit: Duration) -> Self {
        Self { limit, began: Instant::now(), used: None }
    }

    /// Returns the time until the first look, which is followed by one at the time limit.
    fn first(&self) -> Duration {
        self.limit - self.interval()
    }

    fn interval(&self) -> Duration {
        self.limit / Self::LOOKS
    }

    fn goes_on(&mut self, running: &Running) -> bool {
        let now = running.processor_time();
        let before = std::mem::replace(&mut self.used, now);
        let works =
            |before: Duration| now.is_some_and(|now| now.saturating_sub(before) >= self.interval() / Self::WORK);
        // At the first look there is nothing to compare.
        before.map_or(self.began.elapsed() < self.limit, works) && self.began.elapsed() < self.limit * Self::MOST
    }
}

impl Server {
    /// Returns whether the next process to be checked is sent `ping`.
    pub(super) fn may_ping(&self) -> bool {
        let inner = self.inner.borrow();
        matches!(self.launch, Launch::Program { .. })
            && inner.pings != Pings::Refused
            && !inner.discovering
            && inner.spare.is_none()
    }

    /// Keeps a process that was sent `ping` until a client takes it. Returns whether the gateway must initialize it.
    pub(super) async fn keep_offered(self: &Rc<Self>, running: &Rc<Running>) -> bool {
        let mut patience = Patience::new(self.settings.ping);
        let limit = sleep(patience.first());
        tokio::pin!(limit);
        let mut in_time = true;
        loop {
            tokio::select! {
                biased;
                () = running.taken.notified() => return running.withdrawn.get(),
                () = &mut limit, if in_time => {
                    // It may have answered `ping` meanwhile, which is no message for anybody.
                    in_time = !running.has_answered();
                    if in_time && patience.goes_on(running) {
                        limit.as_mut().reset(Instant::now() + patience.interval());
                    } else if in_time {
                        in_time = false;
                        self.withdraw(running);
                    }
                }
                // It is for nobody.
                message = running.next_unused() => if message.is_none() { return false },
            }
        }
    }

    /// Sends a new process `ping`, and offers it to clients with sessions.
    pub(super) fn offer(&self, running: &Rc<Running>) {
        running.pinged.set(true);
        running.awaits_pong.set(true);
        running.send(&ping());
        self.inner.borrow_mut().spare = Some(Rc::clone(running));
        self.touch();
    }

    /// Has the gateway initialize a process that was sent `ping`, unless a client has taken it.
    fn withdraw(&self, running: &Rc<Running>) {
        let offered = self.inner.borrow_mut().spare.take_if(|spare| Rc::ptr_eq(spare, running));
        if offered.is_some() {
            running.withdrawn.set(true);
            running.taken.notify_one();
        }
    }

    /// The same for the spare process, if that was sent `ping`.
    pub(super) fn withdraw_offered(&self) {
        let offered = self.inner.borrow().spare.clone().filter(|spare| spare.pinged.get());
        if let Some(offered) = offered {
            self.withdraw(&offered);
        }
    }

    /// Handles the first answer of a process that was sent `ping`.
    pub(super) fn first_answer(&self, running: &Rc<Running>, message: &Message) {
        let answered = answers(message, PING) && message.result().is_some();
        {
            let mut inner = self.inner.borrow_mut();
            inner.pings = if answered { Pings::Answered } else { Pings::Refused };
            if answered {
                inner.startup = Some(running.started.elapsed());
            } else if inner.discovered.is_none() {
                // What is known of the server may be wrong.
                inner.era = Era::Unknown;
            }
        }
        if !answered {
            self.withdraw(running);
        }
    }

    /// Checks the server by `initialize`, because the client that had taken the process went before that was answered. The next
    /// client might do the same.
    pub(super) fn check_again(self: &Rc<Self>) {
        let inner = self.inner.borrow();
        let wanted = !inner.stopping && inner.state != State::Failed && inner.checked.is_none();
        drop(inner);
        if wanted {
            self.check_by(false);
        }
    }

    /// Records the end of a process: if it was sent `ping` and has not answered `initialize`, the next one is not sent `ping`,
    /// which would show nothing. Returns whether `ping` ended it, as far as is known.
    pub(super) fn ended_at_ping(&self, running: &Running) -> bool {
        if !running.pinged.get() || running.is_initialized() {
            return false;
        }
        let before = std::mem::replace(&mut self.inner.borrow_mut().pings, Pings::Refused);
        !running.has_answered() && before == Pings::Unknown
    }
}
