//! Several clients at once, and the number of processes.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::gateway::{Gateway, OLD, lives, stand_in, text, until};

#[test]
fn clients_see_nothing_of_each_other() {
    let gateway = Gateway::start("old");
    let (one, two) = (gateway.session(), gateway.session_of("/mcp", OLD, &json!({ "sampling": {} })));
    assert_ne!(one.text("process", &json!({})), two.text("process", &json!({})));
    // The same identities and progress tokens.
    let (mut first, mut second) = (
        one.call("progress", &json!({ "count": 20, "text": "one" })),
        two.call("progress", &json!({ "count": 20, "text": "two" })),
    );
    for number in 0..20 {
        for (call, name) in [(&mut first, "one"), (&mut second, "two")] {
            let message = call.message().unwrap();
            assert_eq!((&message["params"]["progress"], &message["params"]["message"]), (&number.into(), &name.into()));
        }
    }
    assert_eq!(text(&first.message().unwrap()) + &text(&second.message().unwrap()), "donedone");
    // Log levels, and requests of the server.
    one.ask(1, "logging/setLevel", &json!({ "level": "debug" })).answer();
    assert_eq!(
        (one.text("level", &json!({})), two.text("level", &json!({}))),
        ("\"debug\"".to_owned(), "null".to_owned())
    );
    let mut stream = one.get(None);
    let mut call = two.call("ask", &json!({ "method": "sampling/createMessage" }));
    let asked = call.message().unwrap();
    // An answer of the wrong client counts for nothing.
    one.post(&json!({ "id": asked["id"], "result": { "wrong": true } }));
    one.text("changes", &json!({}));
    assert_eq!(stream.message().unwrap()["method"], "notifications/tools/list_changed");
    two.post(&json!({ "id": asked["id"], "result": { "right": true } }));
    assert_eq!(text(&call.message().unwrap()), r#"{"right": true}"#);
}

#[test]
fn a_client_that_does_not_read_delays_only_itself() {
    let gateway = Gateway::start("old");
    let (slow, quick) = (gateway.session(), gateway.session());
    let mut call = slow.call("progress", &json!({ "count": 5000, "text": "x".repeat(10_000) }));
    assert_eq!(call.message().unwrap()["params"]["progress"], 0);
    for _ in 0..3 {
        assert_eq!(quick.text("echo", &json!({})), "{}");
    }
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.process())).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    assert!(memory.parse::<u64>().unwrap() < 60_000, "{memory} kB");
    // It gets everything once it reads.
    let rest = call.messages();
    assert_eq!(text(rest.last().unwrap()), "done");
    assert_eq!(rest.len(), 5000);
}

#[test]
fn the_oldest_unused_session_gives_way_and_one_in_use_does_not() {
    let named = json!({ "other": stand_in("old", None) });
    let gateway = Gateway::start_with("old", &named, &["--most-processes=3", "--gives-way=0"]);
    let sessions: Vec<_> = (0..3).map(|_| gateway.session_of("/servers/other/mcp", OLD, &json!({}))).collect();
    let streams: Vec<_> = sessions[1..].iter().map(|session| session.get(None)).collect();
    let processes: Vec<String> = sessions.iter().map(|session| session.text("process", &json!({}))).collect();
    let fourth = gateway.session_of("/servers/other/mcp", OLD, &json!({}));
    let stream = fourth.get(None);
    fourth.text("process", &json!({}));
    until("the end of the oldest session", || !lives(&processes[0]));
    assert_eq!(sessions[0].call("process", &json!({})).status, 404);
    // Controls: those with a stream stay, and a further client is refused.
    assert_eq!(sessions[1].text("process", &json!({})), processes[1]);
    let params = json!({ "protocolVersion": OLD, "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params }).to_string();
    let headers = [("content-type", "application/json")];
    let refused = crate::http::send(gateway.port, "POST", "/servers/other/mcp", &headers, body.as_bytes());
    assert_eq!(refused.status, 503);
    assert!(refused.body().contains("has 3 sessions in use"));
    drop((streams, stream));
}

#[test]
fn processes_are_kept_warm_and_none_is_started_for_a_question_of_agent_vm() {
    let gateway = Gateway::start("old");
    let starts = || fs::read_to_string(gateway.path("starts")).unwrap_or_default().lines().count();
    until("the first process", || starts() == 1 && gateway.state("default")["state"] == "running");
    let params =
        json!({ "protocolVersion": OLD, "capabilities": {}, "clientInfo": { "name": "agent-vm", "version": "1" } });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params }).to_string();
    let headers = [("content-type", "application/json")];
    let answer = crate::http::send(gateway.port, "POST", "/mcp", &headers, body.as_bytes()).answer();
    assert_eq!(answer["result"]["serverInfo"]["name"], "default");
    assert_eq!(starts(), 1);
    assert_eq!(gateway.stateless_call("count", &json!({})), "1");
    assert_eq!(gateway.stateless_call("count", &json!({})), "2");
    // The one that the clients share, and the one that was asked for versions without sessions.
    assert_eq!(starts(), 2);
    // A session takes the spare one, and another one is started.
    gateway.session().text("process", &json!({}));
    until("another spare process", || starts() == 3);
}

#[test]
fn a_session_without_use_ends() {
    let gateway = Gateway::start_with("old", &json!({}), &["--idle=500", "--sweep=10"]);
    let session = gateway.session();
    let process = session.text("process", &json!({}));
    until("its end", || !lives(&process));
    assert_eq!(session.call("process", &json!({})).status, 404);
}

#[test]
fn the_gateway_stops_at_once() {
    let gateway = Gateway::start_with("old", &json!({ "sleep": { "command": "sleep", "args": ["1000"] } }), &[]);
    let session = gateway.session();
    let process = session.text("process", &json!({}));
    let took = gateway.stop();
    assert!(took < Duration::from_secs(2), "{took:?}");
    until("the end of the server", || !lives(&process));
}

#[test]
fn a_process_without_use_ends_and_the_shared_one_stays() {
    let gateway = Gateway::start_with("old", &json!({}), &["--idle=500", "--sweep=10"]);
    let process = |capabilities: &serde_json::Value| {
        text(
            &gateway
                .stateless_as(capabilities, 1, "tools/call", json!({ "name": "process", "arguments": {} }))
                .answer(),
        )
    };
    let (shared, own) = (process(&json!({})), process(&json!({ "roots": {} })));
    assert_ne!(shared, own);
    until("the end of the other one", || !lives(&own));
    assert_eq!(process(&json!({})), shared);
}

#[test]
fn processes_that_do_not_end_are_bounded() {
    // It reads nothing, and ignores the signal; it is killed after three seconds.
    let slow = json!({ "command": "sh", "args": ["-c", "trap '' TERM; echo $$ >>others; exec sleep 1000"] });
    let gateway = Gateway::start_with("old", &json!({ "other": slow }), &["--grace=0", "--most-processes=2"]);
    let started = || fs::read_to_string(gateway.path("others")).unwrap_or_default().lines().count();
    for count in 1..4 {
        let session = gateway.session_of("/servers/other/mcp", OLD, &json!({}));
        until("its process", || started() >= count);
        session.delete();
    }
    for _ in 0..10 {
        gateway.session_of("/servers/other/mcp", OLD, &json!({})).delete();
    }
    // On a slow host, some have been killed meanwhile.
    assert!(started() <= 6, "{}", started());
    // Control: the next session gets one when they have ended.
    let before = started();
    gateway.session_of("/servers/other/mcp", OLD, &json!({}));
    until("another process", || started() > before);
}
