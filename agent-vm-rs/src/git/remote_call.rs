//! Calls git for a remote repository, as the user's git would: with the user's own configuration, credential helpers and
//! proxies, and the user's ssh agent. Nothing of a source repository's configuration applies, except the URL.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::call::MEMORY_LIMIT;
use super::config::Config;
use crate::host::process::Invocation;
use crate::term::text::one_line;

/// Name of the remote in the configuration of a call. A user has no remote of this name.
pub const REMOTE: &str = "agent-vm-remote";

/// Variable with the password.
const PASSWORD: &str = "AGENT_VM_PASSWORD";
/// Credential helper that returns it: gitcredentials(7).
const HELPER: &str = "!f() { test \"$1\" = get && printf 'password=%s\\n' \"$AGENT_VM_PASSWORD\"; }; f";

/// User name for a token; forges that take tokens as passwords accept any.
const ANY_USER: &str = "x-access-token";

/// The user's variables that say how git and ssh reach a remote. Those that begin with `GIT_CONFIG` hold configuration.
const VARIABLES: [&str; 8] = [
    "GIT_ASKPASS",
    "GIT_PROXY_SSL_CAINFO",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_SSL_NO_VERIFY",
];

/// The user's settings for the certificates of https remotes.
const CERTIFICATES: [&str; 3] = ["sslcainfo", "sslcapath", "sslverify"];

/// Longest time for reading the user's configuration, which may include a file that blocks.
const LONGEST_READ: Duration = Duration::from_secs(20);

/// Settings of every call.
const CONFIGURATION: [&str; 15] = [
    "protocol.allow=never",
    "protocol.https.allow=always",
    "protocol.ssh.allow=always",
    "protocol.version=2",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.packedGitLimit=1g",
    "pack.windowMemory=256m",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "fetch.prune=false",
    "fetch.writeCommitGraph=false",
    "transfer.bundleURI=false",
    "color.ui=false",
];

/// How git reaches a repository that a URL names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Over TLS.
    Https,
    /// Over ssh; also `HOST:PATH`.
    Ssh,
    /// It is a directory of this host.
    Local,
    /// In a way that agent-vm does not use: without encryption, or by a program that the URL names.
    Other,
}

impl Transport {
    /// Returns the port of a URL that names none; 0 for other transports.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Ssh => 22,
            Self::Local | Self::Other => 0,
        }
    }
}

/// Returns how git reaches a repository. (git-fetch(1), "Git URLs")
#[must_use]
pub fn transport(url: &str) -> Transport {
    if let Some((scheme, _)) = url.split_once("://") {
        return match scheme.to_ascii_lowercase().as_str() {
            "https" => Transport::Https,
            "ssh" | "git+ssh" | "ssh+git" => Transport::Ssh,
            "file" => Transport::Local,
            _ => Transport::Other,
        };
    }
    // A path with a colon has a slash before it.
    match url.split_once(':') {
        Some((before, _)) if before.contains('/') => Transport::Local,
        Some((_, after)) if after.starts_with(':') => Transport::Other,
        Some((before, _)) if before.is_empty() || before.starts_with('-') => Transport::Other,
        Some(_) => Transport::Ssh,
        None if url.is_empty() || url.starts_with('-') => Transport::Other,
        None => Transport::Local,
    }
}

/// Returns a call of git for the remote [`REMOTE`] of `url`, with a file in `dir` that names it. A password of an https URL,
/// or the `secret` that takes its place, is in the call's environment only: every user of the host can read arguments, and a
/// killed command would leave a file.
///
/// # Errors
/// The file cannot be written.
pub fn git_for(url: &str, secret: Option<&str>, dir: &Path) -> Result<Invocation> {
    call(url, secret, "", dir, |name| VARIABLES.contains(&name) || name.starts_with("GIT_CONFIG"))
}

/// Returns a call as [`git_for`] does, which follows no redirect.
///
/// # Errors
/// See [`git_for`].
pub fn git_here_for(url: &str, secret: Option<&str>, dir: &Path) -> Result<Invocation> {
    // The user's own setting could be for a part of the URL.
    let plain = credentials(url).map_or_else(|| url.to_owned(), |(plain, ..)| plain);
    let more = format!("[http {}]\n\tfollowRedirects = false\n", quoted(&plain));
    call(url, secret, &more, dir, |name| VARIABLES.contains(&name) || name.starts_with("GIT_CONFIG"))
}

/// Returns a call for an https URL that follows no redirect and has none of the user's rights: no configuration but that of
/// proxies and certificates, no credentials, no keys. If `addresses` are given, git connects to them.
///
/// # Errors
/// See [`git_for`].
pub fn git_without_rights(
    url: &str,
    secret: Option<&str>,
    proxy: &Proxy,
    addresses: &str,
    dir: &Path,
) -> Result<Invocation> {
    let mut more = "[http]\n\tfollowRedirects = false\n".to_owned();
    if !addresses.is_empty() {
        more += &format!("\tcurloptResolve = {}\n", quoted(addresses));
    }
    for (key, value) in &proxy.certificates {
        more += &format!("\t{key} = {}\n", quoted(value));
    }
    let git = call(url, secret, &more, dir, |name| name.starts_with("GIT_SSL") || name.starts_with("GIT_PROXY_SSL"))?;
    let git = proxy.url.iter().fold(git, |git, url| git.env("https_proxy", url));
    // curl reads .netrc there.
    let git = ["HOME", "XDG_CONFIG_HOME"].iter().fold(git, |git, name| git.env(name, dir));
    let git = git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    Ok(git.env("GIT_ASKPASS", "").env("SSH_ASKPASS", ""))
}

/// The user's settings for reaching an https URL, which are no rights.
#[derive(Clone, Debug, Default)]
pub struct Proxy {
    /// The proxy. It is passed in the environment, since it may contain a password.
    pub url: Option<String>,
    certificates: Vec<(String, String)>,
}

impl Proxy {
    /// Reads them from the user's git configuration.
    ///
    /// # Errors
    /// Git fails.
    pub fn of(url: &str, dir: &Path) -> Result<Self> {
        let git = git_for(url, None, dir)?.cwd(dir).args(["config", "--null", "--get-urlmatch", "http"]).arg(url);
        // It fails if nothing is set.
        let config = Config::parse(&git.time_limit(LONGEST_READ).output()?.stdout);
        let get = |key: &str| config.get(&format!("http.{key}")).map(str::to_owned);
        // Its home directory is another one.
        let absolute = |value: String| match value.strip_prefix("~/") {
            Some(rest) => env::home_dir().map_or_else(|| value.clone(), |home| home.join(rest).display().to_string()),
            None => value,
        };
        let known = CERTIFICATES.into_iter().filter_map(|key| Some((key.to_owned(), absolute(get(key)?))));
        Ok(Self { url: get("proxy").filter(|url| !url.is_empty()), certificates: known.collect() })
    }
}

/// Returns the URL of another repository that the answer to a call redirects to.
#[must_use]
pub fn redirected(git: &Invocation) -> Option<String> {
    let trace = [("GIT_TRACE_CURL", "1"), ("GIT_TRACE_CURL_NO_DATA", "1"), ("GIT_TRACE_REDACT", "1")];
    let git = trace.into_iter().fold(git.clone(), |git, (name, value)| git.env(name, value));
    let said = git.args(["ls-remote", "--quiet", REMOTE, "HEAD"]).output().ok()?.stderr;
    let said = String::from_utf8_lossy(&said);
    let fields = said.lines().filter_map(|line| line.split_once("Recv header")?.1.split_once(':'));
    let fields = fields.filter_map(|(_, field)| field.trim().split_once(':'));
    let mut places = fields.filter(|(name, _)| name.trim().eq_ignore_ascii_case("location"));
    let place = places.next()?.1.trim();
    place.split_once("/info/refs?").map(|(repository, _)| repository.to_owned())
}

fn call(
    url: &str,
    secret: Option<&str>,
    more: &str,
    dir: &Path,
    is_passed: impl Fn(&str) -> bool,
) -> Result<Invocation> {
    let failed = || format!("failed to write into {}", dir.display());
    let mut url = url.to_owned();
    let mut config = String::new();
    let secret = secret.filter(|_| transport(&url) == Transport::Https);
    let secret = secret.map(|secret| percent_encode(secret.as_bytes(), NON_ALPHANUMERIC).to_string());
    let known = match (credentials(&url), secret) {
        (Some((plain, user, _)), Some(secret)) => Some((plain, user, Some(secret))),
        (None, Some(secret)) => Some((url.clone(), ANY_USER.to_owned(), Some(secret))),
        (known, None) => known,
    };
    let mut password = None;
    if let Some((plain, user, its_password)) = known {
        let (scheme, rest) = plain.split_once("://").unwrap_or(("https", &plain));
        let host = rest.split('/').next().unwrap_or(rest);
        // A redirect to another host must not get it.
        config += &format!("[credential {}]\n", quoted(&format!("{scheme}://{host}")));
        config += &format!("\tusername = {}\n", quoted(&decoded(&user)));
        if its_password.is_some() {
            config += &format!("\thelper =\n\thelper = {}\n", quoted(HELPER));
        }
        password = its_password.map(|password| decoded(&password));
        url = plain;
    }
    config += &format!("[remote \"{REMOTE}\"]\n\turl = {}\n{more}", quoted(&url));
    let file = dir.join("remote");
    write_private(&file, &config).with_context(failed)?;
    let ours = env::vars_os().filter(|(name, _)| name.to_str().is_some_and(&is_passed));
    // A variable that begins with GIT_ removes all others of the user.
    let git = Invocation::new("git").with_our_environment().bounded(MEMORY_LIMIT).env("GIT_TERMINAL_PROMPT", "0");
    let git = ours.fold(git, |git, (name, value)| git.env(name, value));
    let git = password.iter().fold(git, |git, password| git.env(PASSWORD, password));
    // git and ssh must not wait for an answer on the terminal, from which they cannot read.
    let git = git.env("SSH_ASKPASS_REQUIRE", "force").env("LC_ALL", "C").env("GIT_NO_REPLACE_OBJECTS", "1");
    let git = CONFIGURATION.iter().fold(git, |git, setting| git.args(["-c", setting]));
    Ok(git.arg("-c").arg(format!("include.path={}", file.display())))
}

/// Splits an https URL with a user name: the URL without it, the name, and the password.
fn credentials(url: &str) -> Option<(String, String, Option<String>)> {
    let (scheme, rest) = url.split_once("://").filter(|(scheme, _)| scheme.eq_ignore_ascii_case("https"))?;
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let (user, host) = authority.rsplit_once('@')?;
    let (user, password) = user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password)));
    Some((format!("{scheme}://{host}{path}"), user.to_owned(), password.map(str::to_owned)))
}

/// Returns a part of a URL as text. A line feed would be another line of git's protocol with the helper.
fn decoded(text: &str) -> String {
    one_line(&percent_decode_str(text).decode_utf8_lossy())
}

/// Returns a value for a configuration file.
fn quoted(value: &str) -> String {
    let escaped = value.chars().flat_map(|c| match c {
        '"' | '\\' => vec!['\\', c],
        '\n' => vec!['\\', 'n'],
        c => vec![c],
    });
    format!("\"{}\"", escaped.collect::<String>())
}

fn write_private(file: &Path, text: &str) -> io::Result<()> {
    let opened = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
    opened?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_transports_are_used() {
        use Transport::{Https, Local, Other, Ssh};
        for (url, wanted) in [
            ("https://host.example/r.git", Https),
            ("HTTPS://host.example/r.git", Https),
            ("ssh://git@host.example/r", Ssh),
            ("git@host.example:o/r.git", Ssh),
            ("host:r", Ssh),
            ("file:///srv/r", Local),
            ("/srv/r", Local),
            ("../r", Local),
            ("./a:b", Local),
            ("r", Local),
            ("http://host.example/r", Other),
            ("git://host.example/r", Other),
            ("ext::sh -c id", Other),
            ("ext::sh -c id://x", Other),
            ("fd::3", Other),
            ("-oProxyCommand=id:x", Other),
            ("-x", Other),
            (":x", Other),
            ("", Other),
        ] {
            assert_eq!(transport(url), wanted, "{url}");
        }
    }

    #[test]
    fn a_password_is_in_the_environment_only() {
        let dir = tempfile::tempdir().unwrap();
        let git = git_for("https://me:s%40cret@host.example:8443/a\"b", None, dir.path()).unwrap();
        assert!(!git.to_string().contains("cret"), "{git}");
        let ask = |git: Invocation, args: &[&str]| git.args(args).cwd("/").read().unwrap();
        let remote = format!("remote.{REMOTE}.url");
        assert_eq!(ask(git.clone(), &["config", &remote]), "https://host.example:8443/a\"b");
        let asked = "protocol=https\nhost=host.example:8443\n\n";
        let filled = ask(git.stdin(asked), &["credential", "fill"]);
        assert!(filled.contains("username=me\npassword=s@cret"), "{filled}");
        for file in fs::read_dir(dir.path()).unwrap().flatten() {
            assert!(!fs::read_to_string(file.path()).unwrap().contains("cret"));
        }
        let other = git_for("https://me:s%40cret@host.example/r", None, dir.path()).unwrap();
        let other = other.args(["-c", "credential.helper=", "credential", "fill"]).cwd("/");
        let other = other.stdin("protocol=https\nhost=other.example\n\n").output().unwrap();
        assert!(!other.status.success(), "{other:?}");
        for (url, user) in [("https://host.example/r", ANY_USER), ("https://bot:old@host.example/r", "bot")] {
            let git = git_for(url, Some("a/secret@:"), dir.path()).unwrap();
            assert!(!git.to_string().contains("secret"), "{git}");
            assert_eq!(ask(git.clone(), &["config", &remote]), "https://host.example/r");
            let filled = ask(git.stdin("protocol=https\nhost=host.example\n\n"), &["credential", "fill"]);
            assert!(filled.contains(&format!("username={user}\npassword=a/secret@:")), "{filled}");
        }
        let git = git_for("https://to%6ben@host.example/r", None, dir.path()).unwrap();
        assert!(!git.to_string().contains("ken"), "{git}");
        let asked = ["config", "--get-urlmatch", "credential.username", "https://host.example/r"];
        assert_eq!(ask(git.clone(), &asked), "token");
        assert_eq!(ask(git, &["config", &remote]), "https://host.example/r");
    }

    #[test]
    fn other_protocols_are_refused_by_git_too() {
        let dir = tempfile::tempdir().unwrap();
        let ran = dir.path().join("ran");
        let url = format!("ext::touch {}", ran.display());
        // Control.
        let allowed = Invocation::new("git").args(["-c", "protocol.ext.allow=always", "ls-remote", &url]);
        drop(allowed.cwd(dir.path()).output());
        assert!(ran.exists());
        fs::remove_file(&ran).unwrap();
        let git = git_for(&url, None, dir.path()).unwrap().args(["ls-remote", REMOTE]).cwd(dir.path());
        assert!(!git.output().unwrap().status.success());
        assert!(!ran.exists());
    }
}
