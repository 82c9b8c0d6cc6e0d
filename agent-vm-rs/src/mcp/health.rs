//! Checks whether MCP answers, with the requests of a client.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::machine::policy;
use crate::mcp::endpoint::{Endpoint, connection_error};
use crate::term::error::Failure;

/// Time limit for ending the probe's session.
const FAREWELL: Duration = Duration::from_millis(200);

/// Largest accepted answer, in bytes. A health answer is small; the guest may send more.
const MAX_ANSWER: u64 = 256 * 1024;

/// Sends `initialize` over streamable HTTP and returns the time until the answer.
///
/// # Errors
/// There is no answer in time, or it is not the answer of an MCP server.
pub fn probe_mcp(endpoint: &Endpoint, path: &str) -> Result<Duration> {
    let url = endpoint.url(path);
    let question = serde_json::json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": policy::mcp().protocol_version,
            "capabilities": {},
            "clientInfo": { "name": "agent-vm", "version": env!("CARGO_PKG_VERSION") },
        },
    });
    let asked = Instant::now();
    let mut answer = endpoint
        .post(path)
        .header("Accept", "application/json, text/event-stream")
        .send_json(&question)
        .map_err(connection_error)
        .with_context(|| format!("MCP does not answer at {url}"))?;
    let status = answer.status();
    let session = answer.headers().get("mcp-session-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let body = answer
        .body_mut()
        .with_config()
        .limit(MAX_ANSWER)
        .read_to_string()
        .map_err(connection_error)
        .context("MCP's answer was cut off")?;
    let took = asked.elapsed();
    if let Some(session) = session {
        // The server may now forget the session. A failure here is harmless.
        let request = endpoint.delete(path).header("mcp-session-id", session);
        drop(request.config().timeout_global(Some(FAREWELL)).build().call());
    }
    ensure!(status.is_success(), Failure::new(format!("MCP answered with HTTP status {status} at {url}")));
    ensure!(body.contains("\"serverInfo\""), Failure::new(format!("the server at {url} is not an MCP server")));
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener};

    /// Serves `answer` to one connection and returns its port.
    fn server(answer: &'static str) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 4096];
            let read = stream.read(&mut question).unwrap();
            assert!(read > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        port
    }

    fn probe(port: u16) -> Result<Duration> {
        probe_mcp(&crate::mcp::endpoint::tests::plain(port, Duration::from_millis(800)), "/mcp")
    }

    #[test]
    fn only_an_initialize_answer_counts() {
        let good =
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nevent: message\ndata: {\"result\":{\"serverInfo\":{}}}\n\n";
        probe(server(good)).unwrap();
        for bad in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
            "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "SSH-2.0-x\r\n",
            "",
        ] {
            assert!(probe(server(bad)).is_err(), "{bad:?} counted");
        }
    }
}
