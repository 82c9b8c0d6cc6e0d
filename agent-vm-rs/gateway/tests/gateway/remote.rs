//! Servers on the network: another gateway in front of a stand-in.

use serde_json::{Value, json};

use crate::gateway::{Gateway, OLD, lives, text, until};

fn url(gateway: &Gateway, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", gateway.port)
}

#[test]
fn remote_servers_are_served_like_others() {
    let far = Gateway::start("old");
    let named = json!({
        "http": { "type": "http", "url": url(&far, "/mcp") },
        "sse": { "type": "sse", "url": url(&far, "/sse") },
    });
    let near = Gateway::start_with("old", &named, &[]);
    for name in ["http", "sse"] {
        let path = format!("/servers/{name}/mcp");
        let session = near.session_of(&path, OLD, &json!({ "sampling": {} }));
        assert_eq!(session.hello["serverInfo"]["name"], "stand-in");
        let messages = session.call("progress", &json!({ "count": 20 })).messages();
        let numbers: Vec<u64> = messages.iter().filter_map(|message| message["params"]["progress"].as_u64()).collect();
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
        assert_eq!(session.text("large", &json!({ "size": 5_000_000 })).len(), 5_000_000);
        let mut call = session.call("ask", &json!({ "method": "sampling/createMessage" }));
        let asked = call.message().unwrap();
        session.post(&json!({ "id": asked["id"], "result": { "answer": 1 } }));
        assert_eq!(text(&call.message().unwrap()), r#"{"answer": 1}"#);
        let mut stream = session.get(None);
        session.text("changes", &json!({}));
        assert_eq!(stream.message().unwrap()["method"], "notifications/tools/list_changed");
        let file = near.path(name);
        let mut call = session.call("wait", &json!({ "file": file }));
        call.message().unwrap();
        session.post(&json!({ "method": "notifications/cancelled", "params": { "requestId": 7 } }));
        until("the cancellation", || file.exists());
        // The end of the session reaches the far side.
        let process = session.text("process", &json!({}));
        session.delete();
        until("the end of the far process", || !lives(&process));
    }
}

#[test]
fn a_remote_server_without_sessions_is_served() {
    let far = Gateway::start("new");
    let near = Gateway::start_with("old", &json!({ "http": { "url": url(&far, "/mcp") } }), &[]);
    let session = near.session_of("/servers/http/mcp", OLD, &json!({ "elicitation": {} }));
    assert_eq!(session.text("echo", &json!({ "a": 1 })), r#"{"a": 1}"#);
    let messages = session.call("progress", &json!({ "count": 3 })).messages();
    assert_eq!(messages.len(), 4);
}

#[test]
fn an_unreachable_server_fails_with_the_reason() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let far = Gateway::start("old");
    let named = json!({
        "closed": { "type": "http", "url": format!("http://127.0.0.1:{port}/mcp") },
        "wrong": { "type": "sse", "url": url(&far, "/nothing") },
        "plain": { "type": "http", "url": format!("https://127.0.0.1:{}/mcp", far.port) },
    });
    let near = Gateway::start_with("old", &named, &["--pause=3600000", "--spacing=3600000"]);
    for (name, why) in [
        ("closed", format!("cannot be reached at 127.0.0.1:{port}: Connection refused")),
        ("wrong", "answered HTTP 404".to_owned()),
        ("plain", format!("cannot be reached at 127.0.0.1:{}: ", far.port)),
    ] {
        until(name, || near.state(name)["state"] == "failed");
        let told = near.state(name)["why"].as_str().unwrap().to_owned();
        assert!(told.starts_with(&why), "{told}");
        let session = near.session_of(&format!("/servers/{name}/mcp"), OLD, &json!({}));
        let error = session.call("x", &json!({})).answer()["error"]["message"].clone();
        assert!(error.as_str().unwrap().starts_with(&format!("The MCP server {name} has failed: it {why}")), "{error}");
    }
    assert_eq!(near.state("default")["restarts"], Value::from(0));
}
