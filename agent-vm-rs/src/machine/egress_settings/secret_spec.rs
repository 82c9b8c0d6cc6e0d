//! Which host gets a secret: a setting of a machine, without the secret's value.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Destination;
use crate::term::error::Failure;
use crate::term::text::one_line;

/// Default port of a host that gets a secret: HTTPS.
const HTTPS: u16 = 443;

/// Which host gets a secret: `NAME=HOST` or `NAME=HOST:PORT`. `NAME` is an environment variable: on the host its value
/// is read once, and in the guest it has the placeholder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretSpec {
    /// Name of the variable.
    pub name: String,
    /// The only host that gets the value, over TLS.
    pub host: String,
    /// The only port of the host that gets the value: another user's program may listen on another port.
    pub port: u16,
}

impl FromStr for SecretSpec {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::usage(format!("{:?} is not a secret", one_line(text)))
                .with_hint("give a variable and the host that gets its value: --secret GITHUB_TOKEN=api.github.com, or with a port that is not 443 --secret TOKEN=git.example.org:8443")
        };
        let (name, host) = text.split_once('=').ok_or_else(wrong)?;
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match host.parse() {
            Ok(Destination::Host(host, port)) if is_name && !host.starts_with('*') => {
                Ok(Self { name: name.to_owned(), host, port: port.unwrap_or(HTTPS) })
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for SecretSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = (self.port != HTTPS).then_some(self.port);
        write!(f, "{}={}", self.name, Destination::Host(self.host.clone(), port))
    }
}

impl TryFrom<String> for SecretSpec {
    type Error = Failure;

    fn try_from(text: String) -> Result<Self, Failure> {
        text.parse()
    }
}

impl From<SecretSpec> for String {
    fn from(spec: SecretSpec) -> Self {
        spec.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_name_a_variable_and_one_host() {
        let spec: SecretSpec = "GITHUB_TOKEN=API.github.com".parse().unwrap();
        assert_eq!((spec.name.as_str(), spec.host.as_str()), ("GITHUB_TOKEN", "api.github.com"));
        assert_eq!(spec.port, 443);
        for (text, port, shown) in [
            ("A=b.c:8443", 8443, "A=b.c:8443"),
            ("A=b.c:443", 443, "A=b.c"),
            ("A=[::1]:8443", 8443, "A=[::1]:8443"),
            ("A=::1", 443, "A=::1"),
        ] {
            let spec: SecretSpec = text.parse().unwrap();
            assert_eq!((spec.port, spec.to_string()), (port, shown.to_owned()));
            assert_eq!(shown.parse::<SecretSpec>().unwrap(), spec);
        }
        for wrong in [
            "", "A", "A=", "=b", "1A=b.c", "A B=b.c", "A=*.b.c", "A=*", "A=@npm", "A=b.c:0", "A=b.c:x", "A=b/c",
            "A\n=b",
        ] {
            assert!(wrong.parse::<SecretSpec>().is_err(), "{wrong:?} was accepted");
        }
    }
}
