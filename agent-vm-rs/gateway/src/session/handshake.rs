//! `initialize`: answered by the server if it does so soon, else in its place.

use std::rc::Rc;

use tokio::task::spawn_local;
use tokio::time::sleep;

use super::conversation::Session;
use super::stand_in::{LISTS, greeting, recalled, same};
use crate::era::Translator;
use crate::json::{Id, Message, Object, notification, quote, request, result};
use crate::supervise::{Era, Running, discover, discovered};

/// How far a session is with its process.
#[derive(Debug, PartialEq)]
pub(super) enum Phase {
    /// It has none.
    Down,
    /// The process has been sent nothing.
    Fresh,
    /// The process has been sent `initialize`, with this identity.
    Greeting(Id),
    /// The process has refused `initialize` with this error, and has been sent `server/discover`.
    Discovering(String),
    /// Messages pass.
    Ready,
}

impl Phase {
    /// Returns whether messages of the client are passed on.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self, Phase::Ready)
    }
}

/// The client's `initialize`.
pub(super) struct Hello {
    pub(super) request: Message,
    pub(super) answered: bool,
}

const DISCOVER: &str = "agent-mcp-session-discover";

impl Session {
    /// Handles the client's `initialize`.
    pub(super) fn greet(self: &Rc<Self>, message: Message) {
        let running = {
            let mut state = self.state.borrow_mut();
            state.hello = Some(Hello { request: message, answered: false });
            state.running.clone().filter(|_| state.phase == Phase::Fresh)
        };
        if let Some(running) = running {
            self.send_initialize(&running);
        }
        // The question whether a server answers does not start it.
        if self.wanted.get() {
            self.server.wake();
        }
        if self.server.failed() {
            self.stand_in();
            return;
        }
        let grace = self.server.grace();
        if !self.wanted.get() || grace.is_zero() {
            self.stand_in();
            return;
        }
        let session = Rc::downgrade(self);
        spawn_local(async move {
            sleep(grace).await;
            if let Some(session) = session.upgrade() {
                session.stand_in();
            }
        });
    }

    /// Answers the client's `initialize` in the server's place, unless it has been answered.
    pub(super) fn stand_in(self: &Rc<Self>) {
        let answer = {
            let mut state = self.state.borrow_mut();
            let Some(hello) = state.hello.as_mut().filter(|hello| !hello.answered) else { return };
            hello.answered = true;
            let (id, params) = (hello.request.raw_id().to_owned(), hello.request.params());
            let translated = |found: Rc<str>| Translator::new(&self.server.name, &found, params).greeting();
            let remembered = self.server.hello().or_else(|| self.server.discovered().map(translated).map(Rc::from));
            let answer = match &remembered {
                Some(remembered) => recalled(remembered, params),
                None => greeting(&self.server.name, params),
            };
            state.promised = true;
            state.remembered = remembered;
            result(&id, &answer)
        };
        self.tell(answer);
    }

    /// Sends a fresh process the client's `initialize`.
    pub(super) fn send_initialize(self: &Rc<Self>, running: &Rc<Running>) {
        let mut state = self.state.borrow_mut();
        let starts = state.starts;
        let Some(hello) = &state.hello else { return };
        let message = if hello.answered {
            let id = quote(&format!("agent-mcp-initialize-{starts}"));
            request(&id, "initialize", hello.request.params().unwrap_or("{}"))
        } else {
            hello.request.clone()
        };
        self.server.initialize(running, &message);
        if let Some(id) = message.id() {
            state.phase = Phase::Greeting(id.clone());
        }
    }

    /// Handles the client's `notifications/initialized`.
    pub(super) fn client_initialized(self: &Rc<Self>, message: &Message) {
        let state = &mut *self.state.borrow_mut();
        // A server that has not answered `initialize` gets it afterwards.
        if !state.initialized
            && state.phase.is_ready()
            && state.translator.is_none()
            && let Some(running) = &state.running
        {
            running.send(message);
        }
        state.initialized = true;
    }

    /// Handles a message of a server that is not ready. Returns it if it is for the client.
    pub(super) fn shake_hands(self: &Rc<Self>, message: Message) -> Option<Message> {
        let (running, refused) = {
            let state = self.state.borrow();
            let (Some(running), Some(id), None) = (&state.running, message.id(), message.method()) else {
                return Some(message);
            };
            match &state.phase {
                Phase::Greeting(expected) if expected == id => (Rc::clone(running), None),
                Phase::Discovering(error) if id.text() == Some(DISCOVER) => (Rc::clone(running), Some(error.clone())),
                Phase::Ready => return Some(message),
                // The client's requests were not passed on. It may be an answer to a `ping` of the gateway.
                _ => return None,
            }
        };
        self.step(&running, message, refused)
    }

    fn step(self: &Rc<Self>, running: &Rc<Running>, message: Message, refused: Option<String>) -> Option<Message> {
        let Some(error) = refused else {
            return match message.error() {
                None => self.agreed(running, message),
                Some(error) => self.refused(running, error.to_owned()),
            };
        };
        match discovered(&message) {
            Some(found) => self.translate(running, found),
            None => self.not_understood(running, &error),
        }
    }

    /// Handles the server's answer to `initialize`.
    fn agreed(self: &Rc<Self>, running: &Rc<Running>, message: Message) -> Option<Message> {
        let late = {
            let state = &mut *self.state.borrow_mut();
            let object = Object::or_empty(message.result());
            state.capabilities = object.get("capabilities").unwrap_or("{}").to_owned();
            state.phase = Phase::Ready;
            state.translator = None;
            let params = state.hello.as_ref().and_then(|hello| hello.request.params());
            let asked = Object::or_empty(params).text("protocolVersion");
            self.server.remember(message.result().unwrap_or("{}"), asked.as_deref());
            let same = state.remembered.take().is_some_and(|remembered| same(&remembered, message.result()));
            let late = state.hello.as_mut().is_some_and(|hello| std::mem::replace(&mut hello.answered, true));
            if late && state.initialized {
                running.send(&notification("notifications/initialized", ""));
            }
            (late, same)
        };
        let (late, same) = late;
        self.ready(running, late && !same);
        (!late).then_some(message)
    }

    /// Handles the server's refusal of `initialize`: it may know only the version without sessions.
    fn refused(self: &Rc<Self>, running: &Rc<Running>, error: String) -> Option<Message> {
        if let Some(found) = self.server.discovered() {
            return self.translate(running, &found);
        }
        if self.server.era() == Era::Sessions {
            return self.not_understood(running, &error);
        }
        self.state.borrow_mut().phase = Phase::Discovering(error);
        running.send(&discover(DISCOVER));
        None
    }

    /// Handles that the server knows only the version without sessions.
    fn translate(self: &Rc<Self>, running: &Rc<Running>, found: &str) -> Option<Message> {
        let (late, answer, steps) = {
            let state = &mut *self.state.borrow_mut();
            let hello = state.hello.as_mut()?;
            let mut translator = Translator::new(&self.server.name, found, hello.request.params());
            let answer = result(hello.request.raw_id(), &translator.greeting());
            let late = std::mem::replace(&mut hello.answered, true);
            state.capabilities = Object::or_empty(Some(found)).get("capabilities").unwrap_or("{}").to_owned();
            state.phase = Phase::Ready;
            let steps = translator.listen();
            state.translator = Some(translator);
            (late, answer, steps)
        };
        for message in steps {
            running.send(&message);
        }
        self.ready(running, late);
        (!late).then_some(answer)
    }

    /// Handles that the server knows neither `initialize` nor `server/discover`.
    fn not_understood(self: &Rc<Self>, running: &Rc<Running>, error: &str) -> Option<Message> {
        let mut state = self.state.borrow_mut();
        let hello = state.hello.as_mut()?;
        if std::mem::replace(&mut hello.answered, true) {
            let error: String = error.chars().take(200).collect();
            running.kill(&format!("refused to initialize: {error}"));
            return None;
        }
        // The client may try again.
        let answer = crate::json::raw_error(hello.request.raw_id(), error);
        state.hello = None;
        state.phase = Phase::Fresh;
        Some(answer)
    }

    /// Sends what waits for the server, and tells the client that lists may differ from what it knows.
    fn ready(self: &Rc<Self>, running: &Rc<Running>, late: bool) {
        self.ask_again(running);
        if late {
            for list in LISTS {
                self.tell(notification(&format!("notifications/{list}/list_changed"), ""));
            }
        }
        self.release_waiting();
    }
}
