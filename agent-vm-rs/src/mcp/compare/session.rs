//! A session: the messages that a client sends.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Peer;
use crate::term::text::one_line;

/// Protocol version of the standard session.
const VERSION: &str = "2025-06-18";
/// Largest number of messages.
const MOST: usize = 1000;
/// Largest number of tools that the standard session calls.
const MOST_CALLS: usize = 20;

/// The messages of a client, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    messages: Vec<Value>,
    /// Whether to call the tools that only read and need no argument.
    calls: bool,
}

/// A request, and what the server made of it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The request's method, with the name of a tool.
    pub what: String,
    /// The result or the error; in words, why there is none.
    pub answer: Result<Value, String>,
    /// Time until the answer.
    pub took: Duration,
}

impl Session {
    /// Returns the session that works with every server and changes nothing.
    #[must_use]
    pub fn standard() -> Self {
        let client = json!({ "name": "agent-vm compare", "version": env!("CARGO_PKG_VERSION") });
        let start = json!({ "protocolVersion": VERSION, "capabilities": {}, "clientInfo": client });
        let request = |id: u32, method: &str, params: Value| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let messages = vec![
            request(1, "initialize", start),
            json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
            request(2, "ping", json!({})),
            request(3, "tools/list", json!({})),
        ];
        Self { messages, calls: true }
    }

    /// Reads a session from lines of JSON.
    ///
    /// # Errors
    /// A line is no request and no notification.
    pub fn of_lines(text: &str) -> Result<Self> {
        let mut messages = Vec::new();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let message: Value = serde_json::from_str(line).with_context(|| format!("line {number} is not JSON"))?;
            ensure!(message.get("method").is_some_and(Value::is_string), "line {number} has no method");
            messages.push(message);
        }
        ensure!(!messages.is_empty(), "the file has no message");
        ensure!(messages.len() <= MOST, "the file has more than {MOST} messages");
        Ok(Self { messages, calls: false })
    }

    /// Returns the same session with calls of those tools that both servers have, that say they only read, and that need no
    /// argument.
    fn safe_calls(&self, lists: [Option<&Value>; 2]) -> Vec<Value> {
        let [Some(one), Some(other)] = lists.map(|list| list.and_then(|list| list.get("tools")?.as_array())) else {
            return Vec::new();
        };
        let is_safe = |tool: &&Value| {
            let required = tool.pointer("/inputSchema/required").and_then(Value::as_array);
            tool.pointer("/annotations/readOnlyHint") == Some(&Value::Bool(true)) && required.is_none_or(Vec::is_empty)
        };
        let named = |list: &Vec<Value>, name: &Value| {
            list.iter().find(|tool| tool.get("name") == Some(name)).is_some_and(|tool| is_safe(&tool))
        };
        let names = one.iter().filter(is_safe).filter_map(|tool| tool.get("name")).filter(|name| named(other, name));
        let call = |(id, name): (usize, &Value)| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": name, "arguments": {} } });
        (1000..).zip(names.take(MOST_CALLS)).map(call).collect()
    }
}

/// Runs the session with both servers, one message after the other, and returns what each request got. It ends after the first
/// request if a server does not answer that.
///
/// # Errors
/// The command was interrupted.
pub fn run(session: &Session, peers: [&mut dyn Peer; 2], limit: Duration) -> Result<Vec<[Exchange; 2]>> {
    let mut exchanges: Vec<[Exchange; 2]> = Vec::new();
    let [one, other] = peers;
    let both = |message: &Value, one: &mut dyn Peer, other: &mut dyn Peer| -> Result<Option<[Exchange; 2]>> {
        if message.get("id").is_none() {
            // A server that takes none says so with its next answer.
            drop((one.notify(message, limit), other.notify(message, limit)));
            return Ok(None);
        }
        Ok(Some([exchange(one, message, limit)?, exchange(other, message, limit)?]))
    };
    let mut lists = [None, None];
    for message in &session.messages {
        let found = both(message, one, other)?;
        if let (Some("tools/list"), Some(found)) = (message["method"].as_str(), &found) {
            lists = found.clone().map(|exchange| exchange.answer.ok());
        }
        exchanges.extend(found);
        if matches!(&exchanges[..], [both] if both.iter().any(|one| one.answer.is_err())) {
            return Ok(exchanges);
        }
    }
    if session.calls {
        for message in session.safe_calls([lists[0].as_ref(), lists[1].as_ref()]) {
            exchanges.extend(both(&message, one, other)?);
        }
    }
    Ok(exchanges)
}

fn exchange(peer: &mut dyn Peer, message: &Value, limit: Duration) -> Result<Exchange> {
    let method = message["method"].as_str().unwrap_or_default();
    let tool = message.pointer("/params/name").and_then(Value::as_str);
    let what = tool.map_or_else(|| method.to_owned(), |tool| format!("{method} {tool}"));
    let start = Instant::now();
    let answer = peer.request(message, limit);
    let took = start.elapsed();
    crate::host::interrupt::check()?;
    let answer = match answer {
        Ok(response) => match (response.get("result"), response.get("error")) {
            (Some(result), _) => Ok(result.clone()),
            (None, Some(error)) => Ok(json!({ "error": error })),
            (None, None) => Err("the response has neither a result nor an error".to_owned()),
        },
        Err(error) => Err(one_line(&format!("{error:#}"))),
    };
    Ok(Exchange { what: one_line(&what), answer, took })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tools_that_read_are_called() {
        let tool = |name: &str, reads: bool, required: Value| json!({ "name": name, "annotations": { "readOnlyHint": reads }, "inputSchema": { "required": required } });
        let list = json!({ "tools": [tool("a", true, json!([])), tool("b", false, json!([])), tool("c", true, json!(["x"]))] });
        let other = json!({ "tools": [tool("a", true, json!([])), tool("b", true, json!([]))] });
        let calls = Session::standard().safe_calls([Some(&list), Some(&other)]);
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0]["params"]["name"], "a");
        assert!(Session::standard().safe_calls([Some(&list), None]).is_empty());
    }

    #[test]
    fn a_file_has_requests_and_notifications_only() {
        assert_eq!(Session::of_lines("{\"method\":\"a\"}\n\n{\"id\":1,\"method\":\"b\"}\n").unwrap().messages.len(), 2);
        for wrong in ["", "x", "{\"id\":1}", "[]", "{\"method\":1}"] {
            assert!(Session::of_lines(wrong).is_err(), "{wrong}");
        }
    }
}
