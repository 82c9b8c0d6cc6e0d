//! A server over HTTP: the streamable transport of MCP.

use std::io::{BufRead as _, BufReader, Read as _};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use ureq::Agent;

use super::{LONGEST, Peer};

/// Header that names a session.
const SESSION: &str = "mcp-session-id";
/// Header with the protocol's version.
const VERSION: &str = "mcp-protocol-version";

/// A server at a URL of this host.
pub struct Http {
    agent: Agent,
    url: String,
    session: Option<String>,
    version: Option<String>,
}

impl Http {
    /// Returns the server at a URL.
    #[must_use]
    pub fn at(url: &str) -> Self {
        // A server of this host is never behind a proxy, and must not lead elsewhere.
        let config = Agent::config_builder().proxy(None).max_redirects(0).http_status_as_error(false).build();
        Self { agent: config.into(), url: url.to_owned(), session: None, version: None }
    }

    fn post(&mut self, message: &Value, limit: Duration) -> Result<ureq::http::Response<ureq::Body>> {
        let request = self.agent.post(&self.url).config().timeout_global(Some(limit)).build();
        let request =
            request.header("accept", "application/json, text/event-stream").header("content-type", "application/json");
        let headers = [(SESSION, &self.session), (VERSION, &self.version)];
        let named = headers.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let request = named.fold(request, |request, (name, value)| request.header(name, value));
        let response = request.send(message.to_string()).with_context(|| format!("cannot reach {}", self.url))?;
        if let Some(session) = response.headers().get(SESSION) {
            self.session = session.to_str().ok().map(str::to_owned);
        }
        if !response.status().is_success() {
            bail!("{} answered with status {}", self.url, response.status().as_u16());
        }
        Ok(response)
    }
}

impl Peer for Http {
    fn request(&mut self, message: &Value, limit: Duration) -> Result<Value> {
        let response = self.post(message, limit)?;
        let is_stream = response
            .headers()
            .get("content-type")
            .is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.starts_with("text/event-stream")));
        let body = response.into_body().into_reader().take(LONGEST);
        let found = if is_stream {
            of_events(body, message.get("id"))?
        } else {
            serde_json::from_reader(body).context("the server sent no message")?
        };
        if let Some(version) = found.pointer("/result/protocolVersion").and_then(Value::as_str) {
            self.version = Some(version.to_owned());
        }
        Ok(found)
    }

    fn notify(&mut self, message: &Value, limit: Duration) -> Result<()> {
        self.post(message, limit).map(drop)
    }
}

/// Returns the response to the request `id` in a stream of events.
fn of_events(body: impl std::io::Read, id: Option<&Value>) -> Result<Value> {
    let mut data = String::new();
    for line in BufReader::new(body).lines() {
        let line = line.context("the server's answer ended too soon")?;
        if let Some(text) = line.strip_prefix("data:") {
            data += text.trim_start();
        } else if line.is_empty() && !data.is_empty() {
            let value: Value = serde_json::from_str(&data).context("the server sent an event that is no message")?;
            if value.get("method").is_none() && value.get("id") == id {
                return Ok(value);
            }
            data.clear();
        }
    }
    bail!("the server's answer ended without a response")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_response_is_found_among_other_events() {
        let stream = "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n\n: comment\ndata: {\"id\":1,\ndata: \"result\":{}}\n\n";
        assert_eq!(of_events(stream.as_bytes(), Some(&json!(1))).unwrap(), json!({ "id": 1, "result": {} }));
        assert!(of_events(stream.as_bytes(), Some(&json!(2))).is_err());
        assert!(of_events("data: no\n\n".as_bytes(), Some(&json!(1))).is_err());
    }
}
