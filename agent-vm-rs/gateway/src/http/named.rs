//! Headers of a request without a session, which repeat members of its body.

use hyper::HeaderMap;

use super::headers::{VERSION, text};
use crate::era::Meta;
use crate::json::{Message, Object, error, error_with_data, from_base64, quote};
use crate::policy::{SESSION_VERSIONS, STATELESS};
use crate::pool::Pool;

/// Codes of errors, as 2026-07-28 defines them.
const HEADER_MISMATCH: i64 = -32020;
const UNSUPPORTED_VERSION: i64 = -32022;
const INVALID_PARAMS: i64 = -32602;

const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// Returns the answer to a request whose headers and body do not agree, or which lacks what every request has.
pub fn check(pool: &Pool, headers: &HeaderMap, request: &Message, meta: &Meta) -> Result<(), Box<Message>> {
    let id = request.raw_id();
    let mismatch = |text: &str| Err(Box::new(error(id, HEADER_MISMATCH, &format!("Header mismatch: {text}"))));
    let Some(header) = text(headers, VERSION) else { return mismatch("the header MCP-Protocol-Version is missing") };
    let version: Option<String> = meta.version.as_deref().and_then(|version| serde_json::from_str(version).ok());
    let (Some(version), true) = (version, meta.capabilities.as_deref().is_some_and(|raw| Object::parse(raw).is_some()))
    else {
        let missing =
            "_meta must have io.modelcontextprotocol/protocolVersion and io.modelcontextprotocol/clientCapabilities";
        return Err(Box::new(error(id, INVALID_PARAMS, missing)));
    };
    if header != version {
        return mismatch(&format!("MCP-Protocol-Version is {header}, but the body says {version}"));
    }
    if version != STATELESS {
        return Err(Box::new(unsupported(id, &version, pool.server.discovered().as_deref())));
    }
    let method = request.method().unwrap_or_default();
    match text(headers, "mcp-method") {
        None => return mismatch("the header Mcp-Method is missing"),
        Some(header) if header != method => {
            return mismatch(&format!("Mcp-Method is {header}, but the body's method is {method}"));
        }
        Some(_) => {}
    }
    let member = match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        _ => None,
    };
    let params = Object::or_empty(request.params());
    if let Some(name) = member.and_then(|member| params.text(member)) {
        match text(headers, "mcp-name").map(decoded) {
            None => return mismatch("the header Mcp-Name is missing"),
            Some(header) if header.as_deref() != Some(&name) => {
                return mismatch(&format!("Mcp-Name does not match the body's {name}"));
            }
            Some(_) => {}
        }
    }
    if method == "tools/call" {
        for argument in pool.tool_headers(&params.text("name").unwrap_or_default()) {
            let value = headers.get(&argument.header).map(|value| value.to_str().ok().and_then(decoded));
            let agrees = match value {
                Some(None) => false,
                value => argument.agrees(request.params(), value.flatten().as_deref()),
            };
            if !agrees {
                return mismatch(&format!("{} does not match the argument", argument.header));
            }
        }
    }
    let level = meta.level.as_deref().map(|level| serde_json::from_str::<String>(level).unwrap_or_default());
    if level.is_some_and(|level| !LEVELS.contains(&level.as_str())) {
        return Err(Box::new(error(id, INVALID_PARAMS, "io.modelcontextprotocol/logLevel is not a level")));
    }
    Ok(())
}

/// Returns the answer to a request of a version that is not known.
pub fn unsupported(id: &str, version: &str, discovered: Option<&str>) -> Message {
    let all = || {
        let known: Vec<String> = [STATELESS].into_iter().chain(SESSION_VERSIONS).map(quote).collect();
        format!("[{}]", known.join(","))
    };
    // A server that names its versions says the same in its result of `server/discover`.
    let own = Object::or_empty(discovered).get("supportedVersions").map(str::to_owned);
    let data = format!(r#"{{"supported":{},"requested":{}}}"#, own.unwrap_or_else(all), quote(version));
    error_with_data(id, UNSUPPORTED_VERSION, "Unsupported protocol version", &data)
}

/// Returns a header's value, which may be encoded; None if it is wrongly encoded.
pub fn decoded(value: &str) -> Option<String> {
    match value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        None => Some(value.to_owned()),
        Some(encoded) => String::from_utf8(from_base64(encoded)?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    #[test]
    fn encoded_values_are_decoded() {
        for (value, expected) in [
            ("us-west1", Some("us-west1")),
            ("=?base64?SGVsbG8sIOS4lueVjA==?=", Some("Hello, 世界")),
            ("=?base64?IHBhZGRlZCA=?=", Some(" padded ")),
            ("=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=", Some("=?base64?literal?=")),
            ("=?base64?SGV?=", None),
            ("=?base64?S GV=?=", None),
            ("=?base64?/w==?=", None),
        ] {
            assert_eq!(decoded(value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn headers_must_agree_with_the_body() {
        let meta = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
        let request = crate::json::request("1", "tools/call", &format!(r#"{{"name":"a","_meta":{meta}}}"#));
        let right = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "a")];
        let settings = std::rc::Rc::new(crate::supervise::Settings::new("/".into()));
        let states = std::rc::Rc::new(crate::report::States::new(None, &[]));
        let launch = crate::config::Launch::Program { argv: Vec::new(), env: Vec::new() };
        let server = crate::config::Server { name: "s".to_owned(), launch };
        let pool = Pool::new(&crate::supervise::Server::new(server, true, &settings, &states));
        let code = |headers: &[(&'static str, &'static str)], request: &Message| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            check(&pool, &map, request, &Meta::of(request.params())).err().and_then(|answer| answer.error_code())
        };
        assert_eq!(code(&right, &request), None);
        for missing in 0..3 {
            let mut headers = right.to_vec();
            headers.remove(missing);
            assert_eq!(code(&headers, &request), Some(HEADER_MISMATCH), "{missing}");
            let mut headers = right.to_vec();
            headers[missing].1 = "b";
            assert_eq!(code(&headers, &request), Some(HEADER_MISMATCH), "{missing}");
        }
        assert_eq!(code(&right, &request.with_params(r#"{"name":"a"}"#)), Some(INVALID_PARAMS));
        let other = request.with_params(&request.params().unwrap_or_default().replace("2026-07-28", "1900-01-01"));
        let old = [("mcp-protocol-version", "1900-01-01"), right[1], right[2]];
        assert_eq!(code(&old, &other), Some(UNSUPPORTED_VERSION));
    }
}
