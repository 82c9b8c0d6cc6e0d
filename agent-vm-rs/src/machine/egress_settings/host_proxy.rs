//! Whether the egress proxy goes through a proxy of the host.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::Destination;
use crate::term::error::Failure;

/// Which proxy of the host the egress proxy goes through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostProxy {
    /// The one in the environment of the command that starts the machine, if there is one.
    #[default]
    Auto,
    /// None: hosts are reached directly.
    None,
    /// This one. A setting has no password.
    Url(ProxyUrl),
}

impl HostProxy {
    pub(super) fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// The URL of a proxy: `http://HOST:PORT` or `https://HOST:PORT`, with or without `USER@`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyUrl {
    /// Whether the connection to the proxy is TLS.
    pub secure: bool,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Name of the proxy's user.
    pub user: Option<String>,
    /// Password of the user, which is never shown.
    pub password: Option<String>,
}

/// Why a text is not the URL of a proxy. It does not contain the text, which may have a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoProxy {
    /// It names a protocol such as SOCKS.
    OtherProtocol,
    /// It has no host, or a wrong port.
    Malformed,
}

impl ProxyUrl {
    /// Parses the value of `HTTPS_PROXY` or of the setting. Without a protocol, it is `http`.
    ///
    /// # Errors
    /// It is not the URL of a proxy that the egress proxy can use.
    pub fn parse(text: &str) -> Result<Self, NoProxy> {
        let (protocol, rest) = text.split_once("://").unwrap_or(("http", text));
        let secure = match protocol.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(NoProxy::OtherProtocol),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, place) = rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
        let (host, port) = match place.parse() {
            Ok(Destination::Host(host, port)) if !host.starts_with('*') => (host, port),
            _ => return Err(NoProxy::Malformed),
        };
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8().map_err(|_| NoProxy::Malformed)?;
            // Basic authentication cannot express them (RFC 7617).
            if text.chars().any(char::is_control) { Err(NoProxy::Malformed) } else { Ok(text.into_owned()) }
        };
        let login = login.map(|login| login.split_once(':').map_or((login, None), |(user, word)| (user, Some(word))));
        let user = login.map(|(user, _)| decoded(user)).transpose()?;
        if user.as_ref().is_some_and(|user| user.contains(':')) {
            return Err(NoProxy::Malformed);
        }
        let password = login.and_then(|(_, word)| word).map(decoded).transpose()?;
        Ok(Self { secure, host, port: port.unwrap_or(if secure { 443 } else { 80 }), user, password })
    }

    /// Returns the URL without user and password.
    #[must_use]
    pub fn shown(&self) -> String {
        let protocol = if self.secure { "https" } else { "http" };
        format!("{protocol}://{}", Destination::Host(self.host.clone(), Some(self.port)))
    }
}

impl FromStr for HostProxy {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        match text {
            "auto" => return Ok(Self::Auto),
            "none" => return Ok(Self::None),
            _ => {}
        }
        let url = ProxyUrl::parse(text).map_err(|_| {
            Failure::usage("the host's proxy is not auto, none or the URL of an HTTP proxy")
                .with_hint("for example: --host-proxy http://proxy.example.org:3128")
        })?;
        if url.password.is_some() {
            return Err(Failure::usage("the setting for the host's proxy has a password, which others could see")
                .general_hint("leave it out, and put the URL with the password into HTTPS_PROXY for agent-vm start"));
        }
        Ok(Self::Url(url))
    }
}

impl fmt::Display for HostProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::None => f.write_str("none"),
            Self::Url(url) => match &url.user {
                None => f.write_str(&url.shown()),
                Some(user) => {
                    let user = percent_encoding::utf8_percent_encode(user, percent_encoding::NON_ALPHANUMERIC);
                    f.write_str(&url.shown().replacen("://", &format!("://{user}@"), 1))
                }
            },
        }
    }
}

impl TryFrom<String> for HostProxy {
    type Error = Failure;

    fn try_from(text: String) -> Result<Self, Failure> {
        text.parse()
    }
}

impl From<HostProxy> for String {
    fn from(proxy: HostProxy) -> Self {
        proxy.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_urls_are_parsed_as_programs_write_them() {
        for (text, shown, login) in [
            ("http://proxy.corp:3128", "http://proxy.corp:3128", (None, None)),
            ("proxy.corp:3128/", "http://proxy.corp:3128", (None, None)),
            ("HTTPS://proxy.corp", "https://proxy.corp:443", (None, None)),
            ("http://10.0.0.5", "http://10.0.0.5:80", (None, None)),
            ("http://[fd00::5]:8080", "http://[fd00::5]:8080", (None, None)),
            ("http://me:p%40ss:w@rd@proxy.corp:1", "http://proxy.corp:1", (Some("me"), Some("p@ss:w@rd"))),
            ("http://me@proxy.corp:1", "http://proxy.corp:1", (Some("me"), None)),
        ] {
            let url = ProxyUrl::parse(text).unwrap();
            assert_eq!((url.shown().as_str(), url.user.as_deref(), url.password.as_deref()), (shown, login.0, login.1));
        }
        for (text, why) in [
            ("socks5://proxy.corp:1080", NoProxy::OtherProtocol),
            ("http://", NoProxy::Malformed),
            ("http://proxy.corp:0", NoProxy::Malformed),
            ("http://proxy.corp:70000", NoProxy::Malformed),
            ("http://proxy.corp/path", NoProxy::Malformed),
            ("http://a b", NoProxy::Malformed),
            ("http://me%0a:x@proxy.corp", NoProxy::Malformed),
            ("http://m%3ae:x@proxy.corp", NoProxy::Malformed),
            ("http://*.corp", NoProxy::Malformed),
        ] {
            assert_eq!(ProxyUrl::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn settings_have_no_password_and_keep_their_text() {
        for text in ["auto", "none", "http://proxy.corp:3128", "https://m%40e@proxy.corp:443"] {
            assert_eq!(text.parse::<HostProxy>().unwrap().to_string(), text);
        }
        let refused = "http://me:hidden@proxy.corp:3128".parse::<HostProxy>().unwrap_err();
        assert!(!format!("{refused} {:?}", refused.hint()).contains("hidden"));
        assert!("on".parse::<HostProxy>().is_ok() && "socks5://x:hidden@y".parse::<HostProxy>().is_err());
    }
}
