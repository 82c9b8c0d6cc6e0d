//! A message: its bytes, and where in them the members are that the gateway needs.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::Id;

/// What a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Expects an answer.
    Request {
        /// Identity of the answer.
        id: Id,
        /// Name of the method.
        method: String,
    },
    /// Expects no answer.
    Notification {
        /// Name of the method.
        method: String,
    },
    /// An answer: a result or an error.
    Answer {
        /// Identity of the request.
        id: Id,
    },
}

/// A message of JSON-RPC on one line.
#[derive(Clone, Debug)]
pub struct Message {
    raw: Bytes,
    kind: Kind,
    id: Option<Range<usize>>,
    params: Option<Range<usize>>,
    result: Option<Range<usize>>,
    error: Option<Range<usize>>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// Returns null as a value that is present.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Message {
    /// Reads a message; returns None for text that is no JSON-RPC message.
    pub fn parse(raw: Bytes) -> Option<Message> {
        let raw = on_one_line(raw);
        let envelope: Envelope = serde_json::from_slice(&raw).ok()?;
        let place = |value: Option<&RawValue>| {
            value.map(|value| {
                let start = value.get().as_ptr() as usize - raw.as_ptr() as usize;
                start..start + value.get().len()
            })
        };
        let (id, params) = (place(envelope.id), place(envelope.params));
        let (result, error) = (place(envelope.result), place(envelope.error));
        let identity = envelope.id.map(|id| Id::of(id.get()));
        let kind = match (envelope.method, identity) {
            (Some(method), Some(id)) => Kind::Request { id, method: method.into_owned() },
            (Some(method), None) => Kind::Notification { method: method.into_owned() },
            (None, id) if result.is_some() || error.is_some() => {
                Kind::Answer { id: id.unwrap_or(Id::Other("null".to_owned())) }
            }
            _ => return None,
        };
        Some(Message { raw, kind, id, params, result, error })
    }

    /// Returns a message of which nothing is known.
    pub(super) fn opaque(raw: Bytes) -> Message {
        let kind = Kind::Notification { method: String::new() };
        Message { raw, kind, id: None, params: None, result: None, error: None }
    }

    /// Returns what the message is.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Returns the bytes, on one line, without the line's end.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Returns the method of a request or notification.
    pub fn method(&self) -> Option<&str> {
        match &self.kind {
            Kind::Request { method, .. } | Kind::Notification { method } => Some(method),
            Kind::Answer { .. } => None,
        }
    }

    /// Returns the identity of a request or answer.
    pub fn id(&self) -> Option<&Id> {
        match &self.kind {
            Kind::Request { id, .. } | Kind::Answer { id } => Some(id),
            Kind::Notification { .. } => None,
        }
    }

    /// Returns the identity as it was written; `null` for a notification.
    pub fn raw_id(&self) -> &str {
        self.slice(&self.id).unwrap_or("null")
    }

    /// Returns the parameters as JSON.
    pub fn params(&self) -> Option<&str> {
        self.slice(&self.params)
    }

    /// Returns the result as JSON.
    pub fn result(&self) -> Option<&str> {
        self.slice(&self.result)
    }

    /// Returns the error as JSON.
    pub fn error(&self) -> Option<&str> {
        self.slice(&self.error)
    }

    /// Returns the error's code.
    pub fn error_code(&self) -> Option<i64> {
        #[derive(Deserialize)]
        struct Code {
            code: i64,
        }
        self.error().and_then(|error| serde_json::from_str::<Code>(error).ok()).map(|error| error.code)
    }

    /// Returns the message with another identity.
    pub fn with_id(&self, id: &str) -> Message {
        self.replaced(&self.id, id)
    }

    /// Returns the message with other parameters, or with parameters where it had none.
    pub fn with_params(&self, params: &str) -> Message {
        self.with(&self.params, "params", params)
    }

    /// Returns the message with another result.
    pub fn with_result(&self, result: &str) -> Message {
        self.with(&self.result, "result", result)
    }

    /// Returns the message with another error.
    pub fn with_error(&self, error: &str) -> Message {
        self.with(&self.error, "error", error)
    }

    fn with(&self, place: &Option<Range<usize>>, name: &str, value: &str) -> Message {
        if place.is_some() {
            return self.replaced(place, value);
        }
        // Every message has a member, so that a comma is right.
        let end = self.raw.iter().rposition(|byte| *byte == b'}').unwrap_or(self.raw.len());
        let end = end..end;
        self.replaced(&Some(end), &format!(r#","{name}":{value}"#))
    }

    fn replaced(&self, place: &Option<Range<usize>>, value: &str) -> Message {
        let Some(place) = place else { return self.clone() };
        let mut raw = Vec::with_capacity(self.raw.len() + value.len());
        raw.extend_from_slice(&self.raw[..place.start]);
        raw.extend_from_slice(value.as_bytes());
        raw.extend_from_slice(&self.raw[place.end..]);
        Message::parse(raw.into()).unwrap_or_else(|| self.clone())
    }

    fn slice(&self, place: &Option<Range<usize>>) -> Option<&str> {
        place.clone().and_then(|place| std::str::from_utf8(&self.raw[place]).ok())
    }
}

/// Reads the messages of a batch; returns None if one of its elements is no message, or if it has none.
pub fn parse_batch(raw: &Bytes) -> Option<Vec<Message>> {
    let elements: Vec<&RawValue> = serde_json::from_slice(raw).ok()?;
    if elements.is_empty() {
        return None;
    }
    elements.iter().map(|element| Message::parse(raw.slice_ref(element.get().as_bytes()))).collect()
}

/// Returns JSON on one line. A line's end is white space in JSON, wherever it is allowed.
fn on_one_line(raw: Bytes) -> Bytes {
    let raw = raw.slice_ref(raw.trim_ascii());
    if memchr::memchr2(b'\n', b'\r', &raw).is_none() {
        return raw;
    }
    let spaced: Vec<u8> = raw.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
    spaced.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[test]
    fn kinds_are_told_by_members() {
        assert!(matches!(message(r#"{"id":1,"method":"m"}"#).kind(), Kind::Request { .. }));
        assert!(matches!(message(r#"{"id":null,"method":"m"}"#).kind(), Kind::Request { .. }));
        assert!(matches!(message(r#"{"method":"m"}"#).kind(), Kind::Notification { .. }));
        assert!(matches!(message(r#"{"id":1,"result":null}"#).kind(), Kind::Answer { .. }));
        assert!(matches!(message(r#"{"error":{}}"#).kind(), Kind::Answer { .. }));
        for wrong in
            ["{}", "[]", "1", "", "{", r#"{"id":1}"#, r#"{"method":7}"#, "\u{0}", r#"{"id":1,"id":2,"method":"m"}"#]
        {
            assert!(Message::parse(Bytes::copy_from_slice(wrong.as_bytes())).is_none(), "{wrong}");
        }
        assert!(Message::parse(Bytes::from_static(b"{\"method\":\"\xff\"}")).is_none());
    }

    #[test]
    fn a_message_stays_on_one_line() {
        let read = message("{\r\n \"id\": 1,\n \"method\": \"a\\nb\"\n}\n");
        assert_eq!(read.raw(), &b"{   \"id\": 1,  \"method\": \"a\\nb\" }"[..]);
        assert_eq!(read.method(), Some("a\nb"));
    }

    #[test]
    fn only_the_named_member_changes() {
        let read = message(r#"{"x": [1.0e5],"id":"a","method":"m","params":{"y": 1}, "z":{}}"#);
        assert_eq!(read.with_id("7").raw(), r#"{"x": [1.0e5],"id":7,"method":"m","params":{"y": 1}, "z":{}}"#);
        assert_eq!(read.with_params("{}").raw(), r#"{"x": [1.0e5],"id":"a","method":"m","params":{}, "z":{}}"#);
        assert_eq!(message(r#"{"method":"m"}"#).with_params("{}").raw(), r#"{"method":"m","params":{}}"#);
    }

    #[test]
    fn deep_messages_are_read() {
        let deep = format!(r#"{{"method":"m","params":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(message(&deep).params().unwrap().len(), 200_000);
    }

    #[test]
    fn batches_are_split() {
        let batch = Bytes::from_static(br#"[{"id":1,"method":"m"}, {"method":"n"}]"#);
        assert_eq!(parse_batch(&batch).unwrap().len(), 2);
        assert!(parse_batch(&Bytes::from_static(b"[]")).is_none());
        assert!(parse_batch(&Bytes::from_static(b"[1]")).is_none());
    }
}
