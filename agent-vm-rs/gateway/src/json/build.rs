//! Builds the messages that the gateway itself sends.

use bytes::Bytes;

use super::Message;

/// Returns a text as a JSON string.
pub fn quote(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}

/// Returns a number as a request's identity in JSON.
pub fn number_id(number: u64) -> String {
    number.to_string()
}

/// Builds a request. `id` and `params` are JSON.
pub fn request(id: &str, method: &str, params: &str) -> Message {
    built(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{},"params":{params}}}"#, quote(method)))
}

/// Builds a notification. `params` is JSON; an empty text leaves it out.
pub fn notification(method: &str, params: &str) -> Message {
    let params = if params.is_empty() { String::new() } else { format!(r#","params":{params}"#) };
    built(format!(r#"{{"jsonrpc":"2.0","method":{}{params}}}"#, quote(method)))
}

/// Builds an answer. `id` and `result` are JSON.
pub fn result(id: &str, result: &str) -> Message {
    built(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
}

/// Code of the error that a method is not known (JSON-RPC 2.0, section 5.1).
pub const METHOD_NOT_FOUND: i64 = -32601;

/// Builds an answer that is an error. `id` is JSON.
pub fn error(id: &str, code: i64, message: &str) -> Message {
    built(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{}}}}}"#, quote(message)))
}

/// Builds an answer that is an error. `id` and `error` are JSON.
pub fn raw_error(id: &str, error: &str) -> Message {
    built(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#))
}

/// Builds an answer that is an error with details. `id` and `data` are JSON.
pub fn error_with_data(id: &str, code: i64, message: &str, data: &str) -> Message {
    let message = quote(message);
    built(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message},"data":{data}}}}}"#))
}

fn built(text: String) -> Message {
    let bytes = Bytes::from(text);
    Message::parse(bytes.clone()).unwrap_or_else(|| Message::opaque(bytes))
}
