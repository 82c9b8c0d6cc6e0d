//! What happened to a machine, one JSON object a line. Commands and the watcher write it; it outlives a run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::host::line_log::LineLog;
use crate::machine::paths::MachinePath;
use crate::term::text::one_line;

/// Size of the log in bytes. Beyond it, it is shortened to a half.
const LONGEST: u64 = 1 << 20;
/// Longest text in an event, in characters.
const LONGEST_TEXT: usize = 300;

/// An event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened.
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// Values of a setting that changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Values {
    /// The value before the change.
    pub before: Value,
    /// The value since.
    pub after: Value,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// The machine was created.
    Created,
    /// QEMU was started.
    Started {
        /// `kvm` or `tcg`.
        accel: String,
    },
    /// MCP answered.
    Ready {
        /// Milliseconds since QEMU's start.
        after_ms: u64,
    },
    /// The machine did not start completely.
    StartFailed {
        /// Why.
        reason: String,
    },
    /// A command stopped it.
    Stopped {
        /// `powered-off`, `terminated` or `killed`.
        outcome: String,
    },
    /// It was stopped because nothing used it.
    IdleStop {
        /// `powered-off`, `terminated` or `killed`.
        outcome: String,
        /// For how long it was not used.
        idle_seconds: u64,
    },
    /// It was stopped because its time to live had passed.
    TtlStop {
        /// `powered-off`, `terminated` or `killed`.
        outcome: String,
        /// Its time to live.
        ttl_seconds: u64,
    },
    /// The guest powered off by itself.
    PoweredOff,
    /// QEMU or the guest's kernel failed.
    Crashed {
        /// Why.
        reason: String,
    },
    /// The egress proxy denied connection attempts.
    Denied {
        /// Host that was asked for; null for attempts to several hosts.
        host: Option<String>,
        /// Its port; null as for `host`.
        port: Option<u16>,
        /// Why; null as for `host`.
        reason: Option<String>,
        /// Number of attempts since the previous event about this host.
        count: u64,
    },
    /// Settings changed.
    Changed {
        /// Names of the settings.
        settings: Vec<String>,
        /// Values of those that can be neither secret nor long.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        values: BTreeMap<String, Values>,
    },
    /// Its commits were fetched.
    Fetched {
        /// Number of commits that the source repository did not have.
        commits: u64,
    },
}

impl What {
    /// Returns whether a machine does not run after it.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(
            self,
            Self::Stopped { .. }
                | Self::IdleStop { .. }
                | Self::TtlStop { .. }
                | Self::PoweredOff
                | Self::Crashed { .. }
                | Self::StartFailed { .. }
        )
    }
}

/// Returns a text for an event: on one line, and not too long.
#[must_use]
pub fn short(text: &str) -> String {
    let text = one_line(text);
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Records an event of the machine in `machine`. A failure is only logged: it must not stop the command.
pub fn record(machine: &Path, what: What) {
    let write = || -> Result<()> {
        let event = Event { time: Timestamp::now(), what };
        let line = serde_json::to_string(&event).context("failed to write an event as JSON")?;
        log(machine).append(&line).context("failed to write an event")
    };
    if let Err(error) = write() {
        tracing::warn!("{error:#}");
    }
}

/// Returns the events, oldest first. Lines that this program does not know are left out.
#[must_use]
pub fn all(machine: &Path) -> Vec<Event> {
    log(machine).lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Returns the event with which the last run ended; None if the machine was started since.
#[must_use]
pub fn last_end(machine: &Path) -> Option<Event> {
    let lines = log(machine).lines();
    let mut last = lines.iter().rev().filter_map(|line| serde_json::from_str::<Event>(line).ok());
    last.find(|event| event.what.is_end() || matches!(event.what, What::Started { .. }))
        .filter(|event| event.what.is_end())
}

/// Returns the log in a machine's directory.
#[must_use]
pub fn log(machine: &Path) -> LineLog {
    // The guest causes any number of these.
    LineLog::new(MachinePath::Events.of(machine), LONGEST).keeping(|line| !line.contains(r#""event":"denied""#))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns an event of each kind.
    pub fn samples() -> Vec<What> {
        let text = || "x".to_owned();
        vec![
            What::Created,
            What::Started { accel: "tcg".to_owned() },
            What::Ready { after_ms: 12_340 },
            What::StartFailed { reason: text() },
            What::Stopped { outcome: "powered-off".to_owned() },
            What::IdleStop { outcome: "powered-off".to_owned(), idle_seconds: 5_400 },
            What::TtlStop { outcome: "killed".to_owned(), ttl_seconds: 28_800 },
            What::PoweredOff,
            What::Crashed { reason: text() },
            What::Denied { host: Some("a.test".to_owned()), port: Some(443), reason: Some(text()), count: 3 },
            What::Denied { host: None, port: None, reason: None, count: 9 },
            What::Changed {
                settings: vec!["memory".to_owned(), "ttl".to_owned(), "secrets".to_owned()],
                values: BTreeMap::from([
                    ("memory".to_owned(), Values { before: 4096.into(), after: 8192.into() }),
                    ("ttl".to_owned(), Values { before: "none".into(), after: "8h".into() }),
                ]),
            },
            What::Fetched { commits: 2 },
        ]
    }

    #[test]
    fn events_survive_the_file_and_unknown_ones_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        assert!(all(dir.path()).is_empty());
        samples().into_iter().for_each(|what| record(dir.path(), what));
        log(dir.path()).append(r#"{"time":"2030-01-01T00:00:00Z","event":"teleported"}"#).unwrap();
        let read = || all(dir.path()).into_iter().map(|event| event.what).collect::<Vec<_>>();
        assert_eq!(read(), samples());
        // An older agent-vm wrote no values.
        log(dir.path()).append(r#"{"time":"2030-01-01T00:00:00Z","event":"changed","settings":["memory"]}"#).unwrap();
        assert_eq!(read().last().unwrap().line(), "settings changed: memory");
    }

    #[test]
    fn every_event_is_documented() {
        let page = include_str!("../../../docs/reference/json.md");
        for what in samples() {
            let value = serde_json::to_value(&what).unwrap();
            let name = value["event"].as_str().unwrap();
            assert!(page.contains(&format!("| `{name}` |")), "{name}");
            for field in value.as_object().unwrap().keys().filter(|field| *field != "event") {
                assert!(page.contains(&format!("`{field}`")), "{field}");
            }
        }
    }

    #[test]
    fn the_end_of_the_last_run_is_found_unless_it_was_started_again() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(last_end(dir.path()), None);
        record(dir.path(), What::IdleStop { outcome: "killed".to_owned(), idle_seconds: 1 });
        record(dir.path(), What::Fetched { commits: 0 });
        assert!(matches!(last_end(dir.path()).unwrap().what, What::IdleStop { .. }));
        record(dir.path(), What::Started { accel: "kvm".to_owned() });
        assert_eq!(last_end(dir.path()), None);
    }

    #[test]
    fn a_guest_displaces_no_other_event() {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path(), What::Created);
        let denied = || What::Denied {
            host: Some("h".repeat(LONGEST_TEXT)),
            port: Some(443),
            reason: Some(r#"event":"created"#.repeat(20)),
            count: 1,
        };
        let size = serde_json::to_string(&denied()).unwrap().len() as u64;
        (0..2 * LONGEST / size).for_each(|_| record(dir.path(), denied()));
        let events = all(dir.path());
        assert_eq!(events[0].what, What::Created);
        assert!((events.len() as u64) < 2 * LONGEST / size);
    }

    #[test]
    fn texts_of_others_are_short_and_on_one_line() {
        assert_eq!(short("a\nb\u{1b}[2Jc"), "a bc");
        assert_eq!(short(&"ü".repeat(1_000)).chars().count(), LONGEST_TEXT + 1);
    }
}
