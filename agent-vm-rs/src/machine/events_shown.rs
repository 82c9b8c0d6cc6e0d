//! The events of a machine as text for people.

use clap::ValueEnum as _;
use serde_json::Value;

use crate::machine::events::{Values, What};
use crate::machine::settings_key::Key;
use crate::machine::settings_shown;
use crate::machine::time_limit::span;
use crate::term::text::one_line;

impl What {
    /// Returns the event for people.
    #[must_use]
    pub fn line(&self) -> String {
        let times = |count: &u64| if *count == 1 { String::new() } else { format!(", {count} times") };
        match self {
            Self::Created => "created".to_owned(),
            Self::Started { accel } => format!("started ({accel})"),
            Self::Ready { after_ms } => format!("ready after {:.1} s", *after_ms as f64 / 1_000.0),
            Self::StartFailed { reason } => format!("did not start completely: {reason}"),
            Self::Stopped { outcome } => format!("stopped ({})", outcome.replace('-', " ")),
            Self::IdleStop { idle_seconds, .. } => format!("stopped: not used for {}", span(*idle_seconds)),
            Self::TtlStop { ttl_seconds, .. } => format!("stopped: its time to live of {} passed", span(*ttl_seconds)),
            Self::PoweredOff => "the guest powered off".to_owned(),
            Self::Crashed { reason } => format!("crashed: {reason}"),
            Self::Denied { host: Some(host), port, reason, count } => {
                let port = port.map_or_else(String::new, |port| format!(":{port}"));
                let reason = reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
                format!("egress denied: {host}{port}{reason}{}", times(count))
            }
            Self::Denied { count, .. } => format!("egress denied: {count} attempts to other hosts"),
            Self::Changed { settings, values } => {
                let one = |name: &String| match values.get(name) {
                    Some(Values { before, after }) => {
                        format!("{name} ({} to {})", shown(name, before), shown(name, after))
                    }
                    None => name.clone(),
                };
                format!("settings changed: {}", settings.iter().map(one).collect::<Vec<_>>().join(", "))
            }
            Self::Fetched { commits: 0 } => "fetched".to_owned(),
            Self::Fetched { commits } => format!("fetched, commits: {commits}"),
        }
    }
}

/// Returns a value of a setting, in the form of `agent-vm set`. A later agent-vm may have settings that this one does not know.
fn shown(name: &str, value: &Value) -> String {
    match Key::from_str(name, false) {
        Ok(key) => settings_shown::value(key, value),
        Err(_) => one_line(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::events::tests::samples;

    #[test]
    fn events_are_readable() {
        let lines: Vec<_> = samples().iter().map(What::line).collect();
        for expected in [
            "ready after 12.3 s",
            "stopped (powered off)",
            "stopped: not used for 1h30m",
            "stopped: its time to live of 8h passed",
            "egress denied: a.test:443 (x), 3 times",
            "settings changed: memory (4096 MiB to 8192 MiB), ttl (none to 8h), secrets",
        ] {
            assert!(lines.contains(&expected.to_owned()), "{expected}: {lines:#?}");
        }
    }
}
