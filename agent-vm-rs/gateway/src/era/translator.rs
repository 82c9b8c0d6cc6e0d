//! A client with a session, and a server that knows only the version without.

use std::collections::{BTreeSet, HashMap};

use super::inputs::{ASKING, Wanted, capability};
use super::meta::{Meta, SERVER};
use super::older::{unsubscribed, with_identity};
use crate::json::{Id, Kind, Message, Object, error, notification, quote, request, result};
use crate::policy::{SESSION_VERSIONS, STATELESS};

/// Maximal number of times that a call asks for inputs.
const MOST_ROUNDS: usize = 100;
const INTERNAL_ERROR: i64 = -32603;
const LISTEN: &str = "agent-mcp-listen-";

/// What to do with a message.
#[derive(Clone, Debug)]
pub enum Step {
    /// Send the server this.
    ToServer(Message),
    /// Send the client this.
    ToClient(Message),
    /// Send the client this, together with what belongs to its request.
    ToClientWith(Id, Message),
}

/// A call that may ask for inputs.
struct Call {
    /// The client's request.
    original: Message,
    rounds: usize,
    /// Keys of the inputs that the client has not sent, by the identities of the requests to it.
    missing: HashMap<Id, String>,
    /// Inputs that the client has sent, as an object.
    inputs: Object<'static>,
    state: Option<String>,
}

/// The translation for one session.
pub struct Translator {
    name: String,
    discovered: String,
    version: &'static str,
    meta: Meta,
    capabilities: String,
    subscriptions: BTreeSet<String>,
    /// Calls by the identities that the server knows.
    calls: HashMap<Id, Call>,
    last: u64,
    listening: Option<String>,
}

impl Translator {
    /// Returns a translation for a server's result of `server/discover` and a client's parameters of `initialize`.
    pub fn new(name: &str, discovered: &str, hello: Option<&str>) -> Translator {
        let hello = Object::or_empty(hello);
        let asked = hello.text("protocolVersion").unwrap_or_default();
        let version = SESSION_VERSIONS.iter().find(|known| **known == asked).unwrap_or(&SESSION_VERSIONS[0]);
        let capabilities = hello.get("capabilities").unwrap_or("{}").to_owned();
        let meta = Meta {
            version: Some(quote(STATELESS)),
            name: hello.get("clientInfo").map(str::to_owned),
            capabilities: Some(capabilities.clone()),
            level: None,
        };
        Translator {
            name: name.to_owned(),
            discovered: discovered.to_owned(),
            version,
            meta,
            capabilities,
            subscriptions: BTreeSet::new(),
            calls: HashMap::new(),
            last: 0,
            listening: None,
        }
    }

    /// Returns the result of `initialize`.
    pub fn greeting(&self) -> String {
        let discovered = Object::or_empty(Some(&self.discovered));
        let meta = discovered.object("_meta").unwrap_or_default();
        let mut greeting = Object::default();
        greeting.set("protocolVersion", quote(self.version));
        greeting.set("capabilities", discovered.get("capabilities").unwrap_or("{}"));
        let unnamed = format!(r#"{{"name":{},"version":"0"}}"#, quote(&self.name));
        greeting.set("serverInfo", meta.get(SERVER).unwrap_or(&unnamed));
        if let Some(instructions) = discovered.get("instructions") {
            greeting.set("instructions", instructions);
        }
        greeting.to_string()
    }

    /// Returns the requests for the changes that the client hears of.
    pub fn listen(&mut self) -> Vec<Message> {
        let discovered = Object::or_empty(Some(&self.discovered));
        let capabilities = discovered.object("capabilities").unwrap_or_default();
        let mut filter = Object::default();
        for kind in ["tools", "prompts", "resources"] {
            let changes = capabilities.object(kind).and_then(|kind| kind.get("listChanged").map(str::to_owned));
            if changes.as_deref() == Some("true") {
                filter.set(&format!("{kind}ListChanged"), "true");
            }
        }
        if !self.subscriptions.is_empty() {
            let uris: Vec<&str> = self.subscriptions.iter().map(String::as_str).collect();
            filter.set("resourceSubscriptions", format!("[{}]", uris.join(",")));
        }
        let before = self.listening.take();
        let mut messages = Vec::new();
        if !filter.is_empty() {
            self.last += 1;
            let id = quote(&format!("{LISTEN}{}", self.last));
            let params = format!(r#"{{"notifications":{filter}}}"#);
            messages.push(self.meta.added_to(&request(&id, "subscriptions/listen", &params)));
            self.listening = Some(id);
        }
        // The new stream is open before the old one ends, so that no change is missed.
        messages.extend(before.map(|id| notification("notifications/cancelled", &format!(r#"{{"requestId":{id}}}"#))));
        messages
    }

    /// Handles a message of the client.
    pub fn from_client(&mut self, message: &Message) -> Vec<Step> {
        match message.kind() {
            Kind::Request { id, method } => self.client_request(id, method, message),
            Kind::Notification { method } => match method.as_str() {
                "notifications/cancelled" => self.cancel(message),
                "notifications/initialized" | "notifications/roots/list_changed" | "notifications/progress" => {
                    Vec::new()
                }
                _ => vec![Step::ToServer(message.clone())],
            },
            Kind::Answer { id } => self.input(id, message),
        }
    }

    fn client_request(&mut self, id: &Id, method: &str, message: &Message) -> Vec<Step> {
        let params = Object::or_empty(message.params());
        let answer = |result_: &str| Step::ToClient(result(message.raw_id(), result_));
        match method {
            "ping" => vec![answer("{}")],
            "initialize" => vec![answer(&self.greeting())],
            "logging/setLevel" => {
                self.meta.level = params.get("level").map(str::to_owned);
                vec![answer("{}")]
            }
            "resources/subscribe" | "resources/unsubscribe" => {
                let uri = params.get("uri").unwrap_or("\"\"");
                let changed = match method {
                    "resources/subscribe" => self.subscriptions.insert(uri.to_owned()),
                    _ => self.subscriptions.remove(uri),
                };
                let mut steps = vec![answer("{}")];
                if changed {
                    steps.extend(self.listen().into_iter().map(Step::ToServer));
                }
                steps
            }
            _ => {
                if ASKING.contains(&method) {
                    let call = Call {
                        original: message.clone(),
                        rounds: 0,
                        missing: HashMap::new(),
                        inputs: Object::default(),
                        state: None,
                    };
                    self.calls.insert(id.clone(), call);
                }
                vec![Step::ToServer(self.meta.added_to(message))]
            }
        }
    }

    fn cancel(&mut self, message: &Message) -> Vec<Step> {
        let mut params = Object::or_empty(message.params());
        let Some(id) = params.get("requestId").map(Id::of) else { return Vec::new() };
        let of_call = self.calls.iter().find(|(_, call)| call.original.id() == Some(&id)).map(|(own, _)| own.clone());
        let own = of_call.unwrap_or(id);
        // A call that waits for inputs is not known to the server.
        if self.calls.remove(&own).is_some_and(|call| !call.missing.is_empty()) {
            return Vec::new();
        }
        params.set("requestId", own.to_json());
        vec![Step::ToServer(message.with_params(&params.to_string()))]
    }

    /// Handles the client's answer to a request for an input.
    fn input(&mut self, id: &Id, message: &Message) -> Vec<Step> {
        let Some(own) = self.calls.iter().find(|(_, call)| call.missing.contains_key(id)).map(|(own, _)| own.clone())
        else {
            return Vec::new();
        };
        let Some(result) = message.result() else {
            let Some(call) = self.calls.remove(&own) else { return Vec::new() };
            let text = format!("The client did not answer what the MCP server {} asked", self.name);
            return vec![Step::ToClient(error(call.original.raw_id(), INTERNAL_ERROR, &text))];
        };
        let Some(call) = self.calls.get_mut(&own) else { return Vec::new() };
        if let Some(key) = call.missing.remove(id) {
            call.inputs.set(&key, result);
        }
        if call.missing.is_empty() { self.retry(&own) } else { Vec::new() }
    }

    /// Sends a call again with its inputs.
    fn retry(&mut self, own: &Id) -> Vec<Step> {
        let Some(mut call) = self.calls.remove(own) else { return Vec::new() };
        let mut params = Object::or_empty(call.original.params());
        let inputs = std::mem::take(&mut call.inputs);
        if !inputs.is_empty() {
            params.set("inputResponses", inputs.to_string());
        }
        if let Some(state) = call.state.take() {
            params.set("requestState", state);
        }
        self.last += 1;
        let id = quote(&format!("agent-mcp-retry-{}", self.last));
        let again = self.meta.added_to(&call.original.with_params(&params.to_string()).with_id(&id));
        self.calls.insert(Id::of(&id), call);
        vec![Step::ToServer(again)]
    }

    /// Handles a message of the server.
    pub fn from_server(&mut self, message: Message) -> Vec<Step> {
        match message.kind() {
            Kind::Answer { id } => self.answer(&id.clone(), message),
            Kind::Notification { method } if method == "notifications/subscriptions/acknowledged" => Vec::new(),
            // Sent only for the end of a subscription.
            Kind::Notification { method } if method == "notifications/cancelled" => Vec::new(),
            Kind::Notification { .. } => vec![Step::ToClient(unsubscribed(message))],
            Kind::Request { .. } => vec![Step::ToClient(message)],
        }
    }

    fn answer(&mut self, id: &Id, message: Message) -> Vec<Step> {
        if id.text().is_some_and(|id| id.starts_with(LISTEN)) {
            return Vec::new();
        }
        let original = self.calls.get(id).map(|call| call.original.raw_id().to_owned());
        if original.is_some()
            && let Some(wanted) = message.result().and_then(Wanted::parse)
        {
            return self.ask(id, wanted);
        }
        self.calls.remove(id);
        let message = original.map_or(message.clone(), |original| message.with_id(&original));
        let Some(result) = message.result().filter(|result| result.contains("\"resultType\"")) else {
            return vec![Step::ToClient(message)];
        };
        let mut result = Object::or_empty(Some(result));
        result.remove("resultType");
        vec![Step::ToClient(message.with_result(&result.to_string()))]
    }

    /// Asks the client for inputs.
    fn ask(&mut self, id: &Id, wanted: Wanted) -> Vec<Step> {
        let Some(call) = self.calls.get_mut(id) else { return Vec::new() };
        call.rounds += 1;
        call.state = wanted.state;
        let capabilities = Object::or_empty(Some(&self.capabilities));
        let lacking =
            wanted.inputs.iter().find(|(_, method, _)| !capability(method).is_some_and(|name| capabilities.has(name)));
        let wrong = match lacking {
            Some((_, method, _)) => {
                Some(format!("The MCP server {} asks for {method}, which the client does not support", self.name))
            }
            None if call.rounds > MOST_ROUNDS => {
                Some(format!("The MCP server {} asked for inputs {MOST_ROUNDS} times", self.name))
            }
            None => None,
        };
        let (original, own) = (call.original.raw_id().to_owned(), call.original.id().cloned());
        if let Some(wrong) = wrong {
            self.calls.remove(id);
            return vec![Step::ToClient(error(&original, INTERNAL_ERROR, &wrong))];
        }
        let mut steps = Vec::new();
        for (key, method, params) in wanted.inputs {
            self.last += 1;
            let asked = quote(&format!("agent-mcp-input-{}", self.last));
            call.missing.insert(Id::of(&asked), key);
            let params = if method == "elicitation/create" { with_identity(&params, self.last) } else { params };
            if let Some(own) = &own {
                steps.push(Step::ToClientWith(own.clone(), request(&asked, &method, &params)));
            }
        }
        if steps.is_empty() { self.retry(id) } else { steps }
    }
}
