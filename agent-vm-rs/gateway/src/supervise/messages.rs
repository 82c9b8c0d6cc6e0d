//! Messages of the gateway as a client.

use crate::json::{Message, Object, quote, request};
use crate::policy::{SESSION_VERSIONS, STATELESS};

pub(super) const CHECK: &str = "agent-mcp-check";
pub(super) const DISCOVER: &str = "agent-mcp-discover";

/// Name of the gateway as a client.
pub const OWN_NAME: &str = r#"{"name":"agent-mcp","version":"1"}"#;

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

#[cfg(test)]
mod tests {
    use super::*;

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
