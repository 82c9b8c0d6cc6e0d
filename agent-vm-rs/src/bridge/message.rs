//! JSON-RPC messages as MCP has them: one object each.

use serde_json::{Map, Value, json};

use crate::text::plain_json;

/// Of one message: a tool's answer may hold a file. The gate takes no more, either.
pub const LONGEST: usize = 64 << 20;

/// Values and keys of one message: each takes many times its bytes in memory.
const MOST_VALUES: usize = 1 << 20;

/// JSON-RPC's code for what is no JSON.
pub const PARSE_ERROR: i32 = -32_700;
/// JSON-RPC's code for JSON that is no message.
pub const INVALID_REQUEST: i32 = -32_600;
/// Of the range that implementations have for themselves: the way to the server failed.
pub const NO_WAY: i32 = -32_000;

/// Why something is no message.
#[derive(Debug)]
pub struct Problem {
    /// JSON-RPC's code.
    pub code: i32,
    /// In words, without any of the text itself.
    pub text: String,
}

/// What a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An answer with its id.
    Request,
    /// No answer.
    Notification,
    /// It is one.
    Response,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Message {
    fields: Map<String, Value>,
    kind: Kind,
}

impl Message {
    /// Parses one message.
    pub fn parse(text: &[u8]) -> Result<Self, Problem> {
        let invalid = |text: &str| Problem { code: INVALID_REQUEST, text: text.to_owned() };
        if most_values(text) > MOST_VALUES {
            return Err(invalid("too many values in one message"));
        }
        let value: Value = serde_json::from_slice(text)
            .map_err(|error| Problem { code: PARSE_ERROR, text: format!("no JSON ({:?} error)", error.classify()) })?;
        let Value::Object(fields) = value else {
            return Err(invalid("a message is one JSON object"));
        };
        if fields.get("jsonrpc") != Some(&Value::from("2.0")) {
            return Err(invalid("\"jsonrpc\" is not \"2.0\""));
        }
        let id = fields.get("id");
        let is_id = |id: &Value| id.is_string() || id.is_number();
        let kind = match (fields.get("method"), id) {
            (Some(Value::String(_)), Some(id)) if is_id(id) => Kind::Request,
            (Some(Value::String(_)), None) => Kind::Notification,
            // An answer to what could not be read has no id.
            (None, Some(id))
                if (is_id(id) || id.is_null()) && (fields.contains_key("result") || fields.contains_key("error")) =>
            {
                Kind::Response
            }
            _ => return Err(invalid("neither a request, nor a notification, nor an answer")),
        };
        Ok(Self { fields, kind })
    }

    /// The answer to a request that could not be asked.
    pub fn error(id: &Value, code: i32, text: &str) -> Self {
        let mut fields = Map::new();
        fields.insert("jsonrpc".to_owned(), "2.0".into());
        fields.insert("id".to_owned(), id.clone());
        fields.insert("error".to_owned(), json!({ "code": code, "message": text }));
        Self { fields, kind: Kind::Response }
    }

    /// What it asks for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its method, unless it is an answer.
    pub fn method(&self) -> Option<&str> {
        self.fields.get("method").and_then(Value::as_str)
    }

    /// Its id; null if it has none.
    pub fn id(&self) -> &Value {
        self.fields.get("id").unwrap_or(&Value::Null)
    }

    /// A field of its result.
    pub fn result(&self, field: &str) -> Option<&Value> {
        self.fields.get("result")?.get(field)
    }

    /// Written anew: one line, without its end.
    pub fn line(&self) -> String {
        // JSON's strings hold no line break, and serde_json puts none between values.
        // A map's keys are strings, which is all that could go wrong.
        plain_json(&serde_json::to_string(&self.fields).unwrap_or_default())
    }
}

/// As many values and keys as a text of JSON can have: each but the first comes after one of these.
fn most_values(text: &[u8]) -> usize {
    let (mut count, mut in_string, mut escaped) = (1, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b',' | b':' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_notifications_and_answers_are_told_apart() {
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
    fn what_is_no_message_is_refused() {
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
        ] {
            assert_eq!(Message::parse(text.as_bytes()).unwrap_err().code, code, "{text:.40}");
        }
    }

    #[test]
    fn an_answer_has_a_bounded_number_of_values() {
        let message = |result: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
        let numbers = |count| message(&format!("[{}0]", "0,".repeat(count)));
        assert_eq!(Message::parse(numbers(MOST_VALUES).as_bytes()).unwrap_err().code, INVALID_REQUEST);
        Message::parse(numbers(MOST_VALUES / 2).as_bytes()).unwrap();
        // What is in a string is one value.
        let text = serde_json::to_string(&"a \"quoted\", [list]\\ ".repeat(MOST_VALUES)).unwrap();
        Message::parse(message(&text).as_bytes()).unwrap();
    }

    proptest! {
        #[test]
        fn a_message_is_one_line_whatever_is_in_it(text in any::<String>(), space in "[ \n\r\t]{0,3}") {
            let message = json!({ "jsonrpc": "2.0", "id": text, "method": text, "params": { text.clone(): [text.clone()] } });
            let pretty = serde_json::to_string_pretty(&message).unwrap().replace('\n', &format!("\n{space}"));
            let line = Message::parse(pretty.as_bytes()).unwrap().line();
            prop_assert!(!line.contains(['\n', '\r']));
            // No control character reaches a terminal that shows it.
            prop_assert!(!line.chars().any(char::is_control));
            prop_assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), message);
        }
    }
}
