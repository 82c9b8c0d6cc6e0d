//! `subscriptions/listen` for a server that knows only versions with sessions.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;

use super::Pool;
use super::call::{Call, OpenCall};
use super::member::Member;
use crate::era::{Meta, SUBSCRIPTION};
use crate::json::{Message, Object, notification, quote, request};

/// Time after which a client that does not read loses its subscription.
const UNREAD: Duration = Duration::from_secs(5);

/// The lists that may change: member of the filter, capability and notification.
const LISTS: [(&str, &str, &str); 3] = [
    ("toolsListChanged", "tools", "notifications/tools/list_changed"),
    ("promptsListChanged", "prompts", "notifications/prompts/list_changed"),
    ("resourcesListChanged", "resources", "notifications/resources/list_changed"),
];
const UPDATED: &str = "notifications/resources/updated";

/// A client that listens.
pub struct Listener {
    call: Rc<Call>,
    /// Process that must not be ended.
    member: Rc<Member>,
    /// Notifications that it gets.
    methods: Vec<&'static str>,
    /// Resources of which it hears, as JSON.
    resources: BTreeSet<String>,
}

impl Pool {
    /// Opens a subscription.
    pub(super) fn listen(self: &Rc<Self>, member: &Rc<Member>, request: &Message, meta: &Meta) -> OpenCall {
        let params = Object::or_empty(request.params());
        let filter = params.object("notifications").unwrap_or_default();
        let hello = member.hello().unwrap_or_else(|| "{}".into());
        let hello = Object::or_empty(Some(&hello));
        let capabilities = hello.object("capabilities").unwrap_or_default();
        let offers =
            |kind: &str, what: &str| capabilities.object(kind).is_some_and(|kind| kind.get(what) == Some("true"));
        let mut agreed = Object::default();
        let mut methods = Vec::new();
        for (name, kind, method) in LISTS {
            if filter.get(name) == Some("true") && offers(kind, "listChanged") {
                agreed.set(name, "true");
                methods.push(method);
            }
        }
        let mut resources = BTreeSet::new();
        if let Some(uris) = filter.get("resourceSubscriptions").filter(|_| offers("resources", "subscribe")) {
            let wanted: Vec<String> = serde_json::from_str(uris).unwrap_or_default();
            resources.extend(wanted.iter().map(|uri| quote(uri)));
            agreed.set("resourceSubscriptions", uris);
            methods.push(UPDATED);
        }
        let call = Call::new(self, request, meta);
        let stream = call.stream();
        let params = format!(r#"{{"notifications":{agreed}}}"#);
        let first = notification("notifications/subscriptions/acknowledged", &params);
        stream.push_now(None, tagged(&first, request.raw_id()).raw().clone());
        for uri in &resources {
            if !self.is_subscribed(uri) {
                self.tell_members("resources/subscribe", uri);
            }
        }
        let listener = Listener { call: Rc::clone(&call), member: Rc::clone(member), methods, resources };
        self.listeners.borrow_mut().push(Rc::new(listener));
        OpenCall { pool: Rc::clone(self), member: Rc::clone(member), call, stream }
    }

    /// Sends a notification to those that listen.
    pub(super) async fn notify(&self, method: &str, message: &Message) {
        self.drop_ended();
        let params = Object::or_empty(message.params());
        let uri = params.text("uri").map(|uri| quote(&uri));
        let listeners = self.listeners.borrow().clone();
        for listener in listeners {
            // The resource may be part of the one that was subscribed to.
            let about = |uri: &String| listener.resources.iter().any(|own| uri.starts_with(own.trim_end_matches('"')));
            let wanted = listener.methods.contains(&method) && (method != UPDATED || uri.as_ref().is_some_and(about));
            if wanted {
                let stream = listener.call.stream();
                let message = tagged(message, &listener.call.face.borrow().id.clone());
                if timeout(UNREAD, stream.push(message.raw().clone())).await.is_err() {
                    stream.finish();
                }
            }
        }
    }

    /// Subscribes a new process to all resources of which somebody hears.
    pub(super) fn subscribe_new(&self, member: &Member) {
        let mut uris = BTreeSet::new();
        for listener in self.listeners.borrow().iter() {
            uris.extend(listener.resources.iter().cloned());
        }
        for uri in uris {
            member.send(&self.subscription("resources/subscribe", &uri));
        }
    }

    fn is_subscribed(&self, uri: &str) -> bool {
        self.listeners.borrow().iter().any(|listener| listener.resources.contains(uri))
    }

    /// Ends the streams of those that a process served.
    pub(super) fn end_listeners(&self, member: &Rc<Member>) {
        for listener in self.listeners.borrow().iter().filter(|listener| Rc::ptr_eq(&listener.member, member)) {
            listener.call.stream().finish();
        }
        self.drop_ended();
    }

    /// Returns whether somebody listens to a process.
    pub(super) fn is_heard(&self, member: &Rc<Member>) -> bool {
        self.listeners.borrow().iter().any(|listener| Rc::ptr_eq(&listener.member, member))
    }

    /// Forgets those whose stream has ended.
    pub(super) fn drop_ended(&self) {
        let ended: Vec<Rc<Listener>> = {
            let mut listeners = self.listeners.borrow_mut();
            let (ended, open) = listeners.drain(..).partition(|listener| listener.call.stream().is_finished());
            *listeners = open;
            ended
        };
        for uri in ended.iter().flat_map(|listener| &listener.resources) {
            if !self.is_subscribed(uri) {
                self.tell_members("resources/unsubscribe", uri);
            }
        }
    }

    fn tell_members(&self, method: &str, uri: &str) {
        for member in self.members.borrow().iter().filter(|member| member.hello().is_some() && !member.stateless) {
            member.send(&self.subscription(method, uri));
        }
    }

    fn subscription(&self, method: &str, uri: &str) -> Message {
        let id = quote(&format!("agent-mcp-subscription-{}", self.number()));
        request(&id, method, &format!(r#"{{"uri":{uri}}}"#))
    }
}

impl Member {
    /// Returns whether a call is a subscription that the server does not know.
    pub(super) fn is_listening(&self, call: &Call) -> bool {
        !self.stateless && call.method() == "subscriptions/listen"
    }
}

/// Returns a notification that names its subscription.
fn tagged(message: &Message, id: &str) -> Message {
    let mut params = Object::or_empty(message.params());
    let meta = params.get("_meta").unwrap_or("{}").to_owned();
    let mut meta = Object::or_empty(Some(&meta));
    meta.set(SUBSCRIPTION, id);
    params.set("_meta", meta.to_string());
    message.with_params(&params.to_string())
}
