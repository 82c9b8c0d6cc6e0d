//! A port of this host's loopback that is forwarded to a port of a machine's loopback.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::term::error::Failure;
use crate::term::text::one_line;

/// A forwarded port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Port on the machine's loopback.
    pub guest: u16,
    /// Port on this host's loopback.
    pub host: u16,
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.guest, self.host)
    }
}

/// `GUEST[:HOST]` of a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// Port in the machine.
    pub guest: u16,
    /// Port on this host, if it was given.
    pub host: Option<u16>,
}

impl PortSpec {
    /// Returns whether a word is meant as ports: it is a number, or has a colon, which no branch and no machine has.
    #[must_use]
    pub fn is_meant(word: &str) -> bool {
        word.contains(':') || (!word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// Returns the forward; the host's port is the guest's unless another one was given.
    #[must_use]
    pub fn forward(self) -> Forward {
        Forward { guest: self.guest, host: self.host.unwrap_or(self.guest) }
    }

    /// Returns whether this names a forward.
    #[must_use]
    pub fn names(self, forward: Forward) -> bool {
        self.guest == forward.guest && self.host.is_none_or(|host| host == forward.host)
    }
}

impl FromStr for PortSpec {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let port = |digits: &str| {
            let port = digits.parse().ok().filter(|port| *port > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()));
            port.ok_or_else(|| {
                Failure::usage(format!("{:?} is not a port", one_line(text)))
                    .with_hint("write GUEST or GUEST:HOST, such as 3000 or 3000:8080; a port is from 1 to 65535")
            })
        };
        match text.split_once(':') {
            Some((guest, host)) => Ok(Self { guest: port(guest)?, host: Some(port(host)?) }),
            None => Ok(Self { guest: port(text)?, host: None }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_parsed_and_the_hosts_defaults_to_the_guests() {
        let forward = |text: &str| text.parse::<PortSpec>().unwrap().forward();
        assert_eq!(forward("3000"), Forward { guest: 3000, host: 3000 });
        assert_eq!(forward("80:8080"), Forward { guest: 80, host: 8080 });
        for wrong in ["", "0", "70000", "-1", "+1", "80:", ":80", "80:0", "80:1:2", "a", "1.5"] {
            assert!(wrong.parse::<PortSpec>().is_err(), "{wrong:?} was accepted");
        }
        for (word, is_meant) in [("80:0", true), ("80:http", true), ("80", true), ("main", false), ("", false)] {
            assert_eq!(PortSpec::is_meant(word), is_meant, "{word:?}");
        }
    }
}
