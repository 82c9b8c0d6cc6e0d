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
        let wrong = || {
            Failure::usage(format!("{:?} is not a destination", one_line(text)))
                .with_hint("give a host such as api.example.org, a port with it (example.org:8443), *.example.org, or a group such as @npm")
        };
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
}

impl Destination {
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
        text.parse()
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
        ] {
            assert!(text.parse::<Destination>().is_err(), "{text:?} was accepted");
        }
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
