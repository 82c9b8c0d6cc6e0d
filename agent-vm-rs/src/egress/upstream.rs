//! The host's own proxy, which the egress proxy goes through.
//!
//! It is found when the machine starts, and kept for the run in a private file, with its password: commands that change the
//! rules later may have another environment.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::host::files::{read_if_there, remove_file, write_unsynced};
use crate::machine::egress_settings::{HostProxy, NoProxy, ProxyUrl};
use crate::machine::paths::MachinePath;
use crate::term::progress::note;

/// Variables that name a proxy, as curl reads them; the first that is set counts, for every protocol.
const NAMES: [&str; 6] = ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
/// Variables with hosts that are reached without it.
const EXCEPT: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// The host's proxy. The egress proxy reads it as part of its rules (`egress/host_proxy.py`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Upstream {
    secure: bool,
    host: String,
    port: u16,
    user: Option<String>,
    password: Option<String>,
    /// Entries of `NO_PROXY`.
    direct: Vec<String>,
}

/// A proxy of the environment that cannot be used: the variable, and why.
type Unusable = (&'static str, NoProxy);

impl Upstream {
    fn of(url: ProxyUrl, direct: Vec<String>) -> Self {
        let ProxyUrl { secure, host, port, user, password } = url;
        Self { secure, host, port, user, password, direct }
    }

    /// Returns a description without user and password, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        let except =
            if self.direct.is_empty() { String::new() } else { format!(", except {}", self.direct.join(", ")) };
        self.url() + &except
    }

    /// Returns its URL, without user and password.
    #[must_use]
    pub fn url(&self) -> String {
        let Self { secure, host, port, .. } = self.clone();
        ProxyUrl { secure, host, port, user: None, password: None }.shown()
    }
}

/// Finds the proxy that a setting means in an environment.
fn find(setting: &HostProxy, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Upstream>, Unusable> {
    let first = |names: &[&'static str]| {
        let values = names.iter().filter_map(|name| Some((*name, variable(name)?)));
        values.map(|(name, value)| (name, value.trim().to_owned())).find(|(_, value)| !value.is_empty())
    };
    let direct = first(&EXCEPT).map_or_else(String::new, |(_, value)| value);
    let direct = direct.split([',', ' ']).filter(|entry| !entry.is_empty()).map(str::to_owned).collect();
    let of_environment =
        || first(&NAMES).map(|(name, value)| ProxyUrl::parse(&value).map_err(|why| (name, why))).transpose();
    let url = match setting {
        HostProxy::None => None,
        HostProxy::Auto => of_environment()?,
        HostProxy::Url(url) => {
            // The setting has no password.
            let same = of_environment().ok().flatten().filter(|one| {
                (&one.host, one.port) == (&url.host, url.port) && (url.user.is_none() || one.user == url.user)
            });
            let login = same.map_or((None, None), |one| (one.user, one.password));
            Some(ProxyUrl { user: url.user.clone().or(login.0), password: login.1, ..url.clone() })
        }
    };
    Ok(url.map(|url| Upstream::of(url, direct)))
}

/// Finds the proxy for a new run of a machine, and keeps it for the run.
///
/// # Errors
/// The file cannot be written.
pub fn choose(machine: &Path, setting: &HostProxy) -> Result<()> {
    let file = MachinePath::Upstream.of(machine);
    let found = find(setting, |name| std::env::var(name).ok()).unwrap_or_else(|(name, why)| {
        let why = match why {
            NoProxy::OtherProtocol => "it is not an http or https proxy",
            NoProxy::Malformed => "it is not the URL of a proxy",
        };
        note(&format!("notice: the proxy in {name} is not used: {why}"));
        None
    });
    match found {
        Some(upstream) => {
            let text = serde_json::to_string(&upstream).context("failed to encode the host's proxy as JSON")?;
            write_unsynced(&file, text, 0o600)
        }
        None => remove_file(&file),
    }
}

/// Returns the proxy of the current run; None if there is none or the machine does not run.
#[must_use]
pub fn of_run(machine: &Path) -> Option<Upstream> {
    serde_json::from_str(&read_if_there(&MachinePath::Upstream.of(machine)).ok()??).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(setting: &str, variables: &[(&str, &str)]) -> Result<Option<Upstream>, Unusable> {
        let value = |name: &str| variables.iter().find(|(one, _)| *one == name).map(|(_, value)| (*value).to_owned());
        find(&setting.parse().unwrap(), value)
    }

    #[test]
    fn the_environment_names_the_proxy_and_its_exceptions() {
        let all = [
            ("HTTP_PROXY", "http://second:80"),
            ("HTTPS_PROXY", "http://me:hidden@first.corp:3128"),
            ("NO_PROXY", "localhost, .corp"),
            ("http_proxy", ""),
        ];
        let upstream = found("auto", &all).unwrap().unwrap();
        assert_eq!((upstream.user.as_deref(), upstream.password.as_deref()), (Some("me"), Some("hidden")));
        assert_eq!(upstream.shown(), "http://first.corp:3128, except localhost, .corp");
        assert_eq!(found("none", &all), Ok(None));
        assert_eq!(found("auto", &[]), Ok(None));
        let lower = found("auto", &[all[1], ("https_proxy", "lower:1")]).unwrap().unwrap();
        assert_eq!(lower.url(), "http://lower:1");
        assert_eq!(found("auto", &[("ALL_PROXY", "socks5://x:1")]), Err(("ALL_PROXY", NoProxy::OtherProtocol)));
    }

    #[test]
    fn a_setting_gets_the_password_of_the_same_proxy_only() {
        let login = |setting: &str, variable: &str| {
            let upstream = found(setting, &[("HTTPS_PROXY", variable)]).unwrap().unwrap();
            (upstream.user, upstream.password)
        };
        let (me, word) = (Some("me".to_owned()), Some("hidden".to_owned()));
        assert_eq!(login("http://a.corp:1", "http://me:hidden@a.corp:1"), (me.clone(), word.clone()));
        assert_eq!(login("http://me@a.corp:1", "http://me:hidden@a.corp:1"), (me, word));
        assert_eq!(login("http://you@a.corp:1", "http://me:hidden@a.corp:1"), (Some("you".to_owned()), None));
        assert_eq!(login("http://a.corp:2", "http://me:hidden@a.corp:1"), (None, None));
        assert_eq!(login("http://a.corp:2", "socks5://x:1"), (None, None));
    }
}
