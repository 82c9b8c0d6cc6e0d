//! What servers do before their first client comes, or when it does.

use std::fs;
use std::thread;

use serde_json::{Value, json};

use crate::gateway::{Gateway, OLD, stand_in, until};
use crate::http::send;

#[test]
fn a_server_that_ends_at_discovery_has_not_failed() {
    let home = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_in(home, "old-discovers", &json!({}), &["--pause=3600000", "--spacing=3600000"]);
    let answer = thread::scope(|scope| {
        let client = scope.spawn(|| gateway.stateless("tools/list", json!({})).answer());
        until("the end", || gateway.log().contains("default exited with status 6 when it was sent server/discover"));
        let state = gateway.state("default");
        assert_eq!((&state["state"], &state["restarts"]), (&"starting".into(), &0.into()));
        fs::write(gateway.path("starts.go"), "").unwrap();
        client.join().unwrap()
    });
    assert_eq!(answer["result"]["tools"][0]["name"], "echo", "{answer}");
}

#[test]
fn a_server_that_answers_ping_and_ends_at_initialize_has_failed_until_it_does_not() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("others");
    let named = json!({ "other": stand_in("old-fails", Some(&file)) });
    let gateway = Gateway::start_in(home, "old", &named, &["--pause=3600000", "--spacing=3600000"]);
    until("its answer to ping", || gateway.state("other")["state"] == "running");
    let session = gateway.session_of("/servers/other/mcp", OLD, &json!({}));
    let state = gateway.state("other");
    assert_eq!((&state["state"], &state["why"]), (&"failed".into(), &"exited with status 6".into()));
    let error = session.call("echo", &json!({})).answer()["error"]["message"].clone();
    assert!(error.as_str().unwrap().contains("has failed: it exited with status 6"), "{error}");
    // No other process has shown that.
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 1);

    // `ping` would be answered after each restart.
    let gateway = Gateway::start_with("old", &json!({ "other": stand_in("old-fails", None) }), &["--pause=50"]);
    until("its answer to ping", || gateway.state("other")["state"] == "running");
    gateway.session_of("/servers/other/mcp", OLD, &json!({})).delete();
    until("further restarts", || gateway.state("other")["restarts"].as_u64() > Some(2));
    // Control: a server with a session that ended once.
    let session = gateway.session();
    session.call("die", &json!({})).answer();
    assert_eq!(session.text("echo", &json!({})), "{}");
    assert_eq!(
        (&gateway.state("default")["state"], &gateway.state("default")["restarts"]),
        (&"running".into(), &1.into())
    );
}

#[test]
fn a_server_that_can_run_only_once_is_not_started_again_and_again() {
    let home = tempfile::tempdir().unwrap();
    let named = json!({ "other": stand_in("old-alone", Some(&home.path().join("others"))) });
    let arguments = ["--pause=3600000", "--grace=100", "--patience=2000"];
    let gateway = Gateway::start_in(home, "old", &named, &arguments);
    until("its answer to ping", || gateway.state("other")["state"] == "running");
    let [first, second] = [(); 2].map(|()| gateway.session_of("/servers/other/mcp", OLD, &json!({})));
    let error = second.call("echo", &json!({})).answer()["error"]["message"].clone();
    assert!(error.as_str().unwrap().contains("is still starting"), "{error}");
    // That of the first session, and two for the second one.
    let starts = || fs::read_to_string(gateway.path("others")).unwrap().lines().count();
    until("the second try", || starts() >= 3);
    // Control: the first session goes on.
    assert_eq!(first.text("echo", &json!({})), "{}");
    assert_eq!(starts(), 3);
}

#[test]
fn answers_to_nothing_do_not_show_that_a_server_runs() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let named = json!({ "other": stand_in("old-confuses", Some(file.path())) });
    // The gateway does not wait for its answer to `ping`.
    let gateway = Gateway::start_with("old", &named, &["--ping=0", "--deadline=3000", "--pause=3600000"]);
    until("the time limit", || gateway.state("other")["state"] == "failed");
    assert_eq!(gateway.state("other")["why"], "did not answer initialize in 3 s");
    // Control: one that answers `initialize` of the gateway.
    let gateway = Gateway::start_with("old", &json!({ "waits": stand_in("old-waits", None) }), &["--ping=50"]);
    until("waits", || gateway.state("waits")["state"] == "running");
}

#[test]
fn answers_to_an_early_ping_do_not_reach_the_client() {
    for habit in ["old-strays", "old-lags"] {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("starts.wait"), "").unwrap();
        let gateway = Gateway::start_in(home, habit, &json!({}), &[]);
        // This transport has one stream for everything.
        let mut stream = send(gateway.port, "GET", "/sse", &[("accept", "text/event-stream")], b"");
        let (_, _, endpoint) = stream.event().unwrap();
        let post = |id: &str, method: &str, params: &Value| {
            let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
            send(gateway.port, "POST", &endpoint, &[("content-type", "application/json")], body.as_bytes()).status
        };
        let name = json!({ "name": "t", "version": "1" });
        let params = json!({ "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": name });
        assert_eq!(post("hello", "initialize", &params), 202);
        fs::write(gateway.path("starts.go"), "").unwrap();
        let hello = stream.message().unwrap();
        assert_eq!((&hello["id"], &hello["result"]["serverInfo"]["name"]), (&"hello".into(), &"stand-in".into()));
        // A client may use the same identity.
        for id in ["other", "agent-mcp-ping"] {
            assert_eq!(post(id, "tools/list", &json!({})), 202);
            let listed = stream.message().unwrap();
            assert_eq!((&listed["id"], &listed["result"]["tools"][0]["name"]), (&id.into(), &"echo".into()));
        }
    }
}

#[test]
fn a_server_that_asks_before_a_client_comes_gets_an_answer() {
    let named = json!({ "other": stand_in("old-asks", None) });
    // They are sent only `ping`; or `initialize` of the gateway, and `server/discover`.
    for limit in ["--ping=3600000", "--ping=0"] {
        let gateway = Gateway::start_with("old-asks", &named, &[limit]);
        for name in ["default", "other"] {
            until(name, || gateway.state(name)["state"] == "running");
        }
        if limit == "--ping=0" {
            assert_eq!(gateway.stateless_call("echo", &json!({})), "{}");
        } else {
            for path in ["/mcp", "/servers/other/mcp"] {
                assert_eq!(gateway.session_of(path, OLD, &json!({})).hello["instructions"], "ask");
            }
        }
    }
}

#[test]
fn a_process_that_hangs_at_discovery_is_given_to_nobody() {
    let gateway = Gateway::start_with("old-hangs", &json!({}), &["--discovery=100"]);
    until("its answer to ping", || gateway.state("default")["state"] == "running");
    assert_eq!(gateway.stateless_call("echo", &json!({})), "{}");
    assert!(gateway.log().contains("default did not answer server/discover"));
    assert_eq!(gateway.session().hello["instructions"], "ask");
    assert_eq!(gateway.state("default")["restarts"], 0);
}

#[test]
fn the_question_whether_a_server_answers_does_not_restart_it() {
    let named = json!({ "other": { "command": "sh", "args": ["-c", "echo start >>others; exit 5"] } });
    let gateway = Gateway::start_with("old", &named, &["--pause=3600000"]);
    until("its failure", || gateway.state("other")["state"] == "failed");
    for _ in 0..3 {
        assert_eq!(gateway.probe("/servers/other/mcp").answer()["result"]["serverInfo"]["name"], "other");
        assert_eq!(
            (&gateway.state("other")["state"], &gateway.state("other")["restarts"]),
            (&"failed".into(), &0.into())
        );
    }
    // Control: another client does.
    gateway.session_of("/servers/other/mcp", OLD, &json!({}));
    assert_eq!(gateway.state("other")["restarts"], 1);
}

#[test]
fn a_client_may_use_the_identity_of_an_early_ping() {
    let gateway = Gateway::start_with("old", &json!({}), &["--grace=2000"]);
    until("its answer to ping", || gateway.state("default")["state"] == "running");
    let params = json!({ "protocolVersion": OLD, "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    let body =
        json!({ "jsonrpc": "2.0", "id": "agent-mcp-ping", "method": "initialize", "params": params }).to_string();
    let headers = [("content-type", "application/json"), ("accept", "application/json")];
    let answer = send(gateway.port, "POST", "/mcp", &headers, body.as_bytes()).answer();
    // The server's own answer.
    assert_eq!(answer["result"]["serverInfo"]["name"], "stand-in", "{answer}");
}

#[test]
fn the_question_whether_a_server_answers_ends_no_session() {
    let named = json!({ "other": stand_in("old", None) });
    let gateway = Gateway::start_with("old", &named, &["--most-processes=2", "--gives-way=0"]);
    let sessions = [(); 2].map(|()| gateway.session_of("/servers/other/mcp", OLD, &json!({})));
    for _ in 0..3 {
        assert_eq!(gateway.probe("/servers/other/mcp").answer()["result"]["serverInfo"]["name"], "stand-in");
    }
    for session in &sessions {
        assert_eq!(session.text("echo", &json!({})), "{}");
    }
    // Control: another client gets the process of one of them.
    gateway.session_of("/servers/other/mcp", OLD, &json!({}));
    assert_eq!(sessions.iter().filter(|session| session.call("echo", &json!({})).status == 404).count(), 1);
}
