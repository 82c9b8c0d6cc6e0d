//! Arbitrary messages pass unchanged, byte for byte, through a session.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::thread;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::gateway::Gateway;

/// Returns JSON as text, with numbers, spaces and escapes that a parser would change.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(r#""\u00e9\/\ud83d\ude00\u0000""#.to_owned()),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|all| format!("[ {}]", all.join(" , "))),
            prop::collection::vec((any::<String>(), inner), 0..6).prop_map(|all| {
                let members: Vec<String> = all
                    .iter()
                    .map(|(name, value)| format!("{} :{value}", serde_json::to_string(name).unwrap()))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// Returns an object's text: one with unknown members beside the known ones, in any order.
fn message(known: Vec<(&'static str, String)>) -> impl Strategy<Value = String> {
    let unknown = prop::collection::vec(("x[a-z]{1,8}", value()), 0..3);
    unknown.prop_flat_map(move |unknown| {
        let mut members: Vec<String> = known.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let mut names = Vec::new();
        for (name, value) in unknown {
            if !names.contains(&name) {
                members.push(format!("\"{name}\": {value}"));
                names.push(name);
            }
        }
        Just(members).prop_shuffle().prop_map(|members| format!("{{{}}}", members.join(",")))
    })
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof!["[1-9][0-9]{0,25}", any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),]
}

#[test]
fn messages_pass_unchanged() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("server");
    let listener = UnixListener::bind(&socket).unwrap();
    // The server is the test itself, behind a program that connects it.
    let command = json!({ "command": env!("CARGO_BIN_EXE_agent-mcp"), "args": ["connect", socket] });
    fs::write(home.path().join("unused"), "").unwrap();
    let accepted = thread::spawn(move || {
        // The process that is checked, and that of the session.
        let mut connections = Vec::new();
        loop {
            let (connection, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
            let hello: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            let result = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": { "name": "s", "version": "1" } });
            writeln!(&connection, "{}", json!({ "jsonrpc": "2.0", "id": hello["id"], "result": result })).unwrap();
            lines.next().unwrap().unwrap();
            if hello["params"]["clientInfo"]["name"] == "test" {
                return (connection, lines, connections);
            }
            connections.push(connection);
        }
    });
    let gateway = Gateway::start_in(home, "old", &json!({ "raw": command }), &[]);
    let session = gateway.session_of("/servers/raw/mcp", "2025-11-25", &json!({}));
    let (server, lines, _others) = accepted.join().unwrap();
    let mut stream = session.get(None);
    stream.event().unwrap();
    let state = std::cell::RefCell::new((lines, stream));
    let cases = (id(), "[a-z/]{1,20}", value(), value(), any::<bool>(), any::<bool>());
    let strategy = cases.prop_flat_map(|(id, method, params, result, fails, asks)| {
        let method = serde_json::to_string(&format!("x/{method}")).unwrap();
        let version = || ("jsonrpc", "\"2.0\"".to_owned());
        let request =
            message(vec![version(), ("id", id.clone()), ("method", method.clone()), ("params", params.clone())]);
        let answer = message(vec![version(), ("id", id.clone()), (if fails { "error" } else { "result" }, result)]);
        let notice = message(vec![version(), ("method", method), ("params", params)]);
        (request, answer, notice, Just(asks))
    });
    TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() })
        .run(&strategy, |(request, answer, notice, asks)| {
            let (lines, stream) = &mut *state.borrow_mut();
            // A notification each way.
            prop_assert_eq!(session.raw(notice.as_bytes()).status, 202);
            prop_assert_eq!(lines.next().unwrap().unwrap(), notice.as_str());
            writeln!(&server, "{notice}").unwrap();
            prop_assert_eq!(stream.event().unwrap().2, notice);
            // A request of either side, and its answer.
            if asks {
                writeln!(&server, "{request}").unwrap();
                prop_assert_eq!(stream.event().unwrap().2, request);
                prop_assert_eq!(session.raw(answer.as_bytes()).status, 202);
                prop_assert_eq!(lines.next().unwrap().unwrap(), answer);
                return Ok(());
            }
            let client = thread::spawn({
                let (session, request) = (session.clone(), request.clone());
                move || session.raw(request.as_bytes()).body()
            });
            prop_assert_eq!(lines.next().unwrap().unwrap(), request);
            writeln!(&server, "{answer}").unwrap();
            prop_assert_eq!(client.join().unwrap(), answer);
            Ok(())
        })
        .unwrap();
}
