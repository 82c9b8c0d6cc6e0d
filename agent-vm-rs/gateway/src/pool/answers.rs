//! What a process of a pool says, and for which call.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;

use super::Pool;
use super::call::{Call, INTERNAL_ERROR};
use super::member::Member;
use crate::era::{Meta, SUBSCRIPTION, capability, modernized, required_elicitations};
use crate::json::{Id, Kind, METHOD_NOT_FOUND, Message, Object, error, result};

/// Time after which a client that does not read loses its call, if others use the process.
const UNREAD: Duration = Duration::from_secs(5);

/// Levels of log messages, from the least important one.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

impl Member {
    /// Handles a message of the server.
    pub(super) async fn from_server(self: &Rc<Self>, pool: &Rc<Pool>, message: Message) {
        match message.kind() {
            Kind::Answer { id } => {
                let Some(call) = id.number().and_then(|number| self.find(number)) else { return };
                self.answered(pool, &call, &message).await;
            }
            Kind::Request { method, .. } => self.asked(pool, method.clone(), message),
            Kind::Notification { method } => match method.as_str() {
                "notifications/progress" => self.progress(&message).await,
                "notifications/message" => self.logged(&message).await,
                "notifications/cancelled" => self.cancelled(pool, &message),
                _ if self.stateless => self.subscribed(&message).await,
                _ => pool.notify(method, &message).await,
            },
        }
    }

    fn find(&self, number: u64) -> Option<Rc<Call>> {
        self.calls.borrow().get(&number).cloned()
    }

    async fn answered(self: &Rc<Self>, pool: &Rc<Pool>, call: &Rc<Call>, message: &Message) {
        let answer = if self.stateless {
            let (number, id) = (call.number.to_string(), call.face.borrow().id.clone());
            message
                .result()
                .and_then(|result| renamed(result, &number, &id))
                .map_or(message.clone(), |result| message.with_result(&result))
        } else {
            let hello = self.hello().unwrap_or_else(|| "{}".into());
            modernized(message, call.method(), &hello)
        };
        if let Some(result) = message.result().filter(|_| call.method() == "tools/list") {
            pool.learn_headers(result);
        }
        if call.is_copy {
            self.remove(pool, call.number);
            return;
        }
        if call.parked.get() {
            call.late.replace(Some(answer));
            return;
        }
        self.remove(pool, call.number);
        if !call.is_subscription() {
            pool.server.count(call.began, message.error().is_some());
        }
        if !self.stateless
            && takes_urls(&call.meta)
            && let Some(wanted) = required_elicitations(message)
        {
            pool.send_questions(self, call, wanted, true).await;
            return;
        }
        self.unless_stuck(pool, call, call.answer(&answer)).await;
        // It may have been stuck.
        call.stream().finish();
    }

    /// Waits for a client that does not read, but not for ever if others use the process.
    async fn unless_stuck(&self, pool: &Pool, call: &Rc<Call>, sending: impl Future<Output = ()>) {
        if self.exclusive.get() {
            sending.await;
        } else if timeout(UNREAD, sending).await.is_err() {
            self.cancel(pool, call, "the client does not read");
        }
    }

    async fn progress(&self, message: &Message) {
        let mut params = Object::or_empty(message.params());
        let number = params.get("progressToken").and_then(|token| Id::of(token).number());
        let Some(call) = number.and_then(|number| self.find(number)) else { return };
        let token = call.face.borrow().token.as_ref().map(Id::to_json);
        let Some(token) = token else { return };
        params.set("progressToken", token);
        let sending = call.stream();
        let message = message.with_params(&params.to_string());
        // A client that does not read delays only itself: others lose nothing by this call's progress.
        let _ = timeout(UNREAD, sending.push(message.raw().clone())).await;
    }

    async fn logged(&self, message: &Message) {
        let only = {
            let calls = self.calls.borrow();
            let mut wanting = calls.values().filter(|call| call.meta.level.is_some());
            (wanting.next().cloned(), wanting.next().is_some())
        };
        let (Some(call), false) = only else { return };
        let rank = |level: Option<String>| LEVELS.iter().position(|known| level.as_deref() == Some(*known));
        let wanted = call.meta.level.as_deref().and_then(|level| serde_json::from_str(level).ok());
        if rank(Object::or_empty(message.params()).text("level")) >= rank(wanted) {
            call.stream().push(message.raw().clone()).await;
        }
    }

    /// Handles the end of a question of the server, or of a subscription.
    fn cancelled(&self, pool: &Pool, message: &Message) {
        let params = Object::or_empty(message.params());
        let Some(id) = params.get("requestId").map(Id::of) else { return };
        for call in self.calls.borrow().values() {
            call.asked.borrow_mut().retain(|(_, asked)| asked.id() != Some(&id));
        }
        if self.stateless
            && let Some(call) = id.number().and_then(|number| self.remove(pool, number))
            && !call.is_copy
        {
            call.stream().finish();
        }
    }

    /// Handles a request of the server.
    fn asked(self: &Rc<Self>, pool: &Rc<Pool>, method: String, message: Message) {
        if method == "ping" {
            self.send(&result(message.raw_id(), "{}"));
            return;
        }
        let only = {
            let calls = self.calls.borrow();
            calls.values().next().filter(|_| calls.len() == 1).cloned()
        };
        let supported = |call: &Call| {
            let capabilities = Object::or_empty(call.meta.capabilities.as_deref());
            capability(&method).is_some_and(|capability| capabilities.has(capability))
        };
        match only {
            Some(call) if self.exclusive.get() && supported(&call) => self.ask(pool, &call, message),
            _ => {
                let text = format!("the client does not support {method}");
                self.send(&error(message.raw_id(), METHOD_NOT_FOUND, &text));
            }
        }
    }

    /// Handles a notification of a server without sessions, which names its subscription.
    async fn subscribed(&self, message: &Message) {
        let mut params = Object::or_empty(message.params());
        let meta = params.object("_meta").unwrap_or_default();
        let Some(number) = meta.get(SUBSCRIPTION).and_then(|id| Id::of(id).number()) else { return };
        let Some(call) = self.find(number) else { return };
        if call.is_copy && message.method() == Some("notifications/subscriptions/acknowledged") {
            return;
        }
        let id = call.face.borrow().id.clone();
        let mut meta = meta;
        meta.set(SUBSCRIPTION, id);
        let meta = meta.to_string();
        params.set("_meta", meta);
        let message = message.with_params(&params.to_string());
        if timeout(UNREAD, call.stream().push(message.raw().clone())).await.is_err() {
            call.fail(INTERNAL_ERROR, "the client does not read");
        }
    }
}

/// Returns whether a client shows its user URLs.
fn takes_urls(meta: &Meta) -> bool {
    let capabilities = Object::or_empty(meta.capabilities.as_deref());
    capabilities.object("elicitation").is_some_and(|elicitation| elicitation.has("url"))
}

/// Returns a result that names its subscription with the client's identity of it; None for other results.
fn renamed(result: &str, number: &str, id: &str) -> Option<String> {
    if !result.contains(SUBSCRIPTION) {
        return None;
    }
    let mut object = Object::parse(result)?;
    let meta = object.get("_meta")?.to_owned();
    let mut meta = Object::parse(&meta)?;
    if meta.get(SUBSCRIPTION) != Some(number) {
        return None;
    }
    meta.set(SUBSCRIPTION, id);
    object.set("_meta", meta.to_string());
    Some(object.to_string())
}
