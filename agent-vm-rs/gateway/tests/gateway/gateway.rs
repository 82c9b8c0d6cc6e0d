//! A gateway with stand-ins for servers, and its clients.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{DEADLINE, Response, send};

const BOTH: (&str, &str) = ("accept", "application/json, text/event-stream");
const JSON: (&str, &str) = ("content-type", "application/json");
pub const NEW: &str = "2026-07-28";
pub const OLD: &str = "2025-11-25";

/// A running gateway.
pub struct Gateway {
    pub home: TempDir,
    pub port: u16,
    child: Child,
}

/// Returns the command of a stand-in.
pub fn stand_in(era: &str, file: Option<&Path>) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/stand_in.py");
    let mut args = vec!["-B".to_owned(), script.display().to_string(), era.to_owned()];
    args.extend(file.map(|file| file.display().to_string()));
    json!({ "command": "python3", "args": args })
}

impl Gateway {
    /// Starts a gateway of which the default server is a stand-in of an era.
    pub fn start(era: &str) -> Gateway {
        Gateway::start_with(era, &json!({}), &[])
    }

    /// Starts a gateway with further servers and arguments.
    pub fn start_with(era: &str, servers: &Value, arguments: &[&str]) -> Gateway {
        let home = tempfile::tempdir().unwrap();
        Gateway::start_in(home, era, servers, arguments)
    }

    pub fn start_in(home: TempDir, era: &str, servers: &Value, arguments: &[&str]) -> Gateway {
        let program = home.path().join("default");
        let file = home.path().join("starts");
        let command = stand_in(era, Some(&file));
        let words: Vec<&str> = command["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let text = format!("#!/bin/sh\nexec python3 '{}'\n", words.join("' '"));
        fs::write(&program, text).unwrap();
        let mut mode = fs::metadata(&program).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
        fs::set_permissions(&program, mode).unwrap();
        fs::write(home.path().join(".mcp.json"), json!({ "mcpServers": servers }).to_string()).unwrap();
        let usual = ["--pause=0", "--spacing=0", "--refill=0", "--patience=30000", "--grace=30000"];
        let mut child = Command::new(env!("CARGO_BIN_EXE_agent-mcp"))
            .arg("serve")
            .arg(format!("--default-server=default={}", program.display()))
            .arg(format!("--workspace={}", home.path().display()))
            .args(["--servers-file=.mcp.json", "--host=127.0.0.1", "--port=0", "--health-path=/status"])
            .arg("--log-level-credential=none")
            .args(usual.iter().filter(|usual| {
                let (name, _) = usual.split_once('=').unwrap();
                !arguments.iter().any(|argument| argument.split('=').next() == Some(name))
            }))
            .args(arguments)
            .env("RUNTIME_DIRECTORY", home.path())
            .env_remove("NOTIFY_SOCKET")
            .stdout(Stdio::piped())
            .stderr(fs::File::create(home.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port =
            line.trim().parse().unwrap_or_else(|_| panic!("{}", fs::read_to_string(home.path().join("log")).unwrap()));
        Gateway { home, port, child }
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Returns the state of a server in servers.json.
    pub fn state(&self, name: &str) -> Value {
        let text = fs::read_to_string(self.path("servers.json")).unwrap_or_default();
        let file: Value = serde_json::from_str(&text).unwrap_or_default();
        let servers = file["servers"].as_array().cloned().unwrap_or_default();
        servers.into_iter().find(|server| server["name"] == name).unwrap_or_default()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Opens a session of a server with a client's capabilities.
    pub fn session_of(&self, path: &str, version: &str, capabilities: &Value) -> Session {
        let params = json!({ "protocolVersion": version, "capabilities": capabilities, "clientInfo": { "name": "test", "version": "1" } });
        let body = json!({ "jsonrpc": "2.0", "id": "hello", "method": "initialize", "params": params }).to_string();
        let response = send(self.port, "POST", path, &[BOTH, JSON], body.as_bytes());
        assert_eq!(response.status, 200);
        let id = response.header("mcp-session-id").unwrap().to_owned();
        let hello = response.answer()["result"].clone();
        let session = Session { port: self.port, path: path.to_owned(), id, version: version.to_owned(), hello };
        assert_eq!(session.post(&json!({ "method": "notifications/initialized" })).status, 202);
        session
    }

    pub fn session(&self) -> Session {
        self.session_of("/mcp", OLD, &json!({}))
    }

    /// Asks as `agent-vm status` does whether a server answers.
    pub fn probe(&self, path: &str) -> Response {
        let params =
            json!({ "protocolVersion": OLD, "capabilities": {}, "clientInfo": { "name": "agent-vm", "version": "1" } });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params }).to_string();
        send(self.port, "POST", path, &[("content-type", "application/json")], body.as_bytes())
    }

    /// Sends a request without a session.
    pub fn stateless(&self, method: &str, params: Value) -> Response {
        self.stateless_as(&json!({}), 1, method, params)
    }

    pub fn stateless_as(&self, capabilities: &Value, id: u64, method: &str, mut params: Value) -> Response {
        let name = params["name"].as_str().or(params["uri"].as_str()).unwrap_or_default().to_owned();
        let meta = params.as_object_mut().unwrap().entry("_meta").or_insert(json!({}));
        meta["io.modelcontextprotocol/protocolVersion"] = NEW.into();
        meta["io.modelcontextprotocol/clientCapabilities"] = capabilities.clone();
        meta["io.modelcontextprotocol/clientInfo"] = json!({ "name": "test", "version": "1" });
        let headers = [BOTH, JSON, ("mcp-protocol-version", NEW), ("mcp-method", method), ("mcp-name", &name)];
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        send(self.port, "POST", "/mcp", &headers, body.as_bytes())
    }

    /// Calls a tool without a session; returns its text.
    pub fn stateless_call(&self, name: &str, arguments: &Value) -> String {
        text(&self.stateless("tools/call", json!({ "name": name, "arguments": arguments })).answer())
    }

    /// Stops the gateway; returns how long that took.
    pub fn stop(mut self) -> Duration {
        let began = Instant::now();
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
        began.elapsed()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            let id = rustix::process::Pid::from_child(&self.child);
            rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
            self.child.wait().unwrap();
        }
        if std::thread::panicking() {
            std::io::stderr().write_all(&fs::read(self.home.path().join("log")).unwrap_or_default()).unwrap();
        }
    }
}

/// A client's session.
#[derive(Clone)]
pub struct Session {
    port: u16,
    path: String,
    pub id: String,
    version: String,
    pub hello: Value,
}

impl Session {
    fn headers(&self) -> [(&str, &str); 4] {
        [BOTH, JSON, ("mcp-session-id", &self.id), ("mcp-protocol-version", &self.version)]
    }

    pub fn post(&self, message: &Value) -> Response {
        let mut message = message.clone();
        if let Some(message) = message.as_object_mut() {
            message.insert("jsonrpc".to_owned(), "2.0".into());
        }
        send(self.port, "POST", &self.path, &self.headers(), message.to_string().as_bytes())
    }

    pub fn raw(&self, body: &[u8]) -> Response {
        send(self.port, "POST", &self.path, &self.headers(), body)
    }

    pub fn ask(&self, id: u64, method: &str, params: &Value) -> Response {
        self.post(&json!({ "id": id, "method": method, "params": params }))
    }

    pub fn call(&self, name: &str, arguments: &Value) -> Response {
        let meta = json!({ "progressToken": "token" });
        self.ask(7, "tools/call", &json!({ "name": name, "arguments": arguments, "_meta": meta }))
    }

    /// Calls a tool; returns its text.
    pub fn text(&self, name: &str, arguments: &Value) -> String {
        text(&self.call(name, arguments).answer())
    }

    pub fn get(&self, last: Option<&str>) -> Response {
        let mut headers = self.headers().to_vec();
        headers.extend(last.map(|last| ("last-event-id", last)));
        send(self.port, "GET", &self.path, &headers, b"")
    }

    pub fn delete(&self) -> u16 {
        send(self.port, "DELETE", &self.path, &self.headers(), b"").status
    }
}

/// Returns the text of a tool's result.
pub fn text(answer: &Value) -> String {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {answer}")).to_owned()
}

/// Waits until a condition is true.
pub fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < DEADLINE, "timed out while waiting for {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Returns whether a process exists.
pub fn lives(process: &str) -> bool {
    Path::new("/proc").join(process).exists()
}
