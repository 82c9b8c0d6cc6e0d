//! Answers of a server that knows only versions with sessions, for a client without one.

use super::inputs::Wanted;
use super::meta::SERVER;
use crate::json::{Message, Object, quote};
use crate::policy::{SESSION_VERSIONS, STATELESS};

/// Methods of which the result says how long it may be kept.
const CACHED: [&str; 6] =
    ["server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"];

/// Methods that exist only with sessions.
pub const REMOVED: [&str; 5] =
    ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

const INVALID_PARAMS: &str = "-32602";
const RESOURCE_NOT_FOUND: i64 = -32002;
const URL_ELICITATION_REQUIRED: i64 = -32042;

/// Returns an answer with what the version without sessions requires of it. `hello` is the server's result of `initialize`.
pub fn modernized(answer: &Message, method: &str, hello: &str) -> Message {
    if let Some(result) = answer.result() {
        let Some(mut result) = Object::parse(result) else { return answer.clone() };
        let hello = Object::or_empty(Some(hello));
        complete(&mut result, method, hello.get("serverInfo"));
        return answer.with_result(&result.to_string());
    }
    if answer.error_code() == Some(RESOURCE_NOT_FOUND) {
        let mut error = Object::or_empty(answer.error());
        error.set("code", INVALID_PARAMS);
        return answer.with_error(&error.to_string());
    }
    answer.clone()
}

/// Returns the result of `server/discover` for a server's result of `initialize`, or for a stand-in.
pub fn discovery(hello: &str) -> String {
    let hello = Object::or_empty(Some(hello));
    let versions: Vec<String> = [STATELESS].into_iter().chain(SESSION_VERSIONS).map(quote).collect();
    let mut capabilities = hello.object("capabilities").unwrap_or_default();
    // Experimental in 2025-11-25, and another protocol since.
    capabilities.remove("tasks");
    let mut result = Object::default();
    result.set("supportedVersions", format!("[{}]", versions.join(",")));
    result.set("capabilities", capabilities.to_string());
    if let Some(instructions) = hello.get("instructions") {
        result.set("instructions", instructions);
    }
    complete(&mut result, "server/discover", hello.get("serverInfo"));
    result.to_string()
}

/// Returns the elicitations that an error requires.
pub fn required_elicitations(answer: &Message) -> Option<Wanted> {
    if answer.error_code() != Some(URL_ELICITATION_REQUIRED) {
        return None;
    }
    let error = Object::parse(answer.error()?)?;
    let data = error.object("data")?;
    let elicitations: Vec<Object> = serde_json::from_str(data.get("elicitations")?).ok()?;
    let mut wanted = Wanted::default();
    for (number, mut elicitation) in elicitations.into_iter().enumerate() {
        elicitation.remove("elicitationId");
        wanted.inputs.push((format!("input-{number}"), "elicitation/create".to_owned(), elicitation.to_string()));
    }
    (!wanted.inputs.is_empty()).then_some(wanted)
}

fn complete(result: &mut Object, method: &str, server: Option<&str>) {
    result.set_default("resultType", "\"complete\"");
    if CACHED.contains(&method) {
        result.set_default("ttlMs", "0");
        result.set_default("cacheScope", "\"private\"");
    }
    if let Some(server) = server {
        let meta = result.get("_meta").unwrap_or("{}").to_owned();
        let mut meta = Object::or_empty(Some(&meta));
        meta.set_default(SERVER, server);
        result.set("_meta", meta.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::parse(bytes::Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    const HELLO: &str = r#"{"serverInfo":{"name":"s"},"capabilities":{"tools":{},"tasks":{}},"instructions":"i"}"#;

    #[test]
    fn results_get_what_the_version_requires() {
        let listed = modernized(&message(r#"{"id":1,"result":{"tools":[ 1.0 ]}}"#), "tools/list", HELLO);
        let expected = r#"{"tools":[ 1.0 ],"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}}"#;
        assert_eq!(listed.result(), Some(expected));
        let called = modernized(&message(r#"{"id":1,"result":{}}"#), "tools/call", HELLO);
        assert!(!called.result().unwrap().contains("ttlMs"));
        let missing =
            modernized(&message(r#"{"id":1,"error":{"code":-32002,"message":"m"}}"#), "resources/read", HELLO);
        assert_eq!(missing.error(), Some(r#"{"code":-32602,"message":"m"}"#));
    }

    #[test]
    fn discovery_says_what_initialize_does() {
        let read: serde_json::Value = serde_json::from_str(&discovery(HELLO)).unwrap();
        assert_eq!(read["supportedVersions"][0], "2026-07-28");
        assert_eq!(read["capabilities"], serde_json::json!({"tools": {}}));
        assert_eq!((&read["instructions"], &read["ttlMs"]), (&"i".into(), &0.into()));
    }

    #[test]
    fn required_elicitations_become_inputs() {
        let answer = message(
            r#"{"id":1,"error":{"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","elicitationId":"e","url":"u"}]}}}"#,
        );
        let wanted = required_elicitations(&answer).unwrap();
        assert_eq!(wanted.inputs[0].2, r#"{"mode":"url","url":"u"}"#);
        assert!(required_elicitations(&message(r#"{"id":1,"error":{"code":1}}"#)).is_none());
    }
}
