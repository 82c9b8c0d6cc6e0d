//! The name of another host: `ssh://[USER@]HOST[:PORT]`.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use crate::host::hex::hex;

/// Longest name of a host or user.
const LONGEST: usize = 255;
/// Bytes of the hash in [`HostUrl::key`].
const HASH_BYTES: usize = 4;

/// What is encoded in the path of a URL.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// Another host, as ssh knows it: HOST may be an alias of the user's ssh configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostUrl {
    user: Option<String>,
    /// Name or address; an IPv6 address has no brackets.
    host: String,
    port: Option<u16>,
}

/// Returns whether a name has only characters that neither ssh, a shell nor a URL changes.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=LONGEST).contains(&text.len()) && !text.starts_with('-') && text.chars().all(plain)
}

impl FromStr for HostUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not ssh://[USER@]HOST[:PORT]");
        let rest = text.strip_prefix("ssh://").ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, place) = rest.split_once('@').map_or((None, rest), |(user, place)| (Some(user.to_owned()), place));
        let (host, port) = match place.strip_prefix('[') {
            Some(inside) => {
                let (address, after) = inside.split_once(']').ok_or_else(wrong)?;
                address.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                (address, Some(after).filter(|after| !after.is_empty()))
            }
            None => place
                .split_at_checked(place.find(':').unwrap_or(place.len()))
                .map_or((place, None), |(host, port)| (host, Some(port).filter(|port| !port.is_empty()))),
        };
        let port = match port {
            None => None,
            Some(port) => {
                let number = port.strip_prefix(':').and_then(|port| port.parse::<u16>().ok());
                Some(number.filter(|port| *port > 0).ok_or_else(wrong)?)
            }
        };
        if !(is_name(host) || place.starts_with('[')) || !user.as_deref().is_none_or(is_name) {
            return Err(wrong());
        }
        Ok(Self { user, host: host.to_owned(), port })
    }
}

impl fmt::Display for HostUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&self.host_part())?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl HostUrl {
    fn host_part(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }

    /// Returns the options and the destination for ssh.
    #[must_use]
    pub fn ssh_words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if let Some(user) = &self.user {
            words.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            words.extend(["-p".to_owned(), port.to_string()]);
        }
        words.extend(["--".to_owned(), self.host.clone()]);
        words
    }

    /// Returns the URL of a path there, for git.
    #[must_use]
    pub fn git_url(&self, path: &str) -> String {
        format!("{self}{}", utf8_percent_encode(path, PATH))
    }

    /// Returns a name for files about this host: different URLs have different ones.
    #[must_use]
    pub fn key(&self) -> String {
        let url = self.to_string();
        format!("{}-{}", self.host.replace(':', "-"), hex(&Sha256::digest(url.as_bytes())[..HASH_BYTES]))
    }

    /// Returns its name for messages.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_written() {
        for (url, words) in [
            ("ssh://box", "-- box"),
            ("ssh://me@box:2222", "-l me -p 2222 -- box"),
            ("ssh://me@box.example/", "-l me -- box.example"),
            ("ssh://[::1]:22", "-p 22 -- ::1"),
        ] {
            let host: HostUrl = url.parse().unwrap();
            assert_eq!(host.ssh_words().join(" "), words);
            assert_eq!(host.to_string(), url.trim_end_matches('/'));
        }
        let host: HostUrl = "ssh://me@box:22".parse().unwrap();
        assert_eq!(host.git_url("/srv/a b/c"), "ssh://me@box:22/srv/a%20b/c");
        assert_ne!(host.key(), "ssh://box:22".parse::<HostUrl>().unwrap().key());
    }

    #[test]
    fn what_ssh_or_a_shell_could_take_for_something_else_is_refused() {
        for url in [
            "box",
            "ssh://",
            "ssh://-oProxyCommand=id",
            "ssh://-l@box",
            "ssh://a b",
            "ssh://box;id",
            "ssh://box:0",
            "ssh://box:x",
            "ssh://box:",
            "ssh://box/path",
            "ssh://me:secret@box",
            "ssh://@box",
            "ssh://[box]",
            "ssh://[::1]x",
            "ssh://$(id)",
            "https://box",
        ] {
            assert!(url.parse::<HostUrl>().is_err(), "{url}");
        }
    }
}
