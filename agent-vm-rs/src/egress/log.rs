//! The proxy's log of connection attempts.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::host::log_file;
use crate::machine::egress_settings::Destination;
use crate::machine::paths::MachinePath;

/// Number of bytes that are read of the log's end. The log is longer if the guest filled it.
const MOST: u64 = 32 << 20;

/// One attempt. The guest chose its texts, which are printed without control characters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Time in UTC (RFC 3339).
    pub time: String,
    /// Verdict: `allow` or `deny`.
    pub verdict: String,
    /// HTTP method; `CONNECT` for a tunnel, `TLS` for a handshake.
    pub method: String,
    /// Requested host.
    pub host: String,
    /// Requested port.
    pub port: u16,
    /// Path and query of the URL; None if TLS hides them.
    pub path: Option<String>,
    /// HTTP status of the response.
    pub status: Option<u16>,
    /// Length of the response's body in bytes.
    pub bytes: Option<u64>,
    /// Reason why it was denied or failed.
    pub reason: Option<String>,
}

/// The reason that the proxy logs for a host that is on no list.
pub const NOT_LISTED: &str = "not on the allow list";
/// Beginning of the reason that the proxy logs for a name whose address is closed; the address and a comma follow.
const RESOLVES_TO: &str = "resolves to ";

impl Attempt {
    /// Returns the command that would allow it; None if it was allowed, or denied for another reason.
    #[must_use]
    pub fn remedy(&self, machine: &str) -> Option<String> {
        Some(format!("agent-vm egress allow --branch {machine} {}", self.to_allow()?))
    }

    /// Returns the destination that a list would have to have; None as for [`Self::remedy`].
    #[must_use]
    pub fn to_allow(&self) -> Option<Destination> {
        self.unlisted().or_else(|| self.closed_address())
    }

    /// Returns the address if it was denied because only the address itself on a list opens it.
    #[must_use]
    pub fn closed_address(&self) -> Option<Destination> {
        let reason = self.reason.as_deref().filter(|_| self.verdict == "deny")?;
        self.destination(reason.strip_prefix(RESOLVES_TO)?.split_once(", ")?.0)
    }

    /// Returns the destination if it was denied because it is on no list.
    #[must_use]
    pub fn unlisted(&self) -> Option<Destination> {
        if self.verdict == "deny" && self.reason.as_deref() == Some(NOT_LISTED) {
            return self.destination(&self.host);
        }
        None
    }

    /// Returns a host with this attempt's port. The guest chose the host: None if it is not a valid one.
    fn destination(&self, host: &str) -> Option<Destination> {
        match host.parse().ok()? {
            Destination::Host(host, None) if !host.starts_with('*') => Some(Destination::Host(host, Some(self.port))),
            _ => None,
        }
    }
}

/// Returns the path of the log.
#[must_use]
pub fn file(machine: &Path) -> PathBuf {
    MachinePath::EgressLog.of(machine)
}

/// Returns the number of attempts that were denied in the current run.
#[must_use]
pub fn denied(machine: &Path) -> u64 {
    count(&MachinePath::EgressDenied.of(machine)).unwrap_or(0)
}

/// Returns the number of attempts that were allowed in the current run.
#[must_use]
pub fn allowed(machine: &Path) -> u64 {
    count(&MachinePath::EgressAllowed.of(machine)).unwrap_or(0)
}

fn count(file: &Path) -> Option<u64> {
    let mut text = String::new();
    log_file::open(file).ok()?.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Returns the last attempts, oldest first.
///
/// # Errors
/// The log exists and cannot be read.
pub fn last(machine: &Path, count: usize, denied_only: bool) -> Result<Vec<Attempt>> {
    let path = file(machine);
    let text = match log_file::end(&path, MOST) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("failed to read {}", path.display())),
    };
    let text = String::from_utf8_lossy(&text);
    let wanted = |attempt: &Attempt| !denied_only || attempt.verdict == "deny";
    let mut attempts: Vec<_> = text
        .lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Attempt>(line).ok())
        .filter(wanted)
        .take(count)
        .collect();
    attempts.reverse();
    Ok(attempts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_last_attempts_are_read_and_broken_lines_skipped() {
        let dir = tempfile::tempdir().unwrap();
        assert!(last(dir.path(), 5, false).unwrap().is_empty() && denied(dir.path()) == 0);
        fs::create_dir_all(MachinePath::EgressLogDir.of(dir.path())).unwrap();
        let line = |host: &str, verdict: &str| {
            format!(
                r#"{{"time":"t","verdict":"{verdict}","method":"GET","host":"{host}","port":80,"path":null,"status":null,"bytes":null,"reason":null}}"#
            )
        };
        let text = [line("a", "deny"), "{".to_owned(), line("b", "allow"), line("c", "deny")].join("\n");
        fs::write(file(dir.path()), text).unwrap();
        let hosts =
            |count, denied| last(dir.path(), count, denied).unwrap().into_iter().map(|a| a.host).collect::<Vec<_>>();
        assert_eq!(hosts(2, false), ["b", "c"]);
        assert_eq!(hosts(9, true), ["a", "c"]);
        fs::write(MachinePath::EgressDenied.of(dir.path()), "7\n").unwrap();
        fs::write(MachinePath::EgressAllowed.of(dir.path()), "8\n").unwrap();
        assert_eq!((denied(dir.path()), allowed(dir.path())), (7, 8));
    }

    #[test]
    fn unlisted_hosts_have_a_command_and_invalid_ones_do_not() {
        let attempt = |verdict: &str, host: &str, reason: &str| Attempt {
            time: String::new(),
            verdict: verdict.to_owned(),
            method: "CONNECT".to_owned(),
            host: host.to_owned(),
            port: 443,
            path: None,
            status: None,
            bytes: None,
            reason: Some(reason.to_owned()),
        };
        let remedy = |host: &str| attempt("deny", host, NOT_LISTED).remedy("app-main");
        assert_eq!(remedy("a.test").unwrap(), "agent-vm egress allow --branch app-main a.test:443");
        assert_eq!(remedy("::1").unwrap(), "agent-vm egress allow --branch app-main [::1]:443");
        let private = "resolves to 10.0.0.5, a private or reserved address";
        assert_eq!(
            attempt("deny", "db.corp.test", private).remedy("app-main").unwrap(),
            "agent-vm egress allow --branch app-main 10.0.0.5:443"
        );
        let own = "resolves to fd00::5, an address of the host or its network";
        assert_eq!(
            attempt("deny", "db.corp.test", own).remedy("app-main").unwrap(),
            "agent-vm egress allow --branch app-main [fd00::5]:443"
        );
        for none in ["a;id", "*", "*.b.test", "@npm", "", "a.test:80", "$(id)", "a b"] {
            assert_eq!(remedy(none), None, "{none}");
        }
        assert_eq!(attempt("allow", "a.test", NOT_LISTED).remedy("app-main"), None);
        assert_eq!(attempt("deny", "a.test", "on the deny list").remedy("app-main"), None);
    }

    #[test]
    fn links_are_not_followed_and_pipes_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(MachinePath::EgressLogDir.of(dir.path())).unwrap();
        let count = MachinePath::EgressDenied.of(dir.path());
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "7\n").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &count).unwrap();
        std::os::unix::fs::symlink(&elsewhere, file(dir.path())).unwrap();
        assert_eq!(denied(dir.path()), 0);
        assert!(last(dir.path(), 5, false).is_err());
        for place in [count, file(dir.path())] {
            fs::remove_file(&place).unwrap();
            rustix::fs::mkfifoat(rustix::fs::CWD, &place, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        }
        assert_eq!(denied(dir.path()), 0);
        assert!(last(dir.path(), 5, false).map_or(true, |lines| lines.is_empty()));
    }
}
