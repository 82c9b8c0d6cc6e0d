//! Parses JSON-RPC messages as MCP uses them: one object per message.

use serde_json::{Value, json};

use super::json::{Fields, Refusal, one_line};
use crate::machine::policy;

/// Returns the size of the largest message in bytes. The reverse proxy has the same limit.
pub fn longest() -> usize {
    policy::mcp().longest_message
}

/// Returns the error text for a message larger than [`longest`].
pub fn too_long() -> String {
    format!("the message is larger than {} MiB, the limit of the machine's reverse proxy", longest() >> 20)
}

/// JSON-RPC's error code for invalid JSON.
pub const PARSE_ERROR: i32 = -32_700;
/// JSON-RPC's error code for JSON that is not a valid message.
pub const INVALID_REQUEST: i32 = -32_600;
/// JSON-RPC's error code for a method that does not exist.
pub const METHOD_NOT_FOUND: i32 = -32_601;
/// Error code, of the range for implementations, for a request that did not reach the server.
pub const NO_WAY: i32 = -32_000;

/// Why a text is not a valid message.
#[derive(Debug)]
pub struct Problem {
    /// JSON-RPC's error code.
    pub code: i32,
    /// A description that quotes nothing of the text.
    pub text: String,
}

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It expects an answer with its id.
    Request,
    /// It expects no answer.
    Notification,
    /// It is the answer to a request.
    Response,
}

/// A JSON-RPC message.
#[derive(Clone, Debug)]
pub struct Message {
    line: String,
    kind: Kind,
    method: Option<String>,
    id: String,
}

impl Message {
    /// Parses a message.
    pub fn parse(text: &[u8]) -> Result<Self, Problem> {
        let invalid = |text: &str| Problem { code: INVALID_REQUEST, text: text.to_owned() };
        let line = one_line(text).map_err(|refusal| match refusal {
            Refusal::NotJson => Problem { code: PARSE_ERROR, text: "not JSON".to_owned() },
            Refusal::TooMuch(what) => invalid(what),
        })?;
        if !line.starts_with('{') {
            return Err(invalid("a message must be one JSON object"));
        }
        let fields = Fields::of(&line).ok_or_else(|| invalid("duplicate or too many fields"))?;
        if fields.string("jsonrpc").as_deref() != Some("2.0") {
            return Err(invalid("\"jsonrpc\" is not \"2.0\""));
        }
        let (id, method) = (fields.get("id"), fields.string("method"));
        let is_id = |id: &str| id.starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit());
        let is_answer = fields.get("result").is_some() || fields.get("error").is_some();
        let kind = match (fields.get("method"), id) {
            (Some(_), Some(id)) if method.is_some() && is_id(id) => Kind::Request,
            (Some(_), None) if method.is_some() => Kind::Notification,
            // The answer to an unreadable request has the id null.
            (None, Some(id)) if (is_id(id) || id == "null") && is_answer => Kind::Response,
            _ => return Err(invalid("neither a request nor a notification nor a response")),
        };
        let id = id.unwrap_or(NO_ID).to_owned();
        Ok(Self { line, kind, method, id })
    }

    /// Returns an error response. `id` is the text of the request's id.
    pub fn error(id: &str, code: i32, text: &str) -> Self {
        let error = json!({ "code": code, "message": text });
        let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#);
        Self { line, kind: Kind::Response, method: None, id: id.to_owned() }
    }

    /// Returns a notification. `params` is JSON.
    pub fn notification(method: &str, params: &str) -> Self {
        let line = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#);
        Self { line, kind: Kind::Notification, method: Some(method.to_owned()), id: NO_ID.to_owned() }
    }

    /// Returns its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns its method; None for a response.
    pub fn method(&self) -> Option<&str> {
        self.method.as_deref()
    }

    /// Returns the text of its id; [`NO_ID`] if it has none.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns whether this is the response to a request.
    pub fn answers(&self, request: &Self) -> bool {
        self.kind == Kind::Response && is_same(&self.id, &request.id)
    }

    /// Returns whether this has an id that is the same as `id`.
    pub fn has_id(&self, id: &str) -> bool {
        self.kind != Kind::Notification && is_same(&self.id, id)
    }

    /// Returns the version of the protocol that a message without a session carries; None for a message of a session.
    pub fn version(&self) -> Option<String> {
        let meta = Fields::of(Fields::of(Fields::of(&self.line)?.get("params")?)?.get("_meta")?)?;
        meta.string("io.modelcontextprotocol/protocolVersion")
    }

    /// Returns a parameter that is a string.
    pub fn param(&self, name: &str) -> Option<String> {
        Fields::of(Fields::of(&self.line)?.get("params")?)?.string(name)
    }

    /// Returns the text of a parameter's value.
    pub fn param_text(&self, name: &str) -> Option<String> {
        Fields::of(Fields::of(&self.line)?.get("params")?)?.get(name).map(str::to_owned)
    }

    /// Returns whether its result has the field `section` of `capabilities`.
    pub fn has_capability(&self, section: &str) -> bool {
        let capabilities = || {
            let result = Fields::of(Fields::of(&self.line)?.get("result")?)?;
            Some(Fields::of(result.get("capabilities")?)?.get(section)?.starts_with('{'))
        };
        capabilities().unwrap_or(false)
    }

    /// Returns whether it is an answer with a result.
    pub fn succeeded(&self) -> bool {
        self.kind == Kind::Response && Fields::of(&self.line).is_some_and(|fields| fields.get("result").is_some())
    }

    /// Returns a field of its result, if that is a string.
    pub fn result(&self, field: &str) -> Option<String> {
        Fields::of(Fields::of(&self.line)?.get("result")?)?.string(field)
    }

    /// Returns the message on one line, without the newline. Only white space differs from the original.
    pub fn line(&self) -> &str {
        &self.line
    }
}

/// The text of a missing id.
pub const NO_ID: &str = "null";

/// Compares two ids. A server may write the same string or number in another way.
fn is_same(one: &str, other: &str) -> bool {
    let is_number = |id: &str| !id.starts_with('"');
    let is_whole = |id: &str| is_number(id) && !id.contains(['.', 'e', 'E']);
    if one == other || (is_whole(one) && is_whole(other)) || is_number(one) != is_number(other) {
        return one == other;
    }
    let value = |id: &str| serde_json::from_str::<Value>(id).ok();
    let as_number = |value: Option<Value>| value.and_then(|value| value.as_f64());
    if is_number(one) {
        let (one, other) = (as_number(value(one)), as_number(value(other)));
        return one.is_some() && one == other;
    }
    value(one) == value(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_notifications_and_answers_are_distinguished() {
        for (text, kind) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, Kind::Request),
            (r#"{"jsonrpc":"2.0","id":"a","method":"ping","params":{}}"#, Kind::Request),
            (r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, Kind::Notification),
            (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, Kind::Response),
            (r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}"#, Kind::Response),
        ] {
            assert_eq!(Message::parse(text.as_bytes()).unwrap().kind(), kind, "{text}");
        }
    }

    #[test]
    fn invalid_messages_are_refused() {
        let deep = "[".repeat(100_000);
        for (text, code) in [
            ("", PARSE_ERROR),
            ("{", PARSE_ERROR),
            (deep.as_str(), PARSE_ERROR),
            ("{} {}", PARSE_ERROR),
            ("[]", INVALID_REQUEST),
            ("7", INVALID_REQUEST),
            (r#"{"id":1,"method":"x"}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":{},"result":1}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","id":2}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":true,"method":"x"}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, INVALID_REQUEST),
        ] {
            assert_eq!(Message::parse(text.as_bytes()).unwrap_err().code, code, "{text:.40}");
        }
    }

    #[test]
    fn an_answer_has_a_bounded_number_of_values() {
        let message = |result: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
        let numbers = |count| message(&format!("[{}0]", "0,".repeat(count)));
        assert_eq!(
            Message::parse(numbers(super::super::json::MOST_VALUES).as_bytes()).unwrap_err().code,
            INVALID_REQUEST
        );
        Message::parse(numbers(super::super::json::MOST_VALUES / 2).as_bytes()).unwrap();
        // The content of a string counts as one value.
        let text = serde_json::to_string(&"a \"quoted\", [list]\\ ".repeat(1 << 20)).unwrap();
        Message::parse(message(&text).as_bytes()).unwrap();
    }

    #[test]
    fn ids_pass_unchanged_and_are_compared_as_numbers_and_strings() {
        let asked =
            |id: &str| Message::parse(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x"}}"#).as_bytes()).unwrap();
        let answer =
            |id: &str| Message::parse(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":1e400}}"#).as_bytes()).unwrap();
        for id in ["18446744073709551617", "-99999999999999999999999", "1.0", "1e3", "\"a\"", "0"] {
            assert_eq!(asked(id).id(), id);
            assert!(asked(id).line().contains(&format!(r#""id":{id},"#)) && answer(id).answers(&asked(id)), "{id}");
            assert!(answer(id).line().ends_with("1e400}"));
            assert!(Message::error(id, 1, "x").line().contains(&format!(r#""id":{id},"#)));
        }
        for (one, other, same) in [
            ("18446744073709551617", "18446744073709551618", false),
            ("1e3", "1000.0", true),
            ("1e3", "1000", true),
            ("1", "2", false),
            ("\"a\"", r#""\u0061""#, true),
            ("\"1\"", "1", false),
            ("1e400", "1e401", false),
        ] {
            assert_eq!(answer(one).answers(&asked(other)), same, "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn a_message_is_one_line_whatever_is_in_it(text in any::<String>(), space in "[ \n\r\t]{0,3}") {
            let message = json!({ "jsonrpc": "2.0", "id": text, "method": text, "params": { text.clone(): [text.clone()] } });
            let pretty = serde_json::to_string_pretty(&message).unwrap().replace('\n', &format!("\n{space}"));
            let message_read = Message::parse(pretty.as_bytes()).unwrap();
            let line = message_read.line();
            prop_assert!(!line.contains(['\n', '\r']));
            // No control character reaches the client's terminal.
            prop_assert!(!line.chars().any(char::is_control));
            prop_assert_eq!(serde_json::from_str::<Value>(line).unwrap(), message);
        }
    }
}
