//! Egress destinations: a host with or without a port, a pattern, or a group of hosts from the toolkit.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::machine::policy::Grammar;
use crate::term::error::Failure;
use crate::term::text::one_line;

/// Longest host name in characters (RFC 1035, 2.3.4), which the pattern cannot check.
const LONGEST_NAME: usize = 253;

/// A destination: `HOST`, `HOST:PORT`, `*.DOMAIN`, `*`, `[IPV6]:PORT` or `@GROUP`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Destination {
    /// Name of a group of hosts, without the `@`.
    Group(String),
    /// A host or a pattern, and a port; None means the ports 80 and 443.
    Host(String, Option<u16>),
}

impl FromStr for Destination {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        match Self::read(text)? {
            // Programs take `127.1` and `0x7f.1` for addresses, and no domain ends in a number: WHATWG URL, "ends in a number".
            Self::Host(host, _) if host.parse::<IpAddr>().is_err() && ends_in_a_number(&host) => Err(wrong(text)),
            destination => Ok(destination),
        }
    }
}

fn wrong(text: &str) -> Failure {
    Failure::usage(format!("{:?} is not a destination", one_line(text)))
        .with_hint("give a host such as api.example.org, a port with it (example.org:8443), *.example.org, or a group such as @npm")
}

fn ends_in_a_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let (digits, is_digit): (_, fn(&u8) -> bool) = match last.strip_prefix("0x") {
        Some(digits) => (digits, u8::is_ascii_hexdigit),
        None => (last, u8::is_ascii_digit),
    };
    !last.is_empty() && digits.bytes().all(|byte| is_digit(&byte))
}

impl Destination {
    /// Reads a destination, also one that ends in a number and is no address: older settings may have it.
    fn read(text: &str) -> Result<Self, Failure> {
        let wrong = || wrong(text);
        if !Grammar::Destination.matches(text) {
            return Err(wrong());
        }
        if let Some(group) = text.strip_prefix('@') {
            return Ok(Self::Group(group.to_owned()));
        }
        let (host, port) = split(text).ok_or_else(wrong)?;
        let port = port.map(|port| port.parse().map_err(|_| wrong())).transpose()?;
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Self::Host(address.to_string(), port));
        }
        if host.len() <= LONGEST_NAME { Ok(Self::Host(host, port)) } else { Err(wrong()) }
    }

    /// Returns the name of a host without a domain and without a port, which may be meant as another kind of name.
    #[must_use]
    pub fn single_label(&self) -> Option<&str> {
        match self {
            Self::Host(host, None) if !host.contains(['.', ':', '*']) => Some(host),
            _ => None,
        }
    }
}

/// Splits a text into host and port. An IPv6 address with a port is in brackets.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        return match after {
            "" => Some((host, None)),
            _ => Some((host, Some(after.strip_prefix(':')?))),
        };
    }
    if text.matches(':').count() > 1 {
        return Some((text, None));
    }
    Some(text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))))
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(name) => write!(f, "@{name}"),
            Self::Host(host, None) => f.write_str(host),
            Self::Host(host, Some(port)) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host(host, Some(port)) => write!(f, "{host}:{port}"),
        }
    }
}

impl TryFrom<String> for Destination {
    type Error = Failure;

    fn try_from(text: String) -> Result<Self, Failure> {
        Self::read(&text)
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        destination.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn destinations_are_parsed() {
        let host = |name: &str, port| Destination::Host(name.to_owned(), port);
        for (text, expected) in [
            ("api.example.org", host("api.example.org", None)),
            ("API.Example.org.", host("api.example.org", None)),
            ("example.org:8443", host("example.org", Some(8443))),
            ("*.example.org", host("*.example.org", None)),
            ("*", host("*", None)),
            ("1e100.net", host("1e100.net", None)),
            ("4.example", host("4.example", None)),
            ("0xff.example", host("0xff.example", None)),
            ("127.0.0.1:80", host("127.0.0.1", Some(80))),
            ("[::1]:80", host("::1", Some(80))),
            ("2001:DB8::1", host("2001:db8::1", None)),
            ("@npm", Destination::Group("npm".to_owned())),
        ] {
            assert_eq!(text.parse::<Destination>().unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "@",
            "@a b",
            "https://example.org",
            "a/b",
            "a b",
            "a..b",
            "-a",
            "a-",
            "*.",
            "a.*",
            "*.*.org",
            "a:0",
            "a:99999",
            "a:b",
            "[::1",
            "[::1]x",
            "a\n",
            "ä.org",
            "user@host",
            "1.2.3.256",
            "127.1",
            "2130706433",
            "0x7f.1",
            "127.0.0.0x1",
            "a.0x:80",
        ] {
            assert!(text.parse::<Destination>().is_err(), "{text:?} was accepted");
        }
    }

    /// A machine that has one starts, and `egress remove` removes it.
    #[test]
    fn older_settings_are_read() {
        let older: Destination = serde_json::from_str("\"127.1\"").unwrap();
        assert_eq!(older, Destination::Host("127.1".to_owned(), None));
    }

    proptest! {
        #[test]
        fn a_printed_destination_is_parsed_as_the_same(text in "\\PC{0,20}|[a-z0-9.*:\\[\\]@-]{0,20}") {
            if let Ok(destination) = text.parse::<Destination>() {
                let shown = destination.to_string();
                prop_assert_eq!(shown.parse::<Destination>().unwrap(), destination);
            }
        }
    }
}
