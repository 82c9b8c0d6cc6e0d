//! Answers in place of a server that has not started.

use crate::json::{Object, quote};
use crate::policy::SESSION_VERSIONS;

/// Capabilities announced for a server that has not started. All of them are served: see `empty_answer`.
pub const PROMISED: &str = r#"{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"logging":{}}"#;

/// The lists that a server may change.
pub const LISTS: [&str; 3] = ["tools", "prompts", "resources"];

/// Answers for a server that lacks a capability which was announced before it started: method, capability and result.
pub const EMPTY: [(&str, &str, &str); 7] = [
    ("tools/list", "tools", r#"{"tools":[]}"#),
    ("prompts/list", "prompts", r#"{"prompts":[]}"#),
    ("resources/list", "resources", r#"{"resources":[]}"#),
    ("resources/templates/list", "resources", r#"{"resourceTemplates":[]}"#),
    ("resources/subscribe", "resources", "{}"),
    ("resources/unsubscribe", "resources", "{}"),
    ("logging/setLevel", "logging", "{}"),
];

/// Returns the result for a method of a capability that the server lacks.
pub fn empty_answer(method: &str, capabilities: &Object) -> Option<&'static str> {
    let (_, capability, result) = EMPTY.iter().find(|(name, ..)| *name == method)?;
    (!capabilities.has(capability)).then_some(*result)
}

/// Returns the result of `initialize` for a server that has not started.
pub fn greeting(name: &str, request: Option<&str>) -> String {
    let version = version(request);
    let name = quote(name);
    format!(
        r#"{{"protocolVersion":"{version}","capabilities":{PROMISED},"serverInfo":{{"name":{name},"version":"0"}}}}"#
    )
}

/// Returns the result of `initialize` for a server that has given a result before.
pub fn recalled(hello: &str, request: Option<&str>) -> String {
    let mut hello = Object::or_empty(Some(hello));
    let (own, asked) = (hello.text("protocolVersion").unwrap_or_default(), version(request));
    // A server knows the versions before its newest one.
    if asked < own.as_str() {
        hello.set("protocolVersion", quote(asked));
    }
    hello.to_string()
}

/// Returns whether a server's results of `initialize` say the same of what it offers.
pub fn same(before: &str, now: Option<&str>) -> bool {
    let (before, now) = (Object::or_empty(Some(before)), Object::or_empty(now));
    before.get("capabilities") == now.get("capabilities") && before.get("serverInfo") == now.get("serverInfo")
}

/// Returns the version that the gateway speaks with a client that asks for one.
pub fn version(request: Option<&str>) -> &'static str {
    let asked = Object::or_empty(request).text("protocolVersion");
    SESSION_VERSIONS.iter().find(|known| asked.as_deref() == Some(**known)).unwrap_or(&SESSION_VERSIONS[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_promised_is_answered_only_if_the_server_lacks_it() {
        let capabilities = Object::parse(r#"{"tools":{}}"#).unwrap();
        assert_eq!(empty_answer("tools/list", &capabilities), None);
        assert_eq!(empty_answer("prompts/list", &capabilities), Some(r#"{"prompts":[]}"#));
        assert_eq!(empty_answer("tools/call", &capabilities), None);
    }

    #[test]
    fn the_greeting_has_the_clients_version_if_it_is_known() {
        let greeting = |asked: &str| greeting("s\"", Some(&format!(r#"{{"protocolVersion":"{asked}"}}"#)));
        for (asked, expected) in [("2025-06-18", "2025-06-18"), ("2099-01-01", "2025-11-25")] {
            let read: serde_json::Value = serde_json::from_str(&greeting(asked)).unwrap();
            assert_eq!(read["protocolVersion"], expected);
            assert_eq!(read["serverInfo"]["name"], "s\"");
            assert_eq!(read["capabilities"]["tools"]["listChanged"], true);
        }
    }
}
