//! A call of a client without a session.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use super::Pool;
use super::member::Member;
use crate::era::Meta;
use crate::json::{Id, Message, Object, error, notification};
use crate::session::{Stream, progress_token};

/// JSON-RPC's code for an error that is not the client's.
pub const INTERNAL_ERROR: i64 = -32603;

/// A call that a server has not answered.
pub struct Call {
    /// Identity that the server knows.
    pub(super) number: u64,
    /// When the client asked.
    pub(super) began: Instant,
    pub(super) request: Message,
    pub(super) meta: Meta,
    /// What the client sees: it changes when the client sends inputs with another request.
    pub(super) face: RefCell<Face>,
    /// Requests of the server to the client, each with the key of its input.
    pub(super) asked: RefCell<Vec<(String, Message)>>,
    /// Whether the client has been asked for inputs, and has not sent them.
    pub(super) parked: Cell<bool>,
    /// For a subscription, the same at the other processes.
    pub(super) copies: RefCell<Vec<(Rc<Member>, Rc<Call>)>>,
    /// Whether this is such a copy.
    pub(super) is_copy: bool,
    /// Answer that came while the client was asked for inputs.
    pub(super) late: RefCell<Option<Message>>,
}

#[derive(Clone)]
pub(super) struct Face {
    pub(super) id: String,
    pub(super) token: Option<Id>,
    pub(super) stream: Rc<Stream>,
}

impl Face {
    pub(super) fn new(request: &Message) -> Face {
        Face { id: request.raw_id().to_owned(), token: progress_token(request), stream: Stream::new(0) }
    }
}

impl Call {
    /// Returns a call that has not been sent.
    pub(super) fn new(pool: &Pool, request: &Message, meta: &Meta) -> Rc<Call> {
        Rc::new(Call {
            number: pool.number(),
            began: Instant::now(),
            request: request.clone(),
            meta: meta.clone(),
            face: RefCell::new(Face::new(request)),
            asked: RefCell::default(),
            parked: Cell::new(false),
            copies: RefCell::default(),
            is_copy: false,
            late: RefCell::default(),
        })
    }

    /// Returns a subscription's copy for another process.
    pub(super) fn copy(&self, pool: &Pool) -> Rc<Call> {
        Rc::new(Call {
            number: pool.number(),
            began: Instant::now(),
            request: self.request.clone(),
            meta: self.meta.clone(),
            face: RefCell::new(self.face.borrow().clone()),
            asked: RefCell::default(),
            parked: Cell::new(false),
            copies: RefCell::default(),
            is_copy: true,
            late: RefCell::default(),
        })
    }

    /// Returns whether this is a subscription.
    pub(super) fn is_subscription(&self) -> bool {
        self.method() == "subscriptions/listen"
    }

    /// Returns the stream to the client.
    pub(super) fn stream(&self) -> Rc<Stream> {
        Rc::clone(&self.face.borrow().stream)
    }

    pub(super) fn method(&self) -> &str {
        self.request.method().unwrap_or_default()
    }

    /// Returns the request as the server gets it: with identities that no other client uses.
    pub(super) fn sent(&self) -> Message {
        let number = self.number.to_string();
        let request = self.request.with_id(&number);
        if self.face.borrow().token.is_none() {
            return request;
        }
        let mut params = Object::or_empty(request.params());
        let meta = params.get("_meta").unwrap_or("{}").to_owned();
        let mut meta = Object::or_empty(Some(&meta));
        meta.set("progressToken", number);
        params.set("_meta", meta.to_string());
        request.with_params(&params.to_string())
    }

    /// Sends the client the answer.
    pub(super) async fn answer(&self, answer: &Message) {
        let (id, stream) = {
            let face = self.face.borrow();
            (face.id.clone(), Rc::clone(&face.stream))
        };
        stream.push(answer.with_id(&id).raw().clone()).await;
        stream.finish();
    }

    /// Answers with an error without waiting for a client that does not read.
    pub(super) fn fail(&self, code: i64, text: &str) {
        let face = self.face.borrow();
        face.stream.push_now(None, error(&face.id, code, text).raw().clone());
        face.stream.finish();
    }
}

/// A client's hold on a call. Dropping it before the answer cancels the call.
pub struct OpenCall {
    pub(super) pool: Rc<Pool>,
    pub(super) member: Rc<Member>,
    pub(super) call: Rc<Call>,
    pub(super) stream: Rc<Stream>,
}

impl OpenCall {
    /// Returns the stream to the client.
    pub fn stream(&self) -> &Rc<Stream> {
        &self.stream
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        for (member, copy) in self.call.copies.borrow_mut().drain(..) {
            member.cancel(&self.pool, &copy, "the subscription has ended");
        }
        // The call may have been answered by a request for inputs, and go on with another stream.
        if self.stream.is_finished() {
            return;
        }
        if self.member.is_listening(&self.call) {
            self.stream.finish();
            self.pool.drop_ended();
        } else {
            self.member.cancel(&self.pool, &self.call, "the client has closed its stream");
        }
    }
}

impl Member {
    /// Tells the server that nobody waits for an answer.
    pub(super) fn cancel(&self, pool: &Pool, call: &Rc<Call>, reason: &str) {
        if self.remove(pool, call.number).is_none() {
            return;
        }
        let params = format!(r#"{{"requestId":{},"reason":"{reason}"}}"#, call.number);
        self.send(&notification("notifications/cancelled", &params));
        for (_, asked) in call.asked.borrow_mut().drain(..) {
            self.send(&error(asked.raw_id(), INTERNAL_ERROR, reason));
        }
        call.stream().finish();
    }
}
