//! A stand-in for an MCP server over streamable HTTP; some of its methods act like a hostile machine.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

/// One request as it was received.
#[derive(Clone, Debug)]
pub struct Request {
    /// HTTP method: POST, GET, PUT or DELETE.
    pub verb: String,
    /// Path of the URL.
    pub path: String,
    /// Headers; their names are in lower case.
    pub headers: Vec<(String, String)>,
    /// The JSON message; a string if the body is not JSON.
    pub body: Value,
    /// The body as it was received.
    pub text: String,
}

impl Request {
    /// Returns a header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(there, _)| there == name).map(|(_, value)| value.as_str())
    }

    /// Returns the message's method.
    pub fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }
}

fn whole(stream: &mut impl Write, status: &str, headers: &str, body: &str) -> bool {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).is_ok()
}

fn json(stream: &mut impl Write, headers: &str, body: &str) -> bool {
    whole(stream, "200 OK", &format!("Content-Type: application/json\r\n{headers}"), body)
}

/// The head of an event stream, which ends with the connection.
const EVENTS: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n";

fn says(stream: &mut impl Write, text: &str) -> bool {
    stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).is_ok()
}

/// Answers a request; returns whether the connection stays open.
pub fn answer(
    asked: &Request,
    stream: &mut impl Write,
    everything: &dyn Fn() -> Vec<Request>,
    stopped: &AtomicBool,
) -> bool {
    if (asked.verb.as_str(), asked.path.as_str()) == ("PUT", "/agent-vm/certificate") {
        return whole(stream, "204 No Content", "", "");
    }
    if asked.path != "/mcp" && asked.path != "/servers/named/mcp" {
        return whole(stream, "404 Not Found", "", "");
    }
    match asked.verb.as_str() {
        "GET" => {
            let note =
                json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "of": "its own accord" } });
            says(stream, EVENTS);
            says(stream, &format!("event: message\ndata: {note}\n\n"));
            wait(|| stopped.load(Ordering::Relaxed) || everything().iter().any(|asked| asked.verb == "DELETE"));
            return false;
        }
        "DELETE" => return whole(stream, "200 OK", "", ""),
        _ => {}
    }
    let id = &asked.body["id"];
    let initialized = || everything().iter().filter(|asked| asked.method() == "initialize").count();
    let result = |value: Value| json!({ "jsonrpc": "2.0", "id": id, "result": value });
    if asked.method() == "initialize" {
        let hello = result(
            json!({ "protocolVersion": "2025-06-18", "capabilities": { "tools": {} }, "serverInfo": { "name": "stand-in" } }),
        );
        return json(stream, &format!("Mcp-Session-Id: session-{}\r\n", initialized()), &hello.to_string());
    }
    if id.is_null() || asked.method().is_empty() {
        return whole(stream, "202 Accepted", "", "");
    }
    if asked.header("mcp-protocol-version") == Some("2026-07-28") {
        return without_session(asked, stream);
    }
    let session = asked.header("mcp-session-id");
    let in_session = session.is_some_and(|session| session.starts_with("session-"))
        && asked.header("mcp-protocol-version") == Some("2025-06-18");
    if !in_session {
        let error = json!({ "jsonrpc": "2.0", "id": "server-error", "error": { "code": -1, "message": "no \u{1b}[2Jsession" } });
        return whole(stream, "400 Bad Request", "", &error.to_string());
    }
    // Sessions of another run of the machine are unknown, and that of the first request `gone` is forgotten.
    let all = everything();
    let number = session.and_then(|session| session.strip_prefix("session-")?.parse::<usize>().ok());
    if number.is_none_or(|number| number > initialized())
        || all
            .iter()
            .find(|asked| asked.method() == "gone")
            .is_some_and(|gone| gone.header("mcp-session-id") == session)
    {
        let error = json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32001, "message": "no such session" } });
        return whole(stream, "404 Not Found", "", &error.to_string());
    }
    match asked.method() {
        // Its parameters are the messages to send, of which the last one is the answer.
        "say" => {
            let messages = asked.body["params"]["messages"].as_array().unwrap();
            says(stream, EVENTS);
            for message in messages {
                says(stream, &format!("data: {}\n\n", message.as_str().unwrap().replace('\n', "\ndata: ")));
            }
            false
        }
        // Answered once the request `late` has arrived.
        "slow" => {
            wait(|| everything().iter().any(|asked| asked.method() == "late"));
            json(stream, "", &result(json!("slow")).to_string())
        }
        // Not answered.
        "never" => {
            wait(|| stopped.load(Ordering::Relaxed));
            false
        }
        "stream" => {
            let pretty = serde_json::to_string_pretty(&result(json!({ "text": "two\nlines \u{1b}[31m" }))).unwrap();
            let note = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": {} });
            says(stream, EVENTS);
            says(stream, &format!(": hello\n\ndata: {note}\n\ndata: {{\"jsonrpc\": \"1.0\"}}\n\ndata: garbage\n\n"));
            says(stream, &format!("data: {}\n\n", pretty.replace('\n', "\ndata: ")));
            false
        }
        "two lines" => {
            let one = result(json!("first"));
            json(stream, "", &format!("{one}\n{one}\n"))
        }
        "break off" => {
            says(stream, EVENTS);
            says(stream, "data: {\"jsonrpc\": \"2.0\", \"id\"");
            false
        }
        "hang up" => false,
        "another's" => {
            let other = json!({ "jsonrpc": "2.0", "id": "another", "result": {} });
            json(stream, "", &other.to_string())
        }
        "page" => whole(stream, "200 OK", "Content-Type: text/html\r\n", "<html>"),
        method => json(stream, "", &result(json!({ "echo": method })).to_string()),
    }
}

/// Answers a request of the protocol's version without sessions.
fn without_session(asked: &Request, stream: &mut impl Write) -> bool {
    let answer = |value: Value| json!({ "jsonrpc": "2.0", "id": asked.body["id"], "result": value }).to_string();
    match asked.method() {
        // Ends when the client closes the connection.
        "endless" => {
            says(stream, EVENTS);
            while says(stream, ": still at it\n\n") {
                std::thread::sleep(Duration::from_millis(2));
            }
            CLOSED.fetch_add(1, Ordering::Relaxed);
            false
        }
        "refused" => whole(stream, "400 Bad Request", "", ""),
        _ => {
            let seen = ["mcp-method", "mcp-name", "mcp-session-id"].map(|name| asked.header(name));
            json(stream, "", &answer(json!(seen)))
        }
    }
}

/// How many clients have closed the connection of an `endless` request.
pub static CLOSED: AtomicUsize = AtomicUsize::new(0);

fn wait(so: impl Fn() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !so() && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
}
