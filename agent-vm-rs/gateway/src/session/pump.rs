//! Passes a server's messages to the client, and gives a session another process when its own ends.

use std::rc::Rc;

use tokio::time::sleep;

use super::conversation::Session;
use super::handshake::Phase;
use crate::era::Step;
use crate::json::{Message, Object, notification, quote};
use crate::report::{Priority, log};
use crate::supervise::Running;

/// Runs until the session ends.
pub(super) async fn run(session: Rc<Session>) {
    let mut failures = 0;
    while !session.wanted.get() {
        session.wants.notified().await;
    }
    loop {
        let running = tokio::select! {
            running = session.server.acquire() => running,
            () = failure(&session) => {
                session.stand_in();
                session.release_waiting();
                session.server.changes().await;
                continue;
            }
        };
        session.attach(&running);
        while let Some(message) = running.next().await {
            session.from_server(message).await;
        }
        let why = running.explain();
        if running.was_steady() {
            failures = 0;
        }
        drop(running);
        session.detach(&why);
        if !session.server.failed() {
            // Other processes of the server run, so that it does not pause itself.
            if failures > 0 {
                sleep(session.server.settings.pause(failures)).await;
            }
            failures += 1;
        }
    }
}

/// Waits until the server has failed.
async fn failure(session: &Session) {
    while !session.server.failed() {
        session.server.changes().await;
    }
}

impl Session {
    fn attach(self: &Rc<Self>, running: &Rc<Running>) {
        {
            let mut state = self.state.borrow_mut();
            state.running = Some(Rc::clone(running));
            state.starts += 1;
            state.phase = Phase::Fresh;
        }
        self.send_initialize(running);
    }

    async fn from_server(self: &Rc<Self>, message: Message) {
        let Some(message) = self.shake_hands(message) else { return };
        if self.state.borrow_mut().wishes.is_answer(&message) {
            return;
        }
        log(Priority::Debug, &format!("{}: to client: {}", self.server.name, message.method().unwrap_or("answer")));
        let steps = {
            let mut state = self.state.borrow_mut();
            match &mut state.translator {
                Some(translator) => translator.from_server(message),
                None => vec![Step::ToClient(message)],
            }
        };
        self.take_steps(steps).await;
    }

    async fn take_steps(self: &Rc<Self>, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::ToClient(message) => {
                    if let (Some(id), None) = (message.id(), message.method()) {
                        let asked = self.state.borrow_mut().open.remove(id);
                        if let Some(asked) = asked {
                            self.server.count(asked, message.error().is_some());
                        }
                    }
                    self.outbox.deliver(&message).await;
                }
                Step::ToClientWith(request, message) => self.outbox.deliver_with(&request, &message).await,
                Step::ToServer(message) => {
                    let running = self.state.borrow().running.clone();
                    if let Some(running) = running {
                        running.send(&message);
                    }
                }
            }
        }
    }

    /// Sends the server a message of the client; returns false if it cannot be sent.
    pub(super) fn to_server(self: &Rc<Self>, message: &Message) -> bool {
        let state = &mut *self.state.borrow_mut();
        let Some(running) = &state.running else { return false };
        let Some(translator) = &mut state.translator else { return running.send(message) };
        let mut sent = true;
        for step in translator.from_client(message) {
            match step {
                Step::ToServer(message) => sent &= running.send(&message),
                Step::ToClient(message) | Step::ToClientWith(_, message) => self.tell(message),
            }
        }
        sent
    }

    /// Answers what the server has not, and tells the client.
    fn detach(self: &Rc<Self>, why: &str) {
        let (open, was_ready, logs) = {
            let mut state = self.state.borrow_mut();
            state.running = None;
            state.translator = None;
            let was_ready = std::mem::replace(&mut state.phase, Phase::Down).is_ready();
            let logs = state.promised || Object::or_empty(Some(&state.capabilities)).has("logging");
            (std::mem::take(&mut state.open), was_ready, logs)
        };
        for id in open.into_keys() {
            self.refuse_because(&id.to_json(), why);
        }
        if self.server.failed() {
            self.stand_in();
            self.release_waiting();
        }
        if was_ready && logs {
            let text = quote(why);
            let params = format!(r#"{{"level":"error","logger":"agent-mcp","data":{text}}}"#);
            self.tell(notification("notifications/message", &params));
        }
    }
}
