//! Records denied egress as events. The guest can try any number of hosts any number of times, so that attempts are collapsed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::check::Check;
use crate::egress::log::{self, Attempt};
use crate::host::log_file;
use crate::host::process::ProcessId;
use crate::machine::Machine;
use crate::machine::events::{self, What};

/// Time between two events about the same host.
const PAUSE: Duration = Duration::from_secs(60);
/// Most hosts that have events of their own within that time.
const HOSTS: usize = 20;
/// Most bytes of the proxy's log that are read in a tick.
const MOST: u64 = 256 << 10;

/// Follows the proxy's log.
pub struct Denials {
    began: Instant,
    /// Number of denied attempts that were looked at.
    denied: u64,
    /// The log's inode, and the number of bytes of it that were read. None until the first tick.
    read: Option<(u64, u64)>,
    collapsed: Collapsed,
}

impl Denials {
    /// Returns a follower that begins at the log's end.
    #[must_use]
    pub fn new() -> Self {
        Self { began: Instant::now(), denied: 0, read: None, collapsed: Collapsed::default() }
    }

    /// Returns the denied attempts that were logged since the last call.
    fn new_attempts(&mut self, machine: &Machine) -> std::io::Result<Vec<Attempt>> {
        let mut file = log_file::open(&log::file(&machine.dir))?;
        let found = file.metadata()?;
        let from = match self.read {
            // Earlier runs are in the log, too.
            None => found.len(),
            Some((inode, from)) if inode == found.ino() && from <= found.len() => {
                from.max(found.len().saturating_sub(MOST))
            }
            // Another log was begun.
            Some(_) => found.len().saturating_sub(MOST),
        };
        let text = read_from(&mut file, from)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        self.read = Some((found.ino(), from + whole as u64));
        let lines = text.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n');
        let attempts = lines.filter_map(|line| serde_json::from_slice::<Attempt>(line).ok());
        Ok(attempts.filter(|attempt| attempt.verdict == "deny").collect())
    }
}

fn read_from(file: &mut File, from: u64) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    file.take(MOST).read_to_end(&mut text)?;
    Ok(text)
}

impl Check for Denials {
    fn tick(&mut self, machine: &Machine, _: &ProcessId) -> Result<()> {
        let denied = log::denied(&machine.dir);
        if self.read.is_none() || denied != self.denied {
            self.denied = denied;
            // Without a log, nothing was denied yet.
            match self.new_attempts(machine) {
                Ok(attempts) => attempts.iter().for_each(|attempt| self.collapsed.add(attempt)),
                Err(_) => self.read = Some((0, 0)),
            }
        }
        for event in self.collapsed.due(self.began.elapsed()) {
            events::record(&machine.dir, event);
        }
        Ok(())
    }

    fn end(&mut self, machine: &Machine) {
        for event in self.collapsed.due(Duration::MAX) {
            events::record(&machine.dir, event);
        }
    }
}

/// Attempts by host and port.
#[derive(Debug, Default)]
struct Collapsed {
    hosts: BTreeMap<(String, u16), Host>,
    /// Attempts to hosts beyond [`HOSTS`], and when they were last recorded.
    others: (u64, Option<Duration>),
}

#[derive(Debug)]
struct Host {
    count: u64,
    reason: Option<String>,
    recorded: Option<Duration>,
}

impl Collapsed {
    fn add(&mut self, attempt: &Attempt) {
        let key = (events::short(&attempt.host), attempt.port);
        if self.hosts.len() >= HOSTS && !self.hosts.contains_key(&key) {
            self.others.0 += 1;
            return;
        }
        let host = self.hosts.entry(key).or_insert(Host { count: 0, reason: None, recorded: None });
        host.count += 1;
        host.reason = attempt.reason.as_deref().map(events::short);
    }

    /// Returns the events that are due, and forgets hosts that were not asked for since their last one.
    fn due(&mut self, now: Duration) -> Vec<What> {
        let is_due = |recorded: Option<Duration>| recorded.is_none_or(|at| now.saturating_sub(at) >= PAUSE);
        let mut due = Vec::new();
        self.hosts.retain(|(name, port), host| {
            if !is_due(host.recorded) {
                return true;
            }
            if host.count == 0 {
                return false;
            }
            due.push(What::Denied {
                host: Some(name.clone()),
                port: Some(*port),
                reason: host.reason.clone(),
                count: std::mem::take(&mut host.count),
            });
            host.recorded = Some(now);
            true
        });
        if self.others.0 > 0 && is_due(self.others.1) {
            due.push(What::Denied { host: None, port: None, reason: None, count: std::mem::take(&mut self.others.0) });
            self.others.1 = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::machine::paths::MachinePath;
    use crate::machine::state_dir::StateDir;

    fn attempt(host: &str, verdict: &str) -> Attempt {
        Attempt {
            time: "t".to_owned(),
            verdict: verdict.to_owned(),
            method: "CONNECT".to_owned(),
            host: host.to_owned(),
            port: 443,
            path: None,
            status: None,
            bytes: None,
            reason: Some("why".to_owned()),
        }
    }

    fn counts(events: Vec<What>) -> Vec<(Option<String>, u64)> {
        let count = |what| match what {
            What::Denied { host, count, .. } => (host, count),
            other => panic!("{other:?}"),
        };
        events.into_iter().map(count).collect()
    }

    #[test]
    fn a_host_has_one_event_a_minute() {
        let mut collapsed = Collapsed::default();
        let second = Duration::from_secs;
        let of_a = |count| vec![(Some("a".to_owned()), count)];
        collapsed.add(&attempt("a", "deny"));
        assert_eq!(counts(collapsed.due(second(1))), of_a(1));
        for at in 2..60 {
            collapsed.add(&attempt("a", "deny"));
            assert!(collapsed.due(second(at)).is_empty());
        }
        assert_eq!(counts(collapsed.due(second(61))), of_a(58));
        assert!(collapsed.due(second(121)).is_empty() && collapsed.hosts.is_empty());
        collapsed.add(&attempt("a", "deny"));
        assert_eq!(counts(collapsed.due(second(122))), of_a(1));
        collapsed.add(&attempt("a", "deny"));
        assert_eq!(counts(collapsed.due(Duration::MAX)), of_a(1), "the rest at the end");
    }

    #[test]
    fn any_number_of_hosts_has_a_bounded_number_of_events() {
        let mut collapsed = Collapsed::default();
        let mut total = 0;
        for at in 1..=60 {
            for host in 0..100 {
                collapsed.add(&attempt(&format!("{at}.{host}.test"), "deny"));
            }
            total += collapsed.due(Duration::from_secs(at)).len();
        }
        assert_eq!(total, HOSTS + 1);
        let rest = counts(collapsed.due(Duration::from_secs(61)));
        assert_eq!(rest, [(None, 5_900)], "nothing is lost");
    }

    #[test]
    fn the_log_is_followed_also_into_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::new(&StateDir::locate(Some(dir.path())).unwrap(), "app-main".parse().unwrap());
        fs::create_dir_all(MachinePath::EgressLogDir.of(&machine.dir)).unwrap();
        let path = log::file(&machine.dir);
        let line = |host: &str, verdict: &str| serde_json::to_string(&attempt(host, verdict)).unwrap() + "\n";
        let write = |text: &str| {
            use std::io::Write as _;
            fs::OpenOptions::new().append(true).create(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
        };
        let mut denials = Denials::new();
        let mut hosts =
            || -> Vec<_> { denials.new_attempts(&machine).unwrap().into_iter().map(|attempt| attempt.host).collect() };
        write(&line("earlier", "deny"));
        assert!(hosts().is_empty());
        write(&(line("a", "deny") + &line("b", "allow") + "no json\n" + &line("c", "deny")[..10]));
        assert_eq!(hosts(), ["a"]);
        write(&line("c", "deny")[10..]);
        assert_eq!(hosts(), ["c"]);
        fs::rename(&path, path.with_extension("1")).unwrap();
        write(&line("d", "deny"));
        assert_eq!(hosts(), ["d"]);
        assert!(hosts().is_empty());
    }
}
