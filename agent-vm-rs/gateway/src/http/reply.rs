//! Responses.

use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use super::body::Body;
use crate::json::{Message, error};

/// A response.
pub type Reply = Response<Body>;

/// JSON-RPC's codes for messages that are wrong in themselves.
pub const PARSE_ERROR: i64 = -32700;
/// See PARSE_ERROR.
pub const INVALID_REQUEST: i64 = -32600;

/// Returns a response with a status and no body.
pub fn status(status: StatusCode) -> Reply {
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = status;
    reply
}

/// Returns a response with a message.
pub fn json(status: StatusCode, message: &Message) -> Reply {
    let mut reply = Response::new(Body::whole(message.raw().clone()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// Returns a response with an error that belongs to no request.
pub fn refusal(status: StatusCode, code: i64, text: &str) -> Reply {
    json(status, &error("null", code, text))
}

/// Returns a response for a method that a path does not have.
pub fn not_allowed(methods: &'static str) -> Reply {
    let mut reply = refusal(StatusCode::METHOD_NOT_ALLOWED, INVALID_REQUEST, "this path does not have the method");
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    reply
}

/// Returns a response that streams events.
pub fn events(body: Body) -> Reply {
    let mut reply = Response::new(body);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    reply
}

/// Returns a response with JSON that is no message.
pub fn text(status: StatusCode, text: &str) -> Reply {
    let mut reply = Response::new(Body::whole(text.to_owned()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
