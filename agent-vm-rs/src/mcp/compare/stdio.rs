//! A server on its standard streams.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{LONGEST, Peer};
use crate::host::interrupt::Deadline;
use crate::host::process::{Conversation, Invocation};

/// Largest number of other messages before a response.
const MOST_OTHERS: usize = 10_000;
/// JSON-RPC's code for a method that does not exist.
const NO_METHOD: i32 = -32601;

/// A server that a program is.
pub struct Stdio(Conversation);

impl Stdio {
    /// Starts the program.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(program: &Invocation) -> Result<Self> {
        program.converse(LONGEST).map(Self)
    }

    /// Answers a request of the server: a comparison has no user and no files.
    fn answer(&mut self, message: &Value, deadline: Deadline) -> Result<()> {
        let Some(id) = message.get("id").filter(|_| message.get("method").is_some()) else { return Ok(()) };
        let answer = match message["method"].as_str() {
            Some("ping") => json!({ "jsonrpc": "2.0", "id": id, "result": {} }),
            _ => json!({ "jsonrpc": "2.0", "id": id, "error": { "code": NO_METHOD, "message": "not available" } }),
        };
        self.0.say(&answer.to_string(), deadline)
    }
}

impl Peer for Stdio {
    fn request(&mut self, message: &Value, limit: Duration) -> Result<Value> {
        let deadline = Deadline::after(limit);
        self.0.say(&message.to_string(), deadline)?;
        for _ in 0..MOST_OTHERS {
            let line = self.0.hear(deadline)?;
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let value: Value = serde_json::from_slice(&line).context("the server wrote a line that is no message")?;
            if value.get("method").is_none() && value.get("id") == message.get("id") {
                return Ok(value);
            }
            self.answer(&value, deadline)?;
        }
        bail!("the server sent too many other messages")
    }

    fn notify(&mut self, message: &Value, limit: Duration) -> Result<()> {
        self.0.say(&message.to_string(), Deadline::after(limit))
    }
}
