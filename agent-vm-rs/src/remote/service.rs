//! The MCP service inside a machine, as systemd there sees it. What it says is the guest's word: parsed
//! strictly, shown without control characters, and nothing hangs on it but what is shown.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::remote::ssh::Ssh;

/// Between what systemctl prints and what comes after it.
const MARK: &str = "=====";
/// A program that ended this often by itself will not stay up.
const CRASHES: u32 = 3;

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

    /// Whether it ends by itself again and again. A time limit that passes on a busy host is none of that: systemd tries
    /// again, and so long there is something to wait for.
    #[must_use]
    pub fn crashes(&self) -> bool {
        self.restarts >= CRASHES && matches!(self.result.as_str(), "exit-code" | "signal" | "core-dump")
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

/// Asks systemd for the states of units, in their order.
///
/// # Errors
/// The guest does not answer within `limit`.
pub fn states<const N: usize>(ssh: &Ssh<'_>, units: [&str; N], limit: Duration) -> Result<[ServiceState; N]> {
    let units = units.join(" ");
    let text = ssh.read(&format!("systemctl show --property=ActiveState,SubState,Result,NRestarts {units}"), limit)?;
    Ok(states_in(&text))
}

/// As [`states`], and what a script of ours prints in the guest after that: one answer is sooner here than two.
///
/// # Errors
/// The guest does not answer within `limit`.
pub fn states_and<const N: usize>(
    ssh: &Ssh<'_>,
    units: [&str; N],
    script: &str,
    limit: Duration,
) -> Result<([ServiceState; N], String)> {
    let units = units.join(" ");
    let show = format!("systemctl show --property=ActiveState,SubState,Result,NRestarts {units}");
    let text = ssh.read(&format!("{show} && echo '{MARK}' && {script}"), limit)?;
    let (shown, printed) = text.split_once(MARK).unwrap_or((&text, ""));
    Ok((states_in(shown), printed.to_owned()))
}

/// systemctl separates the units by empty lines. What the guest leaves out is unknown.
fn states_in<const N: usize>(text: &str) -> [ServiceState; N] {
    let mut parts = text.split("\n\n");
    std::array::from_fn(|_| ServiceState::parse(parts.next().unwrap_or_default()))
}

/// The last lines of a unit's journal.
///
/// # Errors
/// The guest does not answer within `limit`.
pub fn last_lines(ssh: &Ssh<'_>, unit: &str, limit: Duration) -> Result<String> {
    ssh.read(&format!("journalctl --no-pager --output=cat --unit={unit} --lines=16"), limit)
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

    #[test]
    fn several_units_are_told_apart() {
        let said = "ActiveState=active\nNRestarts=1\n\nActiveState=failed\nNRestarts=2\n";
        let [first, second, third] = states_in(said);
        assert!(first.running() && second.failed());
        assert_eq!((first.restarts, second.restarts, third.active.as_str()), (1, 2, "unknown"));
    }

    #[test]
    fn a_time_limit_that_passed_is_no_crash() {
        let state = |result: &str, restarts| ServiceState { result: result.to_owned(), restarts, ..Default::default() };
        for result in ["exit-code", "signal", "core-dump"] {
            assert!(state(result, CRASHES).crashes() && !state(result, CRASHES - 1).crashes(), "{result}");
        }
        for result in ["timeout", "watchdog", "success"] {
            assert!(!state(result, 9).crashes(), "{result}");
        }
    }
}
