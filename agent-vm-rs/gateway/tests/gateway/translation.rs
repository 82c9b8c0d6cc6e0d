//! Clients with a session, of a server that knows only 2026-07-28.

use serde_json::{Value, json};

use crate::gateway::{Gateway, OLD, text, until};

#[test]
fn a_session_has_what_the_server_discovers() {
    let gateway = Gateway::start("new");
    let session = gateway.session_of("/mcp", "2025-06-18", &json!({}));
    assert_eq!(session.hello["protocolVersion"], "2025-06-18");
    assert_eq!(
        (&session.hello["serverInfo"]["name"], &session.hello["instructions"]),
        (&"stand-in".into(), &"ask".into())
    );
    assert_eq!(session.ask(1, "ping", &json!({})).answer()["result"], json!({}));
    let listed = session.ask(2, "tools/list", &json!({})).answer()["result"].clone();
    assert_eq!((&listed["tools"][0]["name"], &listed["resultType"]), (&"echo".into(), &Value::Null));
    assert_eq!(session.ask(3, "x/unknown", &json!({})).answer()["error"]["code"], -32601);
    assert_eq!(session.text("large", &json!({ "size": 3_000_000 })).len(), 3_000_000);
}

#[test]
fn requests_carry_what_the_session_agreed() {
    let gateway = Gateway::start("new");
    let session = gateway.session_of("/mcp", OLD, &json!({ "roots": { "listChanged": true } }));
    session.ask(1, "logging/setLevel", &json!({ "level": "error" })).answer();
    let meta: Value = serde_json::from_str(&session.text("meta", &json!({}))).unwrap();
    assert_eq!(
        meta,
        json!({
            "progressToken": "token",
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": { "roots": { "listChanged": true } },
            "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
            "io.modelcontextprotocol/logLevel": "error",
        })
    );
}

#[test]
fn inputs_are_asked_by_requests() {
    let gateway = Gateway::start("new");
    let session = gateway.session_of("/mcp", OLD, &json!({ "elicitation": {} }));
    let mut call =
        session.call("ask", &json!({ "method": "elicitation/create", "params": { "mode": "url", "url": "u" } }));
    let asked = call.message().unwrap();
    assert_eq!((&asked["method"], &asked["params"]["url"]), (&"elicitation/create".into(), &"u".into()));
    assert!(asked["params"]["elicitationId"].is_string());
    session.post(&json!({ "id": asked["id"], "result": { "action": "accept" } }));
    let answer = call.message().unwrap();
    assert_eq!((&answer["id"], text(&answer).as_str()), (&7.into(), r#"{"action": "accept"}"#));
    // A client that refuses, and one that cannot answer.
    let mut call = session.call("ask", &json!({ "method": "elicitation/create" }));
    let asked = call.message().unwrap();
    session.post(&json!({ "id": asked["id"], "error": { "code": -1, "message": "no" } }));
    assert_eq!(call.message().unwrap()["error"]["code"], -32603);
    let error = session.call("ask", &json!({ "method": "sampling/createMessage" })).answer()["error"].clone();
    assert!(error["message"].as_str().unwrap().contains("which the client does not support"), "{error}");
}

#[test]
fn changes_and_updates_reach_the_client() {
    let gateway = Gateway::start("new");
    let session = gateway.session();
    let mut stream = session.get(None);
    session.ask(1, "resources/subscribe", &json!({ "uri": "x:/y" })).answer();
    session.text("changes", &json!({}));
    let mut methods = Vec::new();
    while methods.len() < 3 {
        let message = stream.message().unwrap();
        assert_eq!(message["params"]["_meta"], Value::Null, "{message}");
        methods.push(message["method"].as_str().unwrap().to_owned());
    }
    methods.sort_unstable();
    assert_eq!(
        methods,
        ["notifications/prompts/list_changed", "notifications/resources/updated", "notifications/tools/list_changed"]
    );
}

#[test]
fn progress_and_cancellation_pass() {
    let gateway = Gateway::start("new");
    let session = gateway.session();
    let messages = session.call("progress", &json!({ "count": 5 })).messages();
    assert_eq!((messages.len(), &messages[4]["params"]["progress"]), (6, &4.into()));
    let file = gateway.path("cancelled");
    let mut call = session.call("wait", &json!({ "file": file }));
    call.message().unwrap();
    session.post(&json!({ "method": "notifications/cancelled", "params": { "requestId": 7 } }));
    until("the cancellation", || file.exists());
}

#[test]
fn what_is_known_of_a_server_is_told_at_once_in_either_era() {
    for era in ["old", "new"] {
        let gateway = Gateway::start_with(era, &json!({}), &["--grace=0"]);
        // Before the server has answered, only its name in the gateway is known.
        until("its own name", || {
            let session = gateway.session();
            assert_eq!(session.delete(), 204);
            session.hello["serverInfo"]["name"] == "stand-in"
        });
        let found = gateway.stateless("server/discover", json!({})).answer()["result"].clone();
        assert_eq!(found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "stand-in", "{era}");
        assert_eq!(found["instructions"], "ask");
    }
}
