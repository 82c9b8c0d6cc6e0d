//! Which web pages may call. Programs send no `Origin`.

use hyper::HeaderMap;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, HOST, HeaderValue, ORIGIN, VARY,
};

use super::reply::Reply;

const ALLOWED_HEADERS: &str =
    "authorization, content-type, accept, mcp-session-id, mcp-protocol-version, mcp-method, mcp-name, last-event-id";

/// The web pages that may call.
pub struct Origins {
    allowed: Vec<String>,
    /// Whether only this machine can connect, so that other names of it are a page's trick (DNS rebinding).
    loopback: bool,
}

impl Origins {
    /// Returns the web origins that may call; `*` allows any.
    pub fn new(allowed: Vec<String>, loopback: bool) -> Origins {
        Origins { allowed, loopback }
    }

    /// Returns whether a request may be answered.
    pub fn admit(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        if self.loopback && !is_loopback(host) {
            return false;
        }
        match headers.get(ORIGIN) {
            None => true,
            Some(origin) => origin.to_str().is_ok_and(|origin| self.allows(origin)),
        }
    }

    /// Adds what a browser needs to show a page the response.
    pub fn mark(&self, origin: Option<&HeaderValue>, reply: &mut Reply) {
        let Some(origin) = origin.filter(|origin| origin.to_str().is_ok_and(|origin| self.allows(origin))) else {
            return;
        };
        let headers = reply.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED_HEADERS));
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("mcp-session-id"));
        headers.insert(VARY, HeaderValue::from_static("Origin"));
    }

    fn allows(&self, origin: &str) -> bool {
        let listed = self.allowed.iter().any(|allowed| allowed == "*" || allowed == origin);
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        listed || (self.loopback && host.is_some_and(is_loopback))
    }
}

/// Returns whether a host, with or without a port, is this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "::1"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_pages_and_names_are_refused() {
        let origins = Origins::new(vec!["https://claude.ai".to_owned()], true);
        let open = Origins::new(vec!["*".to_owned()], false);
        for (host, origin, admitted, admitted_open) in [
            ("localhost:80", None, true, true),
            ("[::1]:80", None, true, true),
            ("evil.example", None, false, true),
            ("localhost", Some("https://claude.ai"), true, true),
            ("localhost", Some("http://localhost:3000"), true, true),
            ("localhost", Some("https://evil.example"), false, true),
            ("localhost", Some("http://localhost.evil.example"), false, true),
            ("localhost", Some("null"), false, true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(origins.admit(&headers), admitted, "{host} {origin:?}");
            assert_eq!(open.admit(&headers), admitted_open, "{host} {origin:?}");
        }
    }
}
