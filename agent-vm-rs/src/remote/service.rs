//! The state of the MCP service in a machine, as systemd there reports it. The guest is not trusted: the output is parsed
//! strictly, shown without control characters, and only used for display.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::remote::ssh::Ssh;

/// Separates systemctl's output from that of the script after it.
const MARK: &str = "=====";
/// Number of restarts after which a unit counts as crashing.
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
    /// Number of restarts by systemd.
    pub restarts: u32,
}

impl ServiceState {
    /// Checks whether systemd has stopped restarting it.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.active == "failed"
    }

    /// Checks whether it keeps crashing. A start timeout on a busy host is not a crash: systemd starts the unit again, and it
    /// may succeed.
    #[must_use]
    pub fn crashes(&self) -> bool {
        self.restarts >= CRASHES && matches!(self.result.as_str(), "exit-code" | "signal" | "core-dump")
    }

    /// Checks whether it is active and running.
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

/// Returns the states of systemd units, in the order of `units`.
///
/// # Errors
/// The guest does not answer within `limit`.
pub fn states<const N: usize>(ssh: &Ssh<'_>, units: [&str; N], limit: Duration) -> Result<[ServiceState; N]> {
    let units = units.join(" ");
    let text = ssh.read(&format!("systemctl show --property=ActiveState,SubState,Result,NRestarts {units}"), limit)?;
    Ok(states_in(&text))
}

/// Returns the states of units and the output of a script that runs in the guest: one ssh session is faster than two.
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

/// Parses systemctl's output, in which an empty line separates units. Missing properties are unknown.
fn states_in<const N: usize>(text: &str) -> [ServiceState; N] {
    let mut parts = text.split("\n\n");
    std::array::from_fn(|_| ServiceState::parse(parts.next().unwrap_or_default()))
}

/// Returns the last lines of a unit's journal.
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
    fn states_with_control_characters_are_unknown() {
        let state = ServiceState::parse("ActiveState=failed\nSubState=failed\nResult=exit-code\nNRestarts=3\n");
        assert!(state.failed() && state.restarts == 3 && state.result == "exit-code");
        let hostile = ServiceState::parse("ActiveState=\x1b[2Jactive\nNRestarts=-1\njunk\n");
        assert_eq!((hostile.active.as_str(), hostile.restarts), ("unknown", 0));
    }

    #[test]
    fn several_units_are_parsed() {
        let output = "ActiveState=active\nNRestarts=1\n\nActiveState=failed\nNRestarts=2\n";
        let [first, second, third] = states_in(output);
        assert!(first.running() && second.failed());
        assert_eq!((first.restarts, second.restarts, third.active.as_str()), (1, 2, "unknown"));
    }

    #[test]
    fn a_timeout_is_not_a_crash() {
        let state = |result: &str, restarts| ServiceState { result: result.to_owned(), restarts, ..Default::default() };
        for result in ["exit-code", "signal", "core-dump"] {
            assert!(state(result, CRASHES).crashes() && !state(result, CRASHES - 1).crashes(), "{result}");
        }
        for result in ["timeout", "watchdog", "success"] {
            assert!(!state(result, 9).crashes(), "{result}");
        }
    }
}
