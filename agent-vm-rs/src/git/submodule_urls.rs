//! Which submodules of a remote repository agent-vm fetches, and with whose rights.
//!
//! Anyone may have written `.gitmodules`, and the machine gets what it names. So the user's credentials and ssh keys are used
//! only beside the source: on its host, below the first directory of its path (the owner). Elsewhere, git has no rights and
//! uses https.

use anyhow::{Result, bail, ensure};
use percent_encoding::percent_decode_str;

use super::remote_call::{Transport, transport};

/// The parts of an https or ssh URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    transport: Transport,
    user: Option<String>,
    /// In lower case.
    pub host: String,
    /// Its own port, or that of its transport.
    pub port: u16,
    path: String,
}

/// How a submodule is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// From where; a submodule with an ssh URL can be fetched over https.
    pub url: String,
    /// With the user's own git configuration, credentials and ssh keys.
    pub is_users: bool,
    /// With the secret of the source's host.
    pub has_secret: bool,
    /// Its host is not the source's, and may have public addresses only.
    pub elsewhere: Option<Address>,
}

impl Address {
    /// Parses a URL.
    ///
    /// # Errors
    /// It is neither an https nor an ssh URL, or it has a part that git and agent-vm could read differently.
    pub fn parse(url: &str) -> Result<Self> {
        let transport = transport(url);
        match transport {
            Transport::Https | Transport::Ssh => {}
            Transport::Local => bail!("its URL is a path of a host"),
            Transport::Other => bail!("its URL is neither an https nor an ssh URL"),
        }
        let (authority, path) = match url.split_once("://") {
            Some((_, rest)) => rest.split_once('/').unwrap_or((rest, "")),
            None => url.split_once(':').unwrap_or((url, "")),
        };
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        let user = user.map(|user| user.split(':').next().unwrap_or(user));
        let (host, port) = match host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((host, port)) => (host, port.parse().ok()),
            None => (host, Some(transport.port())),
        };
        let Some(port) = port else { bail!("its URL has no valid port") };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = match bare {
            Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && !host.starts_with('-') && host.chars().all(is_name),
        };
        let is_user = |user: &str| !user.starts_with('-') && user.chars().all(|c| is_name(c) || c == '+');
        ensure!(is_host && user.is_none_or(is_user), "its URL has no valid host");
        let path = percent_decode_str(path).decode_utf8_lossy().into_owned();
        let is_odd = |c: char| c.is_control() || "\\?#%".contains(c) || c == char::REPLACEMENT_CHARACTER;
        let has_dots = path.split('/').any(|part| matches!(part, "." | ".."));
        ensure!(!path.contains(is_odd) && !has_dots && path.contains(|c| c != '/'), "its URL has no valid path");
        Ok(Self { transport, user: user.map(str::to_owned), host: host.to_ascii_lowercase(), port, path })
    }

    /// Returns the first directory of the path, which is the owner on most hosts.
    fn owner(&self) -> Option<String> {
        let mut parts = self.path.split('/').filter(|part| !part.is_empty());
        let first = parts.next()?.to_ascii_lowercase();
        parts.next().map(|_| first)
    }

    fn has_usual_port(&self) -> bool {
        self.port == self.transport.port()
    }

    fn is_same_server(&self, other: &Self) -> bool {
        (self.transport, &self.host, self.port) == (other.transport, &other.host, other.port)
    }

    fn is_same_host(&self, other: &Self) -> bool {
        self.is_same_server(other) || (self.host == other.host && self.has_usual_port() && other.has_usual_port())
    }

    /// Returns whether it is beside the source, so that the user's rights for the source count for it.
    fn is_beside(&self, source: &Self) -> bool {
        let is_same_user = match (self.transport, source.transport) {
            (Transport::Ssh, Transport::Ssh) => self.user == source.user,
            (Transport::Ssh, _) => self.user.as_deref() == Some("git"),
            _ => true,
        };
        self.is_same_host(source) && self.owner() == source.owner() && is_same_user
    }
}

/// Returns how to fetch a submodule of the repository at `source`.
///
/// # Errors
/// It must not be fetched.
pub fn access(source: &Address, url: &str) -> Result<Access> {
    let address = Address::parse(url)?;
    if address.is_beside(source) {
        let has_secret = address.is_same_server(source);
        return Ok(Access { url: url.to_owned(), is_users: true, has_secret, elsewhere: None });
    }
    if address.transport == Transport::Ssh {
        ensure!(address.has_usual_port(), "it is not beside the source, where your ssh keys are not used");
    }
    let port = if address.transport == Transport::Https { address.port } else { Transport::Https.port() };
    let encoded = percent_encoding::utf8_percent_encode(address.path.trim_start_matches('/'), super::URL_PATH);
    let host = &address.host;
    let url = match port == Transport::Https.port() {
        true => format!("https://{host}/{encoded}"),
        false => format!("https://{host}:{port}/{encoded}"),
    };
    let address = Address { transport: Transport::Https, user: None, port, ..address };
    let has_secret = address.is_same_server(source);
    let elsewhere = (!address.is_same_host(source)).then_some(address);
    Ok(Access { url, is_users: false, has_secret, elsewhere })
}

/// Returns the URL of a submodule whose superproject has the URL `base`: one that begins with `./` or `../` is relative to
/// that. (git-submodule(1))
///
/// # Errors
/// It leads out of the host.
pub fn resolve(base: &str, url: &str) -> Result<String> {
    if !["./", "../"].iter().any(|start| url.starts_with(start)) && !matches!(url, "." | "..") {
        return Ok(url.to_owned());
    }
    let root = base.find("://").map_or_else(
        || base.find(':').map_or(0, |colon| colon + 1),
        |at| base[at + 3..].find('/').map_or(base.len(), |slash| at + 3 + slash + 1),
    );
    let (root, path) = base.split_at(root);
    let is_absolute = path.starts_with('/');
    let mut parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    for part in url.split('/').filter(|part| !part.is_empty()) {
        match part {
            "." => {}
            ".." => ensure!(parts.pop().is_some(), "its URL leads out of the source's host"),
            part => parts.push(part),
        }
    }
    Ok(format!("{root}{}{}", if is_absolute { "/" } else { "" }, parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "https://host.example/team/app.git";

    fn to(source: &str, url: &str) -> Result<Access> {
        access(&Address::parse(source).unwrap(), url)
    }

    #[test]
    fn relative_urls_are_resolved_as_git_does() {
        for (base, url, wanted) in [
            (SOURCE, "../lib.git", "https://host.example/team/lib.git"),
            ("https://host.example/team/app/", "../lib", "https://host.example/team/lib"),
            (SOURCE, "./sub", "https://host.example/team/app.git/sub"),
            (SOURCE, "../../other/lib/", "https://host.example/other/lib"),
            ("git@host.example:team/app", "../lib", "git@host.example:team/lib"),
            ("host.example:app", "../lib", "host.example:lib"),
            ("ssh://host.example/srv/app", "../lib", "ssh://host.example/srv/lib"),
            ("host.example:/srv/app", "../lib", "host.example:/srv/lib"),
            (SOURCE, "https://other.example/x", "https://other.example/x"),
            (SOURCE, "lib", "lib"),
        ] {
            assert_eq!(resolve(base, url).unwrap(), wanted, "{base} {url}");
        }
        for url in ["../../../x", "../../../../x"] {
            assert!(resolve(SOURCE, url).is_err(), "{url}");
        }
        assert!(resolve("host:app", "../../x").is_err());
    }

    #[test]
    fn the_users_rights_are_used_beside_the_source_only() {
        let is_users = |source: &str, url: &str| to(source, url).is_ok_and(|access| access.is_users);
        for url in [
            "https://host.example/team/lib",
            "https://HOST.example:443/Team/lib",
            "git@host.example:team/lib",
            "ssh://git@host.example/team/lib",
        ] {
            assert!(is_users(SOURCE, url), "{url}");
        }
        for url in [
            "https://host.example/other/lib",
            "https://host.example/lib",
            "https://host.example:8443/team/lib",
            "https://other.example/team/lib",
            "ssh://root@host.example/team/lib",
            "ssh://git@host.example:2222/team/lib",
            "https://host.example/team/../other/lib",
            "https://host.example/team/%2e%2e/other/lib",
            "https://host.example/team/lib?x=/../..",
            "https://host.example\\@other.example/team/lib",
        ] {
            assert!(!is_users(SOURCE, url), "{url}");
        }
        assert!(is_users("git@host.example:team/app", "git@host.example:team/lib"));
        assert!(is_users("ssh://me@host.example:2222/srv/a", "ssh://me@host.example:2222/srv/b"));
        assert!(is_users("host.example:app", "host.example:lib"));
        assert!(!is_users("git@host.example:team/app", "me@host.example:team/lib"));
        assert!(!is_users("host.example:app", "host.example:team/lib"));
    }

    #[test]
    fn the_secret_is_for_the_server_of_the_source_only() {
        let has_secret = |url: &str| to(SOURCE, url).is_ok_and(|access| access.has_secret);
        for url in ["https://host.example/team/lib", "https://host.example/other/lib", "git@host.example:other/lib"] {
            assert!(has_secret(url), "{url}");
        }
        for url in ["https://host.example:444/team/lib", "https://other.example/team/lib", "git@host.example:team/lib"]
        {
            assert!(!has_secret(url), "{url}");
        }
    }

    #[test]
    fn others_are_fetched_over_https() {
        let other = |url: &str| to(SOURCE, url).map(|access| (access.url, access.elsewhere.is_some()));
        for (url, wanted, elsewhere) in [
            ("https://host.example/other/lib.git", "https://host.example/other/lib.git", false),
            ("git@host.example:other/lib.git", "https://host.example/other/lib.git", false),
            ("ssh://git@other.example/o/a%20b", "https://other.example/o/a%20b", true),
            ("https://me:pw@other.example:444/o/lib", "https://other.example:444/o/lib", true),
            ("https://host.example:444/team/lib", "https://host.example:444/team/lib", true),
        ] {
            assert_eq!(other(url).unwrap(), (wanted.to_owned(), elsewhere), "{url}");
        }
    }

    #[test]
    fn hostile_urls_are_refused() {
        for url in [
            "",
            "/srv/private",
            "file:///srv/private",
            "FILE:///srv/private",
            "lib",
            "./a:b",
            "http://host.example/team/lib",
            "git://host.example/team/lib",
            "ext::sh -c id",
            "ssh://-oProxyCommand=id/x",
            "-oProxyCommand=id:x",
            "ssh://-l@host.example/x",
            "https://host.example",
            "https://host.example/",
            "https:///x",
            "https://host.example:99999/x",
            "https://host.example/a\nb",
            "https://host.example/%0ahost=x",
            "https://host.ex\u{e4}mple/x",
            "https://[::1/x",
            "ssh://git@other.example:2222/x",
            "[host.example:22]:x",
        ] {
            assert!(to(SOURCE, url).is_err(), "{url}");
        }
    }
}
