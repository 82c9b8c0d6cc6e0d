//! Shows whether a server runs, and which versions of the protocol it knows.
//!
//! The first process is sent `ping`, see `ping`. If the gateway has to initialize it after all, it serves clients without a
//! session. `server/discover` is sent only if the server refuses `initialize`, or when the first client without a session comes:
//! some servers that do not know it write much about it, or end.

use std::rc::Rc;

use tokio::task::spawn_local;
use tokio::time::timeout;

use super::messages::{CHECK, DISCOVER, OWN_NAME, answers, discover, discovered, initialize_params};
use super::ping::Pings;
use super::{Running, Server};
use crate::json::{notification, quote, request};
use crate::report::{Priority, log};

/// Which versions a server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// It has not been asked for 2026-07-28.
    Unknown,
    /// Versions with sessions only.
    Sessions,
    /// 2026-07-28, and perhaps versions with sessions.
    Stateless,
}

/// A process that has been checked, and waits for its first use.
pub struct Checked {
    /// The process.
    pub running: Rc<Running>,
    /// Its result of `initialize`; none if it knows no versions with sessions.
    pub hello: Option<Rc<str>>,
}

impl Server {
    /// Starts a process and checks it.
    pub(super) fn check(self: &Rc<Self>) {
        self.check_by(self.may_ping());
    }

    /// Starts a process and checks it, first by `ping` or at once by `initialize`.
    pub(super) fn check_by(self: &Rc<Self>, may_ping: bool) {
        let Some(running) = self.launch() else { return };
        if may_ping {
            self.offer(&running);
        }
        let server = Rc::clone(self);
        spawn_local(async move {
            if may_ping && !server.keep_offered(&running).await {
                return;
            }
            let params = initialize_params(None, Some(OWN_NAME));
            server.initialize(&running, &request(&quote(CHECK), "initialize", &params));
            let refused = loop {
                let Some(message) = running.next_unused().await else { return };
                if !answers(&message, CHECK) {
                    continue;
                }
                match message.result() {
                    Some(hello) => {
                        let hello: Rc<str> = hello.into();
                        running.send(&notification("notifications/initialized", ""));
                        server.verified(&running, Some(hello));
                        break None;
                    }
                    None => break Some(message.error().unwrap_or_default().to_owned()),
                }
            };
            if refused.is_some() && may_ping {
                // Another process is asked for versions without sessions.
                server.inner.borrow_mut().pings = Pings::Refused;
                drop(running);
                server.check();
                return;
            }
            if let Some(error) = refused {
                match server.ask_for_discovery(&running).await {
                    Some(found) => {
                        server.set_discovered(Some(found));
                        server.verified(&running, None);
                    }
                    None => {
                        let error: String = error.chars().take(200).collect();
                        running.kill(&format!("refused to initialize: {error}"));
                    }
                }
            }
            keep(&running).await;
        });
    }

    /// Keeps a checked process for its first use, and starts the spare one.
    fn verified(self: &Rc<Self>, running: &Rc<Running>, hello: Option<Rc<str>>) {
        {
            let mut inner = self.inner.borrow_mut();
            // One that was sent `ping` has answered sooner, or its time is not known.
            if !running.pinged.get() {
                inner.startup = Some(running.started.elapsed());
            }
            if let Some(hello) = &hello {
                inner.hello = Some(Rc::clone(hello));
            }
            inner.checked = Some(Checked { running: Rc::clone(running), hello });
        }
        self.touch();
        if self.default && !self.is_discovering() {
            self.start_spare();
        }
    }

    /// Takes the checked process, if it speaks without a session, or with one.
    pub fn take_checked(&self, stateless: bool) -> Option<Checked> {
        let checked = self.inner.borrow_mut().checked.take_if(|checked| stateless == checked.hello.is_none())?;
        checked.running.taken.notify_one();
        Some(checked)
    }

    /// Returns whether a process is being asked for 2026-07-28. It then becomes the spare one.
    fn is_discovering(&self) -> bool {
        let inner = self.inner.borrow();
        inner.discovering && inner.era == Era::Unknown
    }

    /// Finds out whether the server knows the version without sessions.
    pub async fn find_era(self: &Rc<Self>) {
        loop {
            let changed = self.changes();
            if self.era() != Era::Unknown {
                return;
            }
            let begin = {
                let mut inner = self.inner.borrow_mut();
                !std::mem::replace(&mut inner.discovering, true)
            };
            if begin {
                self.withdraw_offered();
                let server = Rc::clone(self);
                // The client may go meanwhile.
                spawn_local(async move {
                    let running = server.acquire().await;
                    let found = server.ask_for_discovery(&running).await;
                    server.set_discovered(found);
                    match running.end() {
                        // The server goes on: it only does not know the request.
                        Some(end) => {
                            let text = format!("server {} {} when it was sent server/discover", server.name, end.why());
                            log(Priority::Info, &text);
                        }
                        None if running.has_answered() => server.keep_spare(running),
                        // It may read nothing more.
                        None => log(Priority::Info, &format!("server {} did not answer server/discover", server.name)),
                    }
                });
            }
            changed.await;
        }
    }

    /// Sends a process `server/discover`; returns the result. There is none if it does not answer in time, or ends.
    async fn ask_for_discovery(&self, running: &Rc<Running>) -> Option<String> {
        running.send(&discover(DISCOVER));
        let answer = async {
            loop {
                let message = running.next_quietly().await?;
                running.decline(&message);
                if answers(&message, DISCOVER) {
                    return discovered(&message).map(str::to_owned);
                }
            }
        };
        timeout(self.settings.discovery, answer).await.ok().flatten()
    }

    fn set_discovered(&self, found: Option<String>) {
        let versions = if found.is_some() { "2026-07-28" } else { "only versions of the protocol with sessions" };
        log(Priority::Info, &format!("server {} knows {versions}", self.name));
        let mut inner = self.inner.borrow_mut();
        inner.era = if found.is_some() { Era::Stateless } else { Era::Sessions };
        inner.discovered = found.map(Into::into);
        drop(inner);
        self.touch();
    }
}

/// Reads what a process says until somebody takes it. It is for nobody.
pub(super) async fn keep(running: &Rc<Running>) {
    loop {
        tokio::select! {
            biased;
            () = running.taken.notified() => return,
            message = running.next_unused() => if message.is_none() { return },
        }
    }
}
