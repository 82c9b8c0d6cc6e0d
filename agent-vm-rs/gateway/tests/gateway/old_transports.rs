//! HTTP+SSE, and sockets for mcp-proxy.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::gateway::{Gateway, lives, stand_in, text, until};
use crate::http::send;

const HELLO: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;

fn call(name: &str, id: u64) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": name, "arguments": { "count": 2 }, "_meta": { "progressToken": 1 } } }).to_string()
}

#[test]
fn http_and_sse_has_one_stream_for_everything() {
    let gateway = Gateway::start_with("old", &json!({ "other": stand_in("old", None) }), &[]);
    for path in ["/sse", "/servers/other/sse"] {
        let mut stream = send(gateway.port, "GET", path, &[("accept", "text/event-stream")], b"");
        let (_, name, endpoint) = stream.event().unwrap();
        assert_eq!(name, "endpoint");
        assert!(endpoint.starts_with(&path.replace("/sse", "/messages/?session_id=")), "{endpoint}");
        let post = |body: &str| {
            send(gateway.port, "POST", &endpoint, &[("content-type", "application/json")], body.as_bytes()).status
        };
        assert_eq!(post(HELLO), 202);
        assert_eq!(stream.message().unwrap()["result"]["serverInfo"]["name"], "stand-in");
        assert_eq!(post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#), 202);
        assert_eq!(post(&call("progress", 2)), 202);
        let methods: Vec<Value> = (0..3).map(|_| stream.message().unwrap()["method"].clone()).collect();
        assert_eq!(methods, ["notifications/progress".into(), "notifications/progress".into(), Value::Null]);
        post(&call("process", 3));
        let process = text(&stream.message().unwrap());
        // The session ends with its stream.
        drop(stream);
        until("the end of its process", || !lives(&process));
        assert_eq!(post(HELLO), 404);
    }
}

/// A stand-in for mcp-proxy: it answers the health path, and starts the client of each server that it is given.
const MCP_PROXY: &str = r#"#!/usr/bin/python3
import json, socket, subprocess, sys
port = next(int(a.split("=")[1]) for a in sys.argv if a.startswith("--port="))
config = next(a.split("=")[1] for a in sys.argv if a.startswith("--named-server-config="))
commands = {"default": sys.argv[sys.argv.index("--") + 1:]}
for name, server in json.load(open(config))["mcpServers"].items():
    commands[name] = [server["command"], *server["args"]]
json.dump({"commands": commands, "arguments": sys.argv[1:]}, open("proxy-started.new", "w"))
import os; os.rename("proxy-started.new", "proxy-started")
listener = socket.create_server(("127.0.0.1", port))
while True:
    connection, _ = listener.accept()
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    connection.close()
"#;

#[test]
fn mcp_proxy_reaches_each_server_through_a_socket() {
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("mcp-proxy");
    fs::write(&program, MCP_PROXY).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    fs::write(home.path().join(".mcp.json"), json!({ "mcpServers": { "other": stand_in("old", None) } }).to_string())
        .unwrap();
    let command = stand_in("old", None);
    let words: Vec<&str> = command["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let default = home.path().join("default-server");
    fs::write(&default, format!("#!/bin/sh\nexec python3 '{}'\n", words.join("' '"))).unwrap();
    std::fs::set_permissions(&default, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_agent-mcp"))
        .args([
            "serve",
            "--host=127.0.0.1",
            "--health-path=/status",
            "--log-level-credential=none",
            "--servers-file=.mcp.json",
        ])
        .arg(format!("--mcp-proxy={}", program.display()))
        .arg(format!("--default-server=own={}", default.display()))
        .arg(format!("--workspace={}", home.path().display()))
        .arg(format!("--port={port}"))
        .arg("--allow-origin=https://claude.ai")
        .env("RUNTIME_DIRECTORY", home.path())
        .env_remove("NOTIFY_SOCKET")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("mcp-proxy", || home.path().join("proxy-started").exists());
    let started: Value = serde_json::from_str(&fs::read_to_string(home.path().join("proxy-started")).unwrap()).unwrap();
    assert_eq!(started["arguments"][0], "--allow-origin=https://claude.ai");
    for name in ["default", "other"] {
        let words: Vec<&str> = started["commands"][name].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let mut client =
            Command::new(words[0]).args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
        let mut input = client.stdin.take().unwrap();
        let mut ask = |text: &str| {
            writeln!(input, "{text}").unwrap();
            serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap()
        };
        assert!(ask(HELLO)["result"]["serverInfo"]["name"].is_string());
        let mut answer = ask(&call("process", 2));
        while answer.get("id") != Some(&2.into()) {
            answer = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        }
        let process = text(&answer);
        client.kill().unwrap();
        client.wait().unwrap();
        until("the end of its process", || !lives(&process));
    }
    let id = rustix::process::Pid::from_child(&gateway);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert!(gateway.wait().unwrap().success());
}
