//! HTTP headers that repeat parts of a message, for requests without a session (MCP 2026-07-28, Streamable HTTP, "Request
//! Metadata").

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::message::Message;

/// Name of the header with the protocol's version.
pub(super) const VERSION: &str = "mcp-protocol-version";

/// Methods whose target is in a header, and the parameter that names it.
const NAMED: [(&str, &str); 3] = [("tools/call", "name"), ("prompts/get", "name"), ("resources/read", "uri")];

/// Returns the headers of a request that carries its version itself; None for any other message.
pub(super) fn of(message: &Message) -> Option<Vec<(&'static str, String)>> {
    let (version, method) = (message.version()?, message.method()?);
    let named = NAMED.iter().find(|(name, _)| *name == method).and_then(|(_, param)| message.param(param));
    let headers = [(VERSION, version), ("mcp-method", method.to_owned())];
    Some(
        headers
            .into_iter()
            .chain(named.map(|name| ("mcp-name", name)))
            .map(|(name, text)| (name, encoded(&text)))
            .collect(),
    )
}

/// Returns a text as a header's value. One that cannot be such a value, or that looks like an encoded one, is encoded.
fn encoded(text: &str) -> String {
    let is_plain = text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
        && text.trim() == text
        && !(text.starts_with("=?base64?") && text.ends_with("?="));
    if is_plain { text.to_owned() } else { format!("=?base64?{}?=", BASE64_STANDARD.encode(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &str) -> Option<Vec<(&'static str, String)>> {
        of(&Message::parse(text.as_bytes()).unwrap())
    }

    fn request(method: &str, params: &str) -> String {
        let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}{meta}}}}}"#)
    }

    #[test]
    fn headers_repeat_what_the_message_says() {
        let named = |params: &str| headers(&request("tools/call", params)).unwrap().last().unwrap().1.clone();
        assert_eq!(
            headers(&request("tools/call", r#""name":"add","#)).unwrap(),
            [(VERSION, "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "add")]
                .map(|(a, b)| (a, b.to_owned()))
        );
        assert_eq!(headers(&request("tools/list", r#""name":"add","#)).unwrap().len(), 2);
        assert_eq!(headers(&request("resources/read", r#""uri":"file:///a","#)).unwrap()[2].1, "file:///a");
        for (name, value) in [
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            (r"line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
            ("two words", "two words"),
        ] {
            assert_eq!(named(&format!(r#""name":"{name}","#)), value);
        }
    }

    #[test]
    fn messages_of_a_session_have_none() {
        assert_eq!(headers(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{}}}"#), None);
        assert_eq!(headers(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#), None);
    }
}
