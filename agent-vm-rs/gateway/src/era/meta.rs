//! The members of `_meta` that stand for a session.

use crate::json::{Message, Object};

const PREFIX: &str = "io.modelcontextprotocol/";
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const NAME: &str = "io.modelcontextprotocol/clientInfo";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// Key of the subscription to which a notification belongs.
pub const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
/// Key of the server's name and version.
pub const SERVER: &str = "io.modelcontextprotocol/serverInfo";

/// What a request without a session says of its client, as JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// Version of the protocol.
    pub version: Option<String>,
    /// Name and version of the client.
    pub name: Option<String>,
    /// Capabilities of the client.
    pub capabilities: Option<String>,
    /// Level of the log messages that the client wants for this request.
    pub level: Option<String>,
}

impl Meta {
    /// Reads the parameters of a request.
    pub fn of(params: Option<&str>) -> Meta {
        let params = Object::or_empty(params);
        let meta = params.object("_meta").unwrap_or_default();
        let member = |name: &str| meta.get(name).map(str::to_owned);
        Meta { version: member(VERSION), name: member(NAME), capabilities: member(CAPABILITIES), level: member(LEVEL) }
    }

    /// Returns a request with these members.
    pub fn added_to(&self, request: &Message) -> Message {
        let mut params = Object::or_empty(request.params());
        let meta = params.get("_meta").unwrap_or("{}").to_owned();
        let mut meta = Object::or_empty(Some(&meta));
        let members =
            [(VERSION, &self.version), (NAME, &self.name), (CAPABILITIES, &self.capabilities), (LEVEL, &self.level)];
        for (key, value) in members {
            if let Some(value) = value {
                meta.set(key, value.as_str());
            }
        }
        params.set("_meta", meta.to_string());
        request.with_params(&params.to_string())
    }
}

/// Returns an object without some members.
pub fn strip_keys(raw: &str, keys: &[&str]) -> String {
    let mut object = Object::or_empty(Some(raw));
    for key in keys {
        debug_assert!(key.starts_with(PREFIX));
        object.remove(key);
    }
    object.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_added_and_others_stay() {
        let text = br#"{"id":1,"method":"m","params":{"a": [1],"_meta":{"progressToken":7,"x/y": 1.0}}}"#;
        let request = Message::parse(bytes::Bytes::from_static(text)).unwrap();
        let meta = Meta {
            version: Some("\"2026-07-28\"".to_owned()),
            name: None,
            capabilities: Some("{}".to_owned()),
            level: None,
        };
        let added = meta.added_to(&request);
        assert_eq!(Meta::of(added.params()), meta);
        assert!(added.params().unwrap().starts_with(r#"{"a":[1],"_meta":{"progressToken":7,"x/y":1.0,"#));
        assert_eq!(
            strip_keys(r#"{"a": 1,"io.modelcontextprotocol/b":2}"#, &["io.modelcontextprotocol/b"]),
            r#"{"a":1}"#
        );
    }
}
