//! The MCP service inside a machine, as systemd there sees it. What it says is the guest's word: parsed
//! strictly, shown without control characters, and nothing hangs on it but what is shown.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::ssh::Ssh;

/// A busy guest under TCG answers late.
const PATIENCE: Duration = Duration::from_secs(15);

/// State of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServiceState {
    /// `active`, `activating`, `failed`…
    pub active: String,
    /// `running`, `auto-restart`…
    pub sub: String,
    /// `success`, `exit-code`, `watchdog`…
    pub result: String,
    /// Times that systemd restarted it.
    pub restarts: u32,
}

impl ServiceState {
    /// Whether systemd has given it up.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.active == "failed"
    }

    /// Whether it runs.
    #[must_use]
    pub fn running(&self) -> bool {
        self.active == "active"
    }

    fn parse(text: &str) -> Self {
        let fields: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let word = |name: &str| {
            let value = fields.get(name).copied().unwrap_or("unknown");
            let plain = value.len() <= 40 && value.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            if plain { value.to_owned() } else { "unknown".to_owned() }
        };
        Self {
            active: word("ActiveState"),
            sub: word("SubState"),
            result: word("Result"),
            restarts: fields.get("NRestarts").and_then(|count| count.parse().ok()).unwrap_or(0),
        }
    }
}

impl fmt::Display for ServiceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, result {}, {} restarts", self.active, self.sub, self.result, self.restarts)
    }
}

/// Asks systemd for a unit's state.
///
/// # Errors
/// The guest does not answer.
pub fn state(ssh: &Ssh<'_>, unit: &str) -> Result<ServiceState> {
    let text =
        ssh.read(&format!("systemctl show --property=ActiveState,SubState,Result,NRestarts {unit}"), PATIENCE)?;
    Ok(ServiceState::parse(&text))
}

/// The last lines of a unit's journal.
///
/// # Errors
/// The guest does not answer.
pub fn last_lines(ssh: &Ssh<'_>, unit: &str) -> Result<String> {
    ssh.read(&format!("journalctl --no-pager --output=cat --unit={unit} --lines=16"), PATIENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_words_are_believed() {
        let state = ServiceState::parse("ActiveState=failed\nSubState=failed\nResult=exit-code\nNRestarts=3\n");
        assert!(state.failed() && state.restarts == 3 && state.result == "exit-code");
        let hostile = ServiceState::parse("ActiveState=\x1b[2Jactive\nNRestarts=-1\njunk\n");
        assert_eq!((hostile.active.as_str(), hostile.restarts), ("unknown", 0));
    }
}
