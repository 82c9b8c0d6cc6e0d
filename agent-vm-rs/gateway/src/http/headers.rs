//! Headers of requests.

use hyper::HeaderMap;
use hyper::header::{ACCEPT, CONTENT_TYPE};

/// Name of the header with the session.
pub const SESSION: &str = "mcp-session-id";
/// Name of the header with the protocol's version.
pub const VERSION: &str = "mcp-protocol-version";

/// Returns a header's value, if it is text.
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

/// Which kinds of content a client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepts {
    /// `application/json`.
    pub json: bool,
    /// `text/event-stream`.
    pub events: bool,
}

impl Accepts {
    /// Reads the headers. Without one, a client accepts everything.
    pub fn of(headers: &HeaderMap) -> Accepts {
        let mut accepts = Accepts { json: false, events: false };
        if !headers.contains_key(ACCEPT) {
            return Accepts { json: true, events: true };
        }
        for value in headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()) {
            for kind in value.split(',') {
                let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
                accepts.json |= matches!(kind.as_str(), "application/json" | "application/*" | "*/*");
                accepts.events |= matches!(kind.as_str(), "text/event-stream" | "text/*" | "*/*");
            }
        }
        accepts
    }
}

/// Returns whether the body is JSON.
pub fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn accepted_kinds_are_read() {
        for (value, json, events) in [
            ("application/json, text/event-stream", true, true),
            ("text/event-stream;q=0.5", false, true),
            ("APPLICATION/JSON", true, false),
            ("*/*", true, true),
            ("text/html", false, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(value));
            assert_eq!(Accepts::of(&headers), Accepts { json, events }, "{value}");
        }
        assert_eq!(Accepts::of(&HeaderMap::new()), Accepts { json: true, events: true });
    }
}
