//! Arbitrary messages pass unchanged, byte for byte, with a session and without.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::gateway::{Gateway, NEW};
use crate::http::send;
use crate::json_values::{message, value};

fn id() -> impl Strategy<Value = String> {
    prop_oneof!["[1-9][0-9]{0,25}", any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),]
}

/// An identity that occurs nowhere else. Without a session, the gateway replaces it for the server.
const ID: &str = "\"own-identity\"";

/// What a server reads of a request. Other members may have numbers that `Value` cannot hold.
#[derive(Deserialize)]
struct Head {
    id: Value,
    method: String,
}

impl Head {
    fn of(line: &str) -> Head {
        serde_json::from_str(line).unwrap()
    }
}

/// Returns a listener for a server that is the test itself, and the server's command: a program that connects it.
fn own_server(home: &Path) -> (UnixListener, Value) {
    let socket = home.join("server");
    let listener = UnixListener::bind(&socket).unwrap();
    (listener, json!({ "command": env!("CARGO_BIN_EXE_agent-mcp"), "args": ["connect", socket] }))
}

#[test]
fn messages_pass_unchanged_with_a_session() {
    let home = tempfile::tempdir().unwrap();
    let (listener, command) = own_server(home.path());
    let accepted = thread::spawn(move || {
        let mut connections = Vec::new();
        loop {
            let (connection, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
            let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
            let mut hello = next();
            while hello["method"] == "ping" {
                writeln!(&connection, "{}", json!({ "jsonrpc": "2.0", "id": hello["id"], "result": {} })).unwrap();
                hello = next();
            }
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

#[test]
fn messages_pass_unchanged_without_a_session() {
    let home = tempfile::tempdir().unwrap();
    let (listener, command) = own_server(home.path());
    let (lines, received) = std::sync::mpsc::channel();
    // Each process answers what the gateway itself asks, and passes on the rest.
    thread::spawn(move || {
        for connection in listener.incoming() {
            let (connection, lines) = (connection.unwrap(), lines.clone());
            thread::spawn(move || {
                for line in BufReader::new(connection.try_clone().unwrap()).lines() {
                    let line = line.unwrap();
                    let asked = Head::of(&line);
                    if ["ping", "initialize"].contains(&asked.method.as_str()) {
                        let error = json!({ "code": -32602, "message": "only the newest version" });
                        writeln!(&connection, "{}", json!({ "jsonrpc": "2.0", "id": asked.id, "error": error }))
                            .unwrap();
                    } else if asked.method == "server/discover" {
                        let result = json!({ "resultType": "complete", "supportedVersions": [NEW], "capabilities": {}, "ttlMs": 0, "cacheScope": "public" });
                        writeln!(&connection, "{}", json!({ "jsonrpc": "2.0", "id": asked.id, "result": result }))
                            .unwrap();
                    } else if lines.send((line, connection.try_clone().unwrap())).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let gateway = Gateway::start_in(home, "new", &json!({ "raw": command }), &[]);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": NEW,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
    });
    let cases = ("[a-z/]{1,20}", value(), value(), any::<bool>());
    let strategy = cases.prop_flat_map(move |(method, more, result, fails)| {
        let method = format!("x/{method}");
        let version = || ("jsonrpc", "\"2.0\"".to_owned());
        let params = format!("{{ \"more\": {more},\"_meta\": {meta}}}");
        let known = vec![version(), ("id", ID.to_owned()), ("method", format!("\"{method}\"")), ("params", params)];
        let result = format!("{{\"resultType\":\"complete\", \"x\":{result}}}");
        let outcome = if fails {
            ("error", format!("{{\"code\":1,\"message\":\"m\",\"data\": {result}}}"))
        } else {
            ("result", result)
        };
        (Just(method), message(known), message(vec![version(), ("id", ID.to_owned()), outcome]))
    });
    TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() })
        .run(&strategy, |(method, request, answer)| {
            let client = thread::spawn({
                let (port, request) = (gateway.port, request.clone());
                move || {
                    let accept = ("accept", "application/json, text/event-stream");
                    let headers = [
                        accept,
                        ("content-type", "application/json"),
                        ("mcp-protocol-version", NEW),
                        ("mcp-method", &method),
                    ];
                    send(port, "POST", "/servers/raw/mcp", &headers, request.as_bytes()).body()
                }
            });
            let (line, server) = received.recv().unwrap();
            let number = Head::of(&line).id.to_string();
            prop_assert_eq!(&line, &request.replace(ID, &number));
            writeln!(&server, "{}", answer.replace(ID, &number)).unwrap();
            prop_assert_eq!(client.join().unwrap(), answer);
            Ok(())
        })
        .unwrap();
}
