//! Messages of the gateway as a client.

use crate::json::{Id, Message, Object, quote, request};
use crate::policy::{SESSION_VERSIONS, STATELESS};

pub(super) const CHECK: &str = "agent-mcp-check";
pub(super) const PING: &str = "agent-mcp-ping";
pub(super) const DISCOVER: &str = "agent-mcp-discover";

/// Name of the gateway as a client.
pub const OWN_NAME: &str = r#"{"name":"agent-mcp","version":"1"}"#;

/// Returns a `ping` request of the gateway.
pub(super) fn ping() -> Message {
    request(&quote(PING), "ping", "{}")
}

/// Returns whether a message answers a request of the gateway.
pub(super) fn answers(message: &Message, id: &str) -> bool {
    message.method().is_none() && message.id() == Some(&Id::Text(id.to_owned()))
}

/// Returns a `server/discover` request of the gateway.
pub fn discover(id: &str) -> Message {
    let meta = format!(
        r#"{{"io.modelcontextprotocol/protocolVersion":"{STATELESS}","io.modelcontextprotocol/clientInfo":{OWN_NAME},"io.modelcontextprotocol/clientCapabilities":{{}}}}"#
    );
    request(&quote(id), "server/discover", &format!(r#"{{"_meta":{meta}}}"#))
}

/// Returns the parameters of an `initialize` request. Capabilities and name are JSON.
pub fn initialize_params(capabilities: Option<&str>, name: Option<&str>) -> String {
    let (version, capabilities) = (SESSION_VERSIONS[0], capabilities.unwrap_or("{}"));
    let name = name.unwrap_or(OWN_NAME);
    format!(r#"{{"protocolVersion":"{version}","capabilities":{capabilities},"clientInfo":{name}}}"#)
}

/// Returns the result of `server/discover`, if the message is one.
pub fn discovered(message: &Message) -> Option<&str> {
    let result = message.result()?;
    let object = Object::parse(result)?;
    let versions: Vec<String> = serde_json::from_str(object.get("supportedVersions")?).ok()?;
    versions.iter().any(|version| version == STATELESS).then_some(result)
}

/// Returns a result of `initialize` with the newest version that the server may know: it answers a version that it knows with the
/// same, and another one with its newest.
pub(super) fn remembered(before: Option<&str>, hello: &str, asked: Option<&str>) -> String {
    let version = |hello: Option<&str>| Object::or_empty(hello).text("protocolVersion");
    let (before, own) = (version(before), version(Some(hello)));
    let mut hello = Object::or_empty(Some(hello));
    if own.is_some() && own.as_deref() == asked {
        let newest = before.filter(|before| Some(before) > own.as_ref());
        hello.set("protocolVersion", quote(newest.as_deref().unwrap_or(SESSION_VERSIONS[0])));
    }
    hello.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_that_the_server_may_know_is_remembered() {
        let hello = |version: &str| format!(r#"{{"protocolVersion":"{version}","capabilities":{{}}}}"#);
        let newest = SESSION_VERSIONS[0];
        for (before, answered, asked, expected) in [
            (None, "2025-03-26", "2025-03-26", newest),
            (None, "2025-06-18", newest, "2025-06-18"),
            (Some("2025-06-18"), "2025-03-26", "2025-03-26", "2025-06-18"),
            (Some(newest), "2025-06-18", newest, "2025-06-18"),
            (Some("2025-03-26"), "2025-06-18", "2025-06-18", newest),
            (None, newest, "2024-11-05", newest),
        ] {
            let before = before.map(hello);
            assert_eq!(
                remembered(before.as_deref(), &hello(answered), Some(asked)),
                hello(expected),
                "{answered} {asked}"
            );
        }
    }

    #[test]
    fn only_a_result_with_the_version_counts() {
        for (answer, expected) in [
            (
                r#"{"id":1,"result":{"supportedVersions":["2026-07-28"]}}"#,
                Some(r#"{"supportedVersions":["2026-07-28"]}"#),
            ),
            (r#"{"id":1,"result":{"supportedVersions":["2025-11-25"]}}"#, None),
            (r#"{"id":1,"result":{"echo":1}}"#, None),
            (r#"{"id":1,"error":{"code":-32601}}"#, None),
        ] {
            let message = Message::parse(bytes::Bytes::copy_from_slice(answer.as_bytes())).unwrap();
            assert_eq!(discovered(&message), expected, "{answer}");
        }
        assert!(serde_json::from_str::<serde_json::Value>(&initialize_params(None, None)).is_ok());
    }
}
