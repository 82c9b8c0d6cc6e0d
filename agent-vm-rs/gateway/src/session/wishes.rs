//! What a client asked of a server for the rest of the session: its log level and its subscriptions. The next process of the
//! server is asked for it again.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use super::conversation::Session;
use crate::era::Step;
use crate::json::{Id, Message, Object, quote, request};
use crate::supervise::Running;

/// Maximal number of remembered subscriptions.
const MOST: usize = 1000;
/// Maximal length of the parameters of one request, in bytes.
const LONGEST: usize = 8192;

/// What one client asked for.
#[derive(Default)]
pub(super) struct Wishes {
    /// Parameters of `logging/setLevel`.
    level: Option<String>,
    /// Parameters of `resources/subscribe`, by URI.
    subscriptions: BTreeMap<String, String>,
    /// Requests of the gateway that the server has not answered.
    asked: HashSet<Id>,
    last: u64,
}

impl Wishes {
    /// Records what a request of the client changes.
    pub(super) fn record(&mut self, message: &Message) {
        let Some(params) = message.params().filter(|params| params.len() <= LONGEST) else { return };
        let uri = || Object::or_empty(Some(params)).text("uri");
        match message.method() {
            Some("logging/setLevel") => self.level = Some(params.to_owned()),
            Some("resources/subscribe") if self.subscriptions.len() < MOST => {
                self.subscriptions.extend(uri().map(|uri| (uri, params.to_owned())));
            }
            Some("resources/unsubscribe") => drop(uri().and_then(|uri| self.subscriptions.remove(&uri))),
            _ => {}
        }
    }

    /// Returns the requests that ask a new process for the same, as far as it has these capabilities.
    fn again(&mut self, capabilities: &Object) -> Vec<Message> {
        let subscribes =
            capabilities.object("resources").is_some_and(|resources| resources.get("subscribe") == Some("true"));
        let level =
            self.level.iter().filter(|_| capabilities.has("logging")).map(|params| ("logging/setLevel", params));
        let subscriptions = self.subscriptions.values().filter(|_| subscribes);
        let all: Vec<_> = level.chain(subscriptions.map(|params| ("resources/subscribe", params))).collect();
        let mut requests = Vec::new();
        self.asked.clear();
        for (method, params) in all {
            self.last += 1;
            let message = request(&quote(&format!("agent-mcp-again-{}", self.last)), method, params);
            self.asked.extend(message.id().cloned());
            requests.push(message);
        }
        requests
    }

    /// Returns whether a message is an answer to a request of the gateway, which the client does not get.
    pub(super) fn is_answer(&mut self, message: &Message) -> bool {
        message.method().is_none() && message.id().is_some_and(|id| self.asked.remove(id))
    }
}

impl Session {
    /// Asks a new process for what the client asked of an earlier one.
    pub(super) fn ask_again(&self, running: &Rc<Running>) {
        let state = &mut *self.state.borrow_mut();
        let capabilities = Object::or_empty(Some(&state.capabilities));
        let messages = state.wishes.again(&capabilities);
        let Some(translator) = &mut state.translator else {
            for message in &messages {
                running.send(message);
            }
            return;
        };
        // The translator answers in the server's place.
        state.wishes.asked.clear();
        for step in messages.iter().flat_map(|message| translator.from_client(message)) {
            if let Step::ToServer(message) = step {
                running.send(&message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(requests: &[(&str, &str)]) -> Wishes {
        let mut wishes = Wishes::default();
        for (method, params) in requests {
            wishes.record(&request("1", method, params));
        }
        wishes
    }

    fn texts(messages: &[Message]) -> Vec<(&str, &str)> {
        messages.iter().map(|message| (message.method().unwrap(), message.params().unwrap())).collect()
    }

    #[test]
    fn the_last_wishes_are_repeated_as_far_as_the_server_knows_them() {
        let mut wishes = recorded(&[
            ("logging/setLevel", r#"{"level":"error"}"#),
            ("logging/setLevel", r#"{"level":"debug","x":1}"#),
            ("resources/subscribe", r#"{"uri":"a:1"}"#),
            ("resources/subscribe", r#"{"uri":"a:2"}"#),
            ("resources/unsubscribe", r#"{"uri":"a:1"}"#),
            ("tools/list", "{}"),
        ]);
        let all = Object::parse(r#"{"logging":{},"resources":{"subscribe":true}}"#).unwrap();
        let messages = wishes.again(&all);
        let expected =
            [("logging/setLevel", r#"{"level":"debug","x":1}"#), ("resources/subscribe", r#"{"uri":"a:2"}"#)];
        assert_eq!(texts(&messages), expected);
        assert!(wishes.is_answer(&crate::json::result(messages[0].raw_id(), "{}")));
        // Once only, and no answer to the client's requests.
        assert!(!wishes.is_answer(&crate::json::result(messages[0].raw_id(), "{}")));
        assert!(!wishes.is_answer(&crate::json::result("1", "{}")));
        assert!(texts(&wishes.again(&Object::parse(r#"{"resources":{}}"#).unwrap())).is_empty());
    }

    #[test]
    fn a_client_cannot_fill_the_memory() {
        let long = format!(r#"{{"uri":"{}"}}"#, "x".repeat(LONGEST));
        assert!(recorded(&[("resources/subscribe", &long)]).subscriptions.is_empty());
        let mut wishes = Wishes::default();
        for number in 0..2 * MOST {
            wishes.record(&request("1", "resources/subscribe", &format!(r#"{{"uri":"a:{number}"}}"#)));
        }
        assert_eq!(wishes.subscriptions.len(), MOST);
    }
}
