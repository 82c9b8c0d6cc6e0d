//! Calls of which the server asks the client for inputs: the client gets the questions as the result, and sends the answers with
//! another request.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::sleep;

use super::Pool;
use super::call::{Call, Face, OpenCall};
use super::member::Member;
use crate::era::Wanted;
use crate::json::{Message, Object, error, quote, result};
use crate::session::unguessable;

/// Time in which a server may ask for more than one input.
const TOGETHER: Duration = Duration::from_millis(10);
const INVALID_PARAMS: i64 = -32602;

/// A call whose client was asked for inputs.
pub struct Parked {
    member: Rc<Member>,
    call: Rc<Call>,
    /// Whether the server has refused the call until the client has done something, so that it is sent again.
    again: bool,
}

/// What a request is.
pub(super) enum Retry {
    /// No retry, or one that the server itself understands.
    Not,
    /// The rest of a call.
    Rest(Result<OpenCall, Message>),
    /// A call to be sent from the start.
    Again(Message),
}

impl Member {
    /// Handles a request of the server to the client.
    pub(super) fn ask(self: &Rc<Self>, pool: &Rc<Pool>, call: &Rc<Call>, request: Message) {
        let first = {
            let mut asked = call.asked.borrow_mut();
            asked.push((format!("input-{}", pool.number()), request));
            asked.len() == 1
        };
        if first && !call.parked.get() {
            let (pool, member, call) = (Rc::clone(pool), Rc::clone(self), Rc::clone(call));
            spawn_local(async move {
                sleep(TOGETHER).await;
                pool.park(&member, &call).await;
            });
        }
    }
}

impl Pool {
    /// Answers a call with the server's questions, and keeps the call for a while.
    pub(super) async fn park(self: &Rc<Self>, member: &Rc<Member>, call: &Rc<Call>) {
        if call.asked.borrow().is_empty() || call.parked.get() {
            return;
        }
        let wanted = Wanted {
            inputs: call
                .asked
                .borrow()
                .iter()
                .map(|(key, request)| {
                    let method = request.method().unwrap_or_default().to_owned();
                    (key.clone(), method, request.params().unwrap_or("{}").to_owned())
                })
                .collect(),
            state: None,
        };
        self.send_questions(member, call, wanted, false).await;
    }

    /// Answers a call with questions, and keeps the call for a while. `again` sends it from the start afterwards.
    pub(super) async fn send_questions(
        self: &Rc<Self>,
        member: &Rc<Member>,
        call: &Rc<Call>,
        mut wanted: Wanted,
        again: bool,
    ) {
        let state = unguessable();
        wanted.state = Some(quote(&state));
        call.parked.set(true);
        let parked = Parked { member: Rc::clone(member), call: Rc::clone(call), again };
        self.parked.borrow_mut().insert(state.clone(), parked);
        let pool = Rc::downgrade(self);
        let time = self.server.settings.answer_within;
        spawn_local(async move {
            sleep(time).await;
            let Some(pool) = pool.upgrade() else { return };
            let late = pool.parked.borrow_mut().remove(&state);
            if let Some(Parked { member, call, .. }) = late {
                member.cancel(&pool, &call, "the client did not send the inputs in time");
            }
        });
        call.answer(&result("0", &wanted.to_json())).await;
    }

    /// Goes on with a call whose client sends inputs.
    pub(super) fn retry(self: &Rc<Self>, request: &Message) -> Retry {
        let params = Object::or_empty(request.params());
        let Some(state) = params.text("requestState") else { return Retry::Not };
        let refused = |text: &str| Retry::Rest(Err(error(request.raw_id(), INVALID_PARAMS, text)));
        let fits = {
            let parked = self.parked.borrow();
            match parked.get(&state) {
                Some(parked) => same(&parked.call.request, request),
                None if self.server.discovered().is_some() => return Retry::Not,
                None => return refused("the requestState is unknown: the time to send inputs may be over"),
            }
        };
        if !fits {
            return refused("the requestState belongs to another request");
        }
        let Some(Parked { member, call, again }) = self.parked.borrow_mut().remove(&state) else { return Retry::Not };
        if again {
            let mut params = params;
            params.remove("requestState");
            params.remove("inputResponses");
            return Retry::Again(request.with_params(&params.to_string()));
        }
        call.face.replace(Face::new(request));
        call.parked.set(false);
        let stream = call.stream();
        let inputs = params.object("inputResponses").unwrap_or_default();
        let (given, missing): (Vec<_>, Vec<_>) =
            call.asked.borrow_mut().drain(..).partition(|(key, _)| inputs.has(key));
        for (key, asked) in given {
            member.send(&result(asked.raw_id(), inputs.get(&key).unwrap_or("{}")));
        }
        let open = OpenCall { pool: Rc::clone(self), member: Rc::clone(&member), call: Rc::clone(&call), stream };
        let late = call.late.borrow_mut().take();
        let asks_again = !missing.is_empty();
        call.asked.borrow_mut().extend(missing);
        let pool = Rc::clone(self);
        if let Some(answer) = late {
            member.remove(self, call.number);
            spawn_local(async move { call.answer(&answer).await });
        } else if asks_again {
            spawn_local(async move { pool.park(&member, &call).await });
        }
        Retry::Rest(Ok(open))
    }
}

/// Returns whether a request is the one that was asked for inputs, sent again.
fn same(before: &Message, now: &Message) -> bool {
    let salient = |request: &Message| {
        let mut params = Object::or_empty(request.params());
        for member in ["_meta", "requestState", "inputResponses"] {
            params.remove(member);
        }
        let read: serde_json::Value = serde_json::from_str(&params.to_string()).unwrap_or_default();
        (request.method().map(str::to_owned), read)
    };
    salient(before) == salient(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_is_told_by_its_parameters() {
        let message = |params: &str| crate::json::request("1", "tools/call", params);
        let before = message(r#"{"name":"a","arguments":{"x":1,"y":2},"_meta":{"p":1}}"#);
        let again = r#"{"arguments":{"y":2, "x":1},"name":"a","requestState":"s","inputResponses":{},"_meta":{}}"#;
        assert!(same(&before, &message(again)));
        assert!(!same(&before, &message(r#"{"name":"b","arguments":{"x":1,"y":2}}"#)));
        assert!(!same(&before, &message(r#"{"name":"a","arguments":{"x":2,"y":2}}"#)));
    }
}
