//! Streamable HTTP with sessions.

use serde_json::{Value, json};

use crate::gateway::{Gateway, OLD, text, until};
use crate::http::{Response, send};

/// Returns the methods and answers of a response, in order.
fn order(messages: &[Value]) -> Vec<String> {
    messages.iter().map(|message| message["method"].as_str().unwrap_or("answer").to_owned()).collect()
}

#[test]
fn the_servers_own_answer_to_initialize_passes() {
    let gateway = Gateway::start("old");
    let session = gateway.session_of("/mcp", "2025-06-18", &json!({}));
    assert_eq!(session.hello["serverInfo"], json!({ "name": "stand-in", "version": "7" }));
    assert_eq!(
        (&session.hello["protocolVersion"], &session.hello["instructions"]),
        (&"2025-06-18".into(), &"ask".into())
    );
    assert_eq!(session.hello["capabilities"]["resources"], json!({ "subscribe": true }));
}

#[test]
fn progress_comes_in_order_and_before_the_answer() {
    let gateway = Gateway::start("old");
    let session = gateway.session();
    let messages = session.call("progress", &json!({ "count": 50 })).messages();
    let progress: Vec<&Value> = messages.iter().map(|message| &message["params"]["progress"]).collect();
    assert_eq!(progress[..50], (0..50).map(Value::from).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    assert_eq!(text(&messages[50]), "done");
    assert_eq!(messages.len(), 51);
}

#[test]
fn everything_else_passes_in_both_directions() {
    let gateway = Gateway::start("old");
    let session = gateway.session_of(
        "/mcp",
        OLD,
        &json!({ "sampling": {}, "elicitation": {}, "roots": { "listChanged": true } }),
    );
    assert_eq!(
        session.text("capabilities", &json!({})),
        json!({ "elicitation": {}, "roots": { "listChanged": true }, "sampling": {} })
            .to_string()
            .replace(':', ": ")
            .replace(',', ", ")
    );
    assert_eq!(session.ask(1, "ping", &json!({})).answer()["result"], json!({}));
    let argument = json!({ "argument": { "name": "a", "value": "x" }, "ref": {} });
    assert_eq!(
        session.ask(2, "completion/complete", &argument).answer()["result"]["completion"]["values"],
        json!(["x!"])
    );
    assert_eq!(session.ask(3, "logging/setLevel", &json!({ "level": "debug" })).answer()["result"], json!({}));
    assert_eq!(session.text("level", &json!({})), "\"debug\"");
    assert_eq!(
        order(&session.call("log", &json!({ "level": "info", "data": [1] })).messages()),
        ["notifications/message", "answer"]
    );
    assert_eq!(session.ask(4, "x/unknown", &json!({})).answer()["error"]["code"], -32601);
    assert_eq!(session.ask(5, "resources/read", &json!({ "uri": "x:/" })).answer()["error"]["code"], -32002);
    // A request of the client that is no call, and one that is large.
    assert_eq!(session.ask(6, "resources/subscribe", &json!({ "uri": "x:/y" })).answer()["result"], json!({}));
    assert_eq!(session.text("large", &json!({ "size": 20_000_000 })).len(), 20_000_000);
    assert_eq!(session.text("echo", &json!({ "x": "y".repeat(5_000_000) })).len(), 5_000_009);
}

#[test]
fn a_server_asks_its_client() {
    let gateway = Gateway::start("old");
    let session = gateway.session();
    for (method, answer) in [
        ("sampling/createMessage", json!({ "role": "assistant", "content": {}, "model": "m" })),
        ("elicitation/create", json!({ "action": "accept", "content": { "a": 1 } })),
        ("roots/list", json!({ "roots": [] })),
    ] {
        let mut call = session.call("ask", &json!({ "method": method, "params": { "x": 1 } }));
        let asked = call.message().unwrap();
        assert_eq!((&asked["method"], &asked["params"]), (&method.into(), &json!({ "x": 1 })));
        assert_eq!(session.post(&json!({ "id": asked["id"], "result": answer })).status, 202);
        assert_eq!(serde_json::from_str::<Value>(&text(&call.message().unwrap())).unwrap(), answer);
    }
}

#[test]
fn what_belongs_to_no_request_comes_on_the_stream_for_it() {
    let gateway = Gateway::start("old");
    let session = gateway.session();
    let mut stream = session.get(None);
    assert_eq!(order(&session.call("changes", &json!({})).messages()), ["answer"]);
    let kinds: Vec<String> = (0..3).map(|_| stream.message().unwrap()["method"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        kinds,
        ["notifications/tools/list_changed", "notifications/prompts/list_changed", "notifications/resources/updated"]
    );
}

#[test]
fn a_cancelled_call_is_cancelled_at_the_server_and_a_closed_stream_is_not() {
    let gateway = Gateway::start("old");
    let session = gateway.session();
    let (first, second) = (gateway.path("first"), gateway.path("second"));
    let mut call = session.call("wait", &json!({ "file": first }));
    assert_eq!(call.message().unwrap()["method"], "notifications/progress");
    drop(call);
    let mut call = session.ask(
        8,
        "tools/call",
        &json!({ "name": "wait", "arguments": { "file": second }, "_meta": { "progressToken": 2 } }),
    );
    assert_eq!(call.message().unwrap()["method"], "notifications/progress");
    session.post(&json!({ "method": "notifications/cancelled", "params": { "requestId": 8 } }));
    until("the cancellation", || second.exists());
    // The stream of a cancelled call ends without an answer.
    assert_eq!(call.message(), None);
    assert!(!first.exists());
}

#[test]
fn a_stream_is_resumed_after_the_last_event_that_was_read() {
    let gateway = Gateway::start("old");
    let session = gateway.session();
    let mut call = session.call("progress", &json!({ "count": 10 }));
    let (first, _, data) = call.event().unwrap();
    assert!(first.unwrap().ends_with("-0") && data.is_empty());
    let mut last = None;
    for _ in 0..3 {
        last = call.event().unwrap().0;
    }
    drop(call);
    let messages = session.get(last.as_deref()).messages();
    let progress: Vec<&Value> = messages.iter().map(|message| &message["params"]["progress"]).collect();
    assert_eq!(progress[0], 3);
    assert_eq!((messages.len(), text(messages.last().unwrap()).as_str()), (8, "done"));
    assert_eq!(session.get(Some("99-1")).status, 400);
    assert_eq!(session.get(Some("x")).status, 400);
}

#[test]
fn sessions_end_and_are_told_apart() {
    let gateway = Gateway::start("old");
    let session = gateway.session();
    let process = session.text("process", &json!({}));
    assert!(crate::gateway::lives(&process));
    let mut stranger = session.clone();
    stranger.id = "0".repeat(32);
    assert_eq!(stranger.call("process", &json!({})).status, 404);
    assert_eq!(stranger.delete(), 404);
    assert_eq!(session.delete(), 204);
    assert_eq!(session.call("process", &json!({})).status, 404);
    until("the end of its process", || !crate::gateway::lives(&process));
}

fn post(gateway: &Gateway, headers: &[(&str, &str)], body: &str) -> Response {
    send(gateway.port, "POST", "/mcp", headers, body.as_bytes())
}

#[test]
fn requests_that_are_wrong_are_refused() {
    let gateway = Gateway::start("old");
    let session = gateway.session();
    let json = ("content-type", "application/json");
    let own = ("mcp-session-id", session.id.as_str());
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for (headers, body, status) in [
        (vec![json], ping, 400),
        (vec![json, own], "{", 400),
        (vec![json, own], "[]", 400),
        (vec![json, own], "{}", 400),
        (vec![own], ping, 415),
        (vec![json, own, ("accept", "text/html")], ping, 406),
        (vec![json, own, ("mcp-protocol-version", "1999-01-01")], ping, 400),
        (vec![json, own, ("origin", "https://evil.example")], ping, 403),
        // Controls.
        (vec![json, own], ping, 200),
        (vec![json, own, ("origin", "http://localhost:1")], ping, 200),
    ] {
        assert_eq!(post(&gateway, &headers, body).status, status, "{headers:?} {body}");
    }
    for (method, path, status) in [
        ("GET", "/.well-known/oauth-protected-resource", 404),
        ("GET", "/.well-known/oauth-authorization-server/mcp", 404),
        ("GET", "/servers/none/mcp", 404),
        ("PUT", "/mcp", 405),
        ("POST", "/sse", 405),
        ("GET", "/mcp", 400),
        ("GET", "/status", 200),
        ("OPTIONS", "/mcp", 204),
    ] {
        assert_eq!(send(gateway.port, method, path, &[], b"").status, status, "{method} {path}");
    }
    let refused = send(gateway.port, "POST", "/mcp", &[json, own, ("content-length", "67108865")], b"");
    assert_eq!(refused.status, 413);
    assert!(refused.body().contains("the message is longer than 64 MiB, the maximum for this server"));
}

#[test]
fn batches_are_answered_in_the_version_that_has_them() {
    let gateway = Gateway::start("old");
    let session = gateway.session_of("/mcp", "2025-03-26", &json!({}));
    let batch =
        r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"x/echo","params":{"a":1}}]"#;
    let mut answers = session.raw(batch.as_bytes()).messages();
    answers.sort_by_key(|answer| answer["id"].as_u64());
    assert_eq!((answers.len(), &answers[1]["result"]), (2, &json!({ "a": 1 })));
    assert_eq!(gateway.session().raw(batch.as_bytes()).status, 400);
}

#[test]
fn a_client_that_accepts_only_json_gets_only_the_answer() {
    let gateway = Gateway::start("old");
    let session = gateway.session();
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"progress","arguments":{"count":3},"_meta":{"progressToken":1}}}"#;
    let headers =
        [("content-type", "application/json"), ("accept", "application/json"), ("mcp-session-id", session.id.as_str())];
    let response = post(&gateway, &headers, body);
    assert!(!response.is_events());
    assert_eq!(text(&response.answer()), "done");
}

#[test]
fn sessions_that_only_ask_whether_a_server_answers_are_bounded() {
    let gateway = Gateway::start("old");
    let used = gateway.session();
    assert_eq!(used.text("echo", &json!({})), "{}");
    let asks = || {
        let answer = gateway.probe("/mcp");
        answer.header("mcp-session-id").unwrap().to_owned()
    };
    let all: Vec<_> = (0..300).map(|_| asks()).collect();
    let ends = |id: &str| send(gateway.port, "DELETE", "/mcp", &[("mcp-session-id", id)], b"").status;
    assert_eq!(ends(&all[0]), 404);
    // Controls: the newer ones, and the one that a client uses.
    assert_eq!(all[300 - 256..].iter().filter(|id| ends(id) != 404).count(), 256);
    assert_eq!(used.text("echo", &json!({})), "{}");
}
