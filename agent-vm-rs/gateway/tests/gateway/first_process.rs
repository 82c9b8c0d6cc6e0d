//! The first process of a server is sent `ping`, and the first client with a session uses it.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::gateway::{Gateway, NEW, OLD, stand_in, until};
use crate::http::send;

/// Returns the processes that a stand-in has started, in order.
fn starts(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Starts a gateway with a named server, and waits until both of its servers run.
fn start(era: &str, arguments: &[&str]) -> Gateway {
    let home = tempfile::tempdir().unwrap();
    let named = json!({ "other": stand_in(era, Some(&home.path().join("others"))) });
    let gateway = Gateway::start_in(home, era, &named, arguments);
    for name in ["default", "other"] {
        until(name, || gateway.state(name)["state"] == "running");
    }
    gateway
}

#[test]
fn one_process_is_started_and_the_first_session_uses_it() {
    let gateway = start("old", &[]);
    for (path, file) in [("/mcp", "starts"), ("/servers/other/mcp", "others")] {
        let file = gateway.path(file);
        assert_eq!(starts(&file).len(), 1);
        let session = gateway.session_of(path, OLD, &json!({ "roots": {} }));
        // The server's own answer, to the client's own capabilities.
        assert_eq!((&session.hello["instructions"], &session.hello["protocolVersion"]), (&"ask".into(), &OLD.into()));
        assert_eq!(session.text("capabilities", &json!({})), "{\"roots\": {}}");
        assert_eq!(vec![session.text("process", &json!({}))], starts(&file)[..1]);
        // Nothing of `ping` reaches the client.
        let mut stream = session.get(None);
        session.text("changes", &json!({}));
        assert_eq!(stream.message().unwrap()["method"], "notifications/tools/list_changed");
    }
    // The default server gets another one for the next session, and named servers do not.
    until("the spare process", || starts(&gateway.path("starts")).len() == 2);
    assert_eq!(starts(&gateway.path("others")).len(), 1);
    // Control: the next session has another process.
    let next = gateway.session_of("/servers/other/mcp", OLD, &json!({}));
    assert_eq!(vec![next.text("process", &json!({}))], starts(&gateway.path("others"))[1..]);
}

#[test]
fn a_client_that_comes_during_the_start_uses_the_first_process() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("starts.wait"), "").unwrap();
    let gateway = Gateway::start_in(home, "old", &json!({}), &["--grace=0"]);
    let session = gateway.session();
    fs::write(gateway.path("starts.go"), "").unwrap();
    assert_eq!(vec![session.text("process", &json!({}))], starts(&gateway.path("starts"))[..1]);
}

#[test]
fn a_client_that_goes_during_the_start_does_not_delay_the_server() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("starts.wait"), "").unwrap();
    let gateway = Gateway::start_in(home, "old", &json!({}), &["--grace=0"]);
    assert_eq!(gateway.session().delete(), 204);
    fs::write(gateway.path("starts.go"), "").unwrap();
    until("the server", || gateway.state("default")["state"] == "running");
    assert_eq!(gateway.state("default")["restarts"], 0);
}

#[test]
fn a_server_that_ends_at_an_early_ping_is_started_without_it() {
    let gateway = start("old-ends", &[]);
    for (path, name, file, usual) in [("/mcp", "default", "starts", 3), ("/servers/other/mcp", "other", "others", 2)] {
        // As for other servers: the process that is checked, and the default server's spare one.
        until("its processes", || starts(&gateway.path(file)).len() == usual);
        assert!(gateway.log().contains(&format!("server {name} exited with status 4 when it was sent ping")));
        let session = gateway.session_of(path, OLD, &json!({}));
        assert_eq!(session.text("echo", &json!({})), "{}");
        assert_eq!((&gateway.state(name)["restarts"], &gateway.state(name)["state"]), (&0.into(), &"running".into()));
    }
    assert_eq!(gateway.log().matches("when it was sent ping").count(), 2);
}

#[test]
fn a_client_that_has_the_process_that_ends_at_ping_gets_another_one() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("starts.wait"), "").unwrap();
    let gateway = Gateway::start_in(home, "old-ends", &json!({}), &["--grace=0"]);
    let session = gateway.session();
    fs::write(gateway.path("starts.go"), "").unwrap();
    assert_ne!(vec![session.text("process", &json!({}))], starts(&gateway.path("starts"))[..1]);
    assert_eq!(gateway.state("default")["restarts"], 0);
}

#[test]
fn a_server_that_does_not_start_is_a_failure_with_ping_as_without() {
    // Only one that has read `ping` may have ended because of it.
    let named = json!({
        "other": { "command": "sh", "args": ["-c", "echo start >>others; sleep 0.2; exit 5"] },
        "reads": { "command": "sh", "args": ["-c", "echo start >>reads; read line; exit 5"] },
    });
    let gateway = Gateway::start_with("old", &named, &["--pause=3600000", "--spacing=3600000"]);
    for (name, file, expected) in [("other", "others", 1), ("reads", "reads", 2)] {
        until("its failure", || gateway.state(name)["state"] == "failed");
        assert_eq!((&gateway.state(name)["exit_code"], &gateway.state(name)["restarts"]), (&5.into(), &0.into()));
        assert_eq!(starts(&gateway.path(file)).len(), expected);
    }
}

#[test]
fn a_server_that_answers_nothing_before_initialize_is_initialized() {
    let gateway = start("old-waits", &["--ping=50"]);
    // They answered only because the gateway initialized them.
    until("the spare process", || starts(&gateway.path("starts")).len() == 2);
    assert_eq!(starts(&gateway.path("others")).len(), 1);
    assert_eq!(gateway.session().text("echo", &json!({})), "{}");
    // A client does not wait for that.
    let gateway = Gateway::start_with("old-waits", &json!({}), &["--ping=3600000", "--grace=0"]);
    let session = gateway.session();
    assert_eq!(vec![session.text("process", &json!({}))], starts(&gateway.path("starts"))[..1]);
}

#[test]
fn a_server_that_has_answered_ping_is_not_initialized_after_the_time_limit() {
    let home = tempfile::tempdir().unwrap();
    let named = json!({ "other": stand_in("old-waits", Some(&home.path().join("others"))) });
    let gateway = Gateway::start_in(home, "old", &named, &["--ping=4000"]);
    until("default", || gateway.state("default")["state"] == "running");
    // Control: the time limit of one that started at the same time has passed, and the gateway has initialized it.
    until("other", || gateway.state("other")["state"] == "running");
    let session = gateway.session();
    assert_eq!(vec![session.text("process", &json!({}))], starts(&gateway.path("starts"))[..1]);
}

#[test]
fn a_server_that_works_when_the_time_limit_passes_is_waited_for() {
    let home = tempfile::tempdir().unwrap();
    let named = json!({ "other": stand_in("old-waits", Some(&home.path().join("others"))) });
    let gateway = Gateway::start_in(home, "old-works", &named, &["--ping=4000"]);
    // Control: one that started at the same time and only waits is initialized.
    until("other", || gateway.state("other")["state"] == "running");
    assert_eq!(gateway.state("default")["state"], "starting");
    fs::write(gateway.path("starts.go"), "").unwrap();
    until("default", || gateway.state("default")["state"] == "running");
    let session = gateway.session();
    assert_eq!(vec![session.text("process", &json!({}))], starts(&gateway.path("starts"))[..1]);
}

#[test]
fn a_server_that_refuses_ping_is_initialized() {
    for era in ["old-refuses", "new"] {
        let gateway = start(era, &["--ping=3600000"]);
        // Only a server that was initialized gets a spare process before a client comes.
        until("the spare process", || starts(&gateway.path("starts")).len() > 1);
        for path in ["/mcp", "/servers/other/mcp"] {
            assert_eq!(gateway.session_of(path, OLD, &json!({})).text("echo", &json!({})), "{}");
        }
        assert_eq!(gateway.stateless_call("echo", &json!({})), "{}");
        assert_eq!(gateway.state("default")["restarts"], 0);
    }
}

#[test]
fn a_client_without_a_session_gets_a_process_that_was_not_sent_ping() {
    // The server would say of the process that was that it knows no versions without sessions.
    for sessions_first in [false, true] {
        let gateway = start("both-keeps", &[]);
        let first = sessions_first.then(|| gateway.session());
        let discovered = gateway.stateless("server/discover", json!({})).answer()["result"].clone();
        assert_eq!(discovered["supportedVersions"], json!([NEW]));
        // The server's own results, not translated ones.
        assert_eq!(gateway.stateless("tools/list", json!({})).answer()["result"]["ttlMs"], 7);
        for session in [first.unwrap_or_else(|| gateway.session()), gateway.session()] {
            assert_eq!(session.hello["instructions"], "ask");
            assert_eq!(session.text("capabilities", &json!({})), "{}");
        }
    }
}

#[test]
fn a_server_that_is_known_is_not_asked_for_versions_without_sessions() {
    let gateway = start("both-keeps", &["--sessions-only=default", "--sessions-only=other"]);
    let discovered = gateway.stateless("server/discover", json!({})).answer()["result"].clone();
    assert_eq!((&discovered["supportedVersions"][0], &discovered["instructions"]), (&NEW.into(), &"ask".into()));
    // The first process, which was sent `ping`: the client does not wait for another one.
    assert_eq!(vec![gateway.stateless_call("process", &json!({}))], starts(&gateway.path("starts"))[..1]);
    // Control: as this server would answer it itself, in the test above.
    assert_ne!(gateway.stateless("tools/list", json!({})).answer()["result"]["ttlMs"], 7);
    // One that has no versions with sessions refuses `ping`, and is asked all the same.
    let gateway = start("new", &["--sessions-only=default", "--sessions-only=other"]);
    assert_eq!(gateway.stateless("tools/list", json!({})).answer()["result"]["ttlMs"], 7);
}

#[test]
fn a_server_goes_on_when_the_process_of_its_only_session_ends() {
    let gateway = start("old", &["--pause=3600000", "--spacing=3600000"]);
    for (path, name) in [("/mcp", "default"), ("/servers/other/mcp", "other")] {
        for ends in 1..4 {
            let session = gateway.session_of(path, OLD, &json!({}));
            session.call("die", &json!({})).answer();
            assert_eq!(session.text("echo", &json!({})), "{}");
            let state = gateway.state(name);
            assert_eq!((&state["state"], &state["restarts"]), (&"running".into(), &ends.into()));
            assert_eq!(session.delete(), 204);
        }
    }
}

#[test]
fn a_client_of_an_old_version_does_not_set_that_of_the_next_one() {
    let gateway = start("old", &[]);
    let recalled = || {
        let name = json!({ "name": "agent-vm", "version": "1" });
        let params = json!({ "protocolVersion": OLD, "capabilities": {}, "clientInfo": name });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params }).to_string();
        let headers = [("content-type", "application/json")];
        let answer = send(gateway.port, "POST", "/mcp", &headers, body.as_bytes()).answer();
        (answer["result"]["serverInfo"]["name"].clone(), answer["result"]["protocolVersion"].clone())
    };
    assert_eq!(recalled(), ("default".into(), OLD.into()));
    gateway.session_of("/mcp", "2025-03-26", &json!({}));
    assert_eq!(recalled(), ("stand-in".into(), OLD.into()));
    assert_eq!(gateway.session().hello["protocolVersion"], OLD);
}
