//! Decides on which stream a server's message reaches the client: on exactly one.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::Stream;
use crate::json::{Id, Kind, Message, Object};

/// Notifications that belong to no request.
const GENERAL: [&str; 5] = [
    "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
    "notifications/resources/updated",
    "notifications/elicitation/complete",
];

/// The streams to a client.
pub struct Outbox {
    /// Whether there is only one stream, for everything.
    single: bool,
    general: Rc<Stream>,
    streams: RefCell<BTreeMap<u64, Rc<Stream>>>,
    /// Stream of each open request of the client.
    requests: RefCell<HashMap<Id, u64>>,
    /// Progress tokens of the open requests, and their requests.
    tokens: RefCell<HashMap<Id, Id>>,
    /// Stream of each request of the server.
    asked: RefCell<HashMap<Id, u64>>,
    last: Cell<u64>,
}

/// Number of the stream that belongs to no request.
const GENERAL_ID: u64 = 0;
/// Maximal number and size of the streams that have ended and can be resumed.
const MOST_KEPT: (usize, usize) = (32, 8 << 20);
/// Maximal number of the server's requests whose streams are remembered.
const MOST_ASKED: usize = 1000;

impl Outbox {
    /// Returns an outbox with a stream for what belongs to no request, or for everything.
    pub fn new(single: bool) -> Outbox {
        Outbox {
            single,
            general: Stream::new(GENERAL_ID),
            streams: RefCell::default(),
            requests: RefCell::default(),
            tokens: RefCell::default(),
            asked: RefCell::default(),
            last: Cell::new(GENERAL_ID),
        }
    }

    /// Returns the stream for what belongs to no request.
    pub fn general(&self) -> &Rc<Stream> {
        &self.general
    }

    /// Opens a stream for the answers to requests.
    pub fn open<'a>(&self, requests: impl Iterator<Item = &'a Message>) -> Rc<Stream> {
        self.drop_old();
        let id = self.last.get() + 1;
        self.last.set(id);
        let stream = Stream::new(id);
        self.streams.borrow_mut().insert(id, Rc::clone(&stream));
        for request in requests {
            let Some(identity) = request.id() else { continue };
            self.requests.borrow_mut().insert(identity.clone(), id);
            if let Some(token) = progress_token(request) {
                self.tokens.borrow_mut().insert(token, identity.clone());
            }
        }
        stream
    }

    /// Forgets streams that cannot be resumed, and the oldest of those that can if there are many.
    fn drop_old(&self) {
        let mut streams = self.streams.borrow_mut();
        let (mut count, mut size) = (0, 0);
        let mut over = Vec::new();
        for (id, stream) in streams.iter().rev() {
            if stream.is_over() {
                over.push(*id);
            } else if stream.is_finished() && !stream.is_connected() {
                count += 1;
                size += stream.size();
                if count > MOST_KEPT.0 || (count > 1 && size > MOST_KEPT.1) {
                    over.push(*id);
                }
            }
        }
        streams.retain(|id, _| !over.contains(id));
    }

    /// Returns the stream with a number, if it can still be read.
    pub fn find(&self, id: u64) -> Option<Rc<Stream>> {
        if id == GENERAL_ID {
            return Some(Rc::clone(&self.general));
        }
        self.streams.borrow().get(&id).filter(|stream| !stream.is_over()).cloned()
    }

    /// Returns whether a client is connected or waits for an answer.
    pub fn is_busy(&self) -> bool {
        self.general.is_connected()
            || !self.requests.borrow().is_empty()
            || self.streams.borrow().values().any(|stream| stream.is_connected())
    }

    /// Returns the number of open requests.
    pub fn count_open(&self) -> usize {
        self.requests.borrow().len()
    }

    /// Sends a message to the client. If it is connected and does not read, waits until it does.
    pub async fn deliver(&self, message: &Message) {
        if self.single {
            if let Kind::Answer { id } = message.kind() {
                self.requests.borrow_mut().remove(id);
            }
            self.general.push(message.raw().clone()).await;
            return;
        }
        let stream = match message.kind() {
            Kind::Answer { id } => {
                let stream = self.requests.borrow().get(id).and_then(|stream| self.find(*stream));
                let Some(stream) = stream else { return };
                stream.push(message.raw().clone()).await;
                self.forget(id);
                return;
            }
            Kind::Request { id, .. } => {
                let stream = self.stream_of(None);
                let mut asked = self.asked.borrow_mut();
                if asked.len() >= MOST_ASKED {
                    asked.clear();
                }
                asked.insert(id.clone(), stream.id);
                stream
            }
            Kind::Notification { method } => self.stream_of(Some((method, message.params()))),
        };
        stream.push(message.raw().clone()).await;
    }

    /// Sends a message on the stream of a client's request.
    pub async fn deliver_with(&self, request: &Id, message: &Message) {
        let stream = self.requests.borrow().get(request).and_then(|stream| self.find(*stream));
        match stream {
            Some(stream) if !self.single => stream.push(message.raw().clone()).await,
            _ => self.deliver(message).await,
        }
    }

    /// Forgets a request of the client, and ends its stream if no other request is open on it.
    pub fn forget(&self, id: &Id) {
        let Some(stream) = self.requests.borrow_mut().remove(id) else { return };
        self.tokens.borrow_mut().retain(|_, request| request != id);
        if !self.requests.borrow().values().any(|other| *other == stream)
            && let Some(stream) = self.find(stream)
        {
            stream.finish();
        }
    }

    /// Ends all streams.
    pub fn finish(&self) {
        self.general.finish();
        for stream in self.streams.borrow().values() {
            stream.finish();
        }
    }

    /// Returns the stream of a notification, or of a request of the server.
    fn stream_of(&self, notification: Option<(&str, Option<&str>)>) -> Rc<Stream> {
        let params = Object::or_empty(notification.and_then(|(_, params)| params));
        let named = match notification {
            Some(("notifications/progress", _)) => params.get("progressToken").and_then(|token| {
                let tokens = self.tokens.borrow();
                self.requests.borrow().get(tokens.get(&Id::of(token))?).copied()
            }),
            Some(("notifications/cancelled", _)) => {
                params.get("requestId").and_then(|request| self.asked.borrow().get(&Id::of(request)).copied())
            }
            _ => None,
        };
        if let Some(stream) = named.and_then(|stream| self.find(stream)).filter(|stream| !stream.is_finished()) {
            return stream;
        }
        let streams = self.streams.borrow();
        let open: Vec<&Rc<Stream>> = streams.values().filter(|stream| !stream.is_finished()).collect();
        let general = notification.is_some_and(|(method, _)| GENERAL.contains(&method));
        if let [only] = open[..]
            && !general
        {
            return Rc::clone(only);
        }
        if self.general.is_connected() {
            return Rc::clone(&self.general);
        }
        // Without a stream of its own, a message had better come on the newest one than never.
        let newest = open.into_iter().rev().find(|stream| stream.is_connected());
        Rc::clone(newest.unwrap_or(&self.general))
    }
}

/// Returns the progress token of a request.
pub fn progress_token(request: &Message) -> Option<Id> {
    let params = Object::parse(request.params()?)?;
    let meta = params.object("_meta")?;
    meta.get("progressToken").map(Id::of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{request, result};

    #[tokio::test]
    async fn streams_that_have_ended_are_bounded() {
        let outbox = Outbox::new(false);
        let mut first = None;
        for number in 0..200 {
            let id = number.to_string();
            let asked = request(&id, "x", "{}");
            let stream = outbox.open([&asked].into_iter());
            outbox.deliver(&result(&id, "1")).await;
            assert!(stream.is_finished());
            first.get_or_insert(stream);
        }
        outbox.drop_old();
        assert_eq!(outbox.streams.borrow().len(), MOST_KEPT.0);
        // The newest ones can still be resumed, the oldest cannot.
        assert!(outbox.find(200).is_some() && outbox.find(first.map_or(0, |stream| stream.id)).is_none());
        outbox.find(200).into_iter().for_each(|stream| stream.discard());
        assert!(outbox.find(200).is_none());
    }

    #[tokio::test]
    async fn a_message_goes_to_one_stream() {
        let outbox = Outbox::new(false);
        let one = request("1", "x", r#"{"_meta":{"progressToken":"a"}}"#);
        let (first, second) = (outbox.open([&one].into_iter()), outbox.open([&request("2", "x", "{}")].into_iter()));
        let readers = [first.connect(None), second.connect(None)];
        let progress = crate::json::notification("notifications/progress", r#"{"progressToken":"a"}"#);
        outbox.deliver(&progress).await;
        // Without a stream for what belongs to no request, a request of the server comes on the newest one.
        outbox.deliver(&request("9", "roots/list", "{}")).await;
        outbox.deliver(&crate::json::notification("notifications/cancelled", r#"{"requestId":9}"#)).await;
        outbox.deliver(&result("1", "1")).await;
        outbox.deliver(&result("2", "1")).await;
        let mut counts = Vec::new();
        for reader in readers {
            let mut count = 0;
            while reader.next().await.is_some() {
                count += 1;
            }
            counts.push(count);
        }
        assert_eq!(counts, [2, 3]);
    }
}
