//! Finds out, without initializing a server, whether it answers and which versions of the protocol it knows.
//!
//! 2026-07-28 asks to send `server/discover` first. A server that ignores it gets a ping after a while, which every version with
//! sessions allows before `initialize`. It does not come at once: for a server that knows all versions, a ping chooses those with
//! sessions. A server that ends instead is started again with only the ping, and then with `initialize`.

use crate::json::{Id, Message, Object, quote, request};
use crate::policy::{SESSION_VERSIONS, STATELESS};

const DISCOVER: &str = "agent-mcp-discover";
const PING: &str = "agent-mcp-ping";
const INITIALIZE: &str = "agent-mcp-initialize";

/// Which versions a server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// Nothing is known yet.
    Unknown,
    /// Versions with sessions only.
    Sessions,
    /// 2026-07-28, and perhaps versions with sessions.
    Stateless,
}

/// What a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `server/discover`, and later a ping.
    Discover,
    /// A ping.
    Ping,
    /// `initialize`. The process is of no use for a client afterwards.
    Initialize,
}

/// What an answer says.
#[derive(Debug, PartialEq)]
pub enum Finding {
    /// The server runs, and knows 2026-07-28: the result of `server/discover`.
    Stateless(String),
    /// The server runs, and does not know `server/discover`.
    Sessions,
    /// The server runs.
    Runs,
    /// The server refuses `initialize`: the error.
    Refuses(String),
}

impl Probe {
    /// Returns what to ask a server that has ended because of this.
    pub fn next(self) -> Option<Probe> {
        match self {
            Probe::Discover => Some(Probe::Ping),
            Probe::Ping => Some(Probe::Initialize),
            Probe::Initialize => None,
        }
    }

    /// Returns the first request.
    pub fn request(self) -> Message {
        match self {
            Probe::Discover => discover(DISCOVER),
            Probe::Ping => ping(),
            Probe::Initialize => request(&quote(INITIALIZE), "initialize", &initialize_params(None, None)),
        }
    }

    /// Returns what a message says; None if it answers none of the requests.
    pub fn finding(self, message: &Message) -> Option<Finding> {
        let (Id::Text(id), None) = (message.id()?, message.method()) else { return None };
        match (self, id.as_str()) {
            (Probe::Discover, DISCOVER) => Some(match discovered(message) {
                Some(result) => Finding::Stateless(result.to_owned()),
                None => Finding::Sessions,
            }),
            (Probe::Discover, PING) => Some(Finding::Runs),
            (Probe::Ping, PING) => Some(Finding::Sessions),
            (Probe::Initialize, INITIALIZE) => Some(match message.error() {
                Some(error) => Finding::Refuses(error.to_owned()),
                None => Finding::Sessions,
            }),
            _ => None,
        }
    }
}

/// Returns the ping for a server that does not answer `server/discover`.
pub fn ping() -> Message {
    request(&quote(PING), "ping", "{}")
}

/// Returns a `server/discover` request of the gateway.
pub fn discover(id: &str) -> Message {
    let meta = format!(
        r#"{{"io.modelcontextprotocol/protocolVersion":"{STATELESS}","io.modelcontextprotocol/clientInfo":{OWN_NAME},"io.modelcontextprotocol/clientCapabilities":{{}}}}"#
    );
    request(&quote(id), "server/discover", &format!(r#"{{"_meta":{meta}}}"#))
}

/// Name of the gateway as a client.
pub const OWN_NAME: &str = r#"{"name":"agent-mcp","version":"1"}"#;

/// Returns the parameters of an `initialize` request. Capabilities and name are JSON.
pub fn initialize_params(capabilities: Option<&str>, name: Option<&str>) -> String {
    let (version, capabilities) = (SESSION_VERSIONS[0], capabilities.unwrap_or("{}"));
    let name = name.unwrap_or(OWN_NAME);
    format!(r#"{{"protocolVersion":"{version}","capabilities":{capabilities},"clientInfo":{name}}}"#)
}

/// Returns the result of `server/discover`, if the message is one.
pub fn discovered(message: &Message) -> Option<&str> {
    let result = message.result()?;
    let object = Object::parse(result)?;
    let versions: Vec<String> = serde_json::from_str(object.get("supportedVersions")?).ok()?;
    versions.iter().any(|version| version == STATELESS).then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::parse(bytes::Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[test]
    fn the_answer_tells_the_era() {
        for (answer, expected) in [
            (
                r#"{"id":"agent-mcp-discover","result":{"supportedVersions":["2026-07-28"]}}"#,
                Some(Finding::Stateless(r#"{"supportedVersions":["2026-07-28"]}"#.to_owned())),
            ),
            (r#"{"id":"agent-mcp-discover","result":{"supportedVersions":["2025-11-25"]}}"#, Some(Finding::Sessions)),
            (r#"{"id":"agent-mcp-discover","result":{"echo":1}}"#, Some(Finding::Sessions)),
            (r#"{"id":"agent-mcp-discover","error":{"code":-32601}}"#, Some(Finding::Sessions)),
            (r#"{"id":"agent-mcp-ping","result":{}}"#, Some(Finding::Runs)),
            (r#"{"id":"agent-mcp-ping","method":"x"}"#, None),
            (r#"{"id":1,"result":{}}"#, None),
        ] {
            assert_eq!(Probe::Discover.finding(&message(answer)), expected, "{answer}");
        }
        let refused = message(r#"{"id":"agent-mcp-initialize","error":{"code":1}}"#);
        assert_eq!(Probe::Initialize.finding(&refused), Some(Finding::Refuses(r#"{"code":1}"#.to_owned())));
    }
}
