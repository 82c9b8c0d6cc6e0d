//! The processes of a machine, what a killed command left of a run, and how the last run ended.

use std::collections::BTreeSet;

use crate::doctor::fault::Fault;
use crate::doctor::finding::Finding;
use crate::host::ports::{holder, is_free, next_free};
use crate::machine::Machine;
use crate::machine::helpers::{self, Helper, HelperState};
use crate::machine::host_address::forward_address;
use crate::machine::settings::Settings;
use crate::vm::failure;

const CHECK: &str = "run";

/// What is there of a run while no QEMU runs.
struct Stopped {
    failure: Option<String>,
    has_files: bool,
    /// Processes that are left.
    left: Vec<i32>,
}

/// Checks the machine's processes. `left` are those that have its marker.
pub fn check(machine: &Machine, settings: &Settings, left: &[i32]) -> Vec<Finding> {
    let run = machine.run();
    if let (Some(_), Some(facts)) = (run.qemu(), run.facts()) {
        return judge_running(machine, &helpers::all(&run, &facts));
    }
    // Another command is changing it: what it has is neither stale nor left.
    if machine.is_locked().unwrap_or(true) {
        return vec![Finding::ok(CHECK, "another command is changing the machine")];
    }
    let stopped =
        Stopped { failure: failure::of_last_run(machine), has_files: run.path().exists(), left: left.to_owned() };
    let mut all = judge_stopped(&stopped);
    all.extend(ports(settings));
    all
}

fn judge_running(machine: &Machine, all: &[Helper]) -> Vec<Finding> {
    let lost: Vec<_> = all.iter().filter_map(|helper| Some((helper, helper.error(machine)?))).collect();
    if lost.is_empty() {
        return vec![Finding::ok(CHECK, format!("running, with {} processes", all.len()))];
    }
    lost.into_iter().map(|(helper, error)| Finding::fault(CHECK, fault_of(helper), error.to_string())).collect()
}

fn fault_of(helper: &Helper) -> Fault {
    debug_assert_ne!(helper.state, HelperState::Running);
    if helper.needs_restart() {
        Fault::HelperLost
    } else if helper.is_dispensable() {
        Fault::LogWriterLost
    } else {
        Fault::HelperEnded
    }
}

fn judge_stopped(stopped: &Stopped) -> Vec<Finding> {
    let mut all = Vec::new();
    if !stopped.left.is_empty() {
        let pids: Vec<_> = stopped.left.iter().map(ToString::to_string).collect();
        let message = format!("stopped, but processes of it still run: {}", pids.join(", "));
        all.push(Finding::fault(CHECK, Fault::ProcessesLeft, message));
    }
    match (&stopped.failure, stopped.has_files) {
        (Some(why), _) => all.push(Finding::fault(CHECK, Fault::RunFailed, format!("the last run failed: {why}"))),
        (None, true) => all.push(Finding::fault(CHECK, Fault::RunStale, "a killed command left files of a run")),
        (None, false) if all.is_empty() => all.push(Finding::ok(CHECK, "stopped")),
        (None, false) => {}
    }
    all
}

/// Checks that no other program uses a port that was asked for. Another port is replaced at the start.
fn ports(settings: &Settings) -> Vec<Finding> {
    let Ok(address) = forward_address(&settings.host) else { return Vec::new() };
    let asked =
        [("port", settings.port, settings.port_asked), ("ssh_port", settings.ssh_port, settings.ssh_port_asked)];
    let taken = asked.into_iter().filter(|(_, port, is_asked)| *is_asked && !is_free(address, *port));
    taken
        .map(|(key, port, _)| {
            let by = holder(port).unwrap_or_else(|| "another program".to_owned());
            let other = next_free(address, port, &BTreeSet::from([port])).unwrap_or(port);
            Finding::fault("ports", Fault::PortTaken, format!("port {port} is used by {by}"))
                .with("key", key)
                .with("port", other.to_string())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_left_is_judged() {
        let faults = |failure: Option<&str>, has_files, left: &[i32]| -> Vec<_> {
            let stopped = Stopped { failure: failure.map(str::to_owned), has_files, left: left.to_owned() };
            judge_stopped(&stopped).into_iter().filter_map(|found| found.fault).collect()
        };
        assert_eq!(faults(None, false, &[]), []);
        assert_eq!(faults(None, true, &[]), [Fault::RunStale]);
        assert_eq!(faults(Some("panic"), true, &[]), [Fault::RunFailed]);
        assert_eq!(faults(None, false, &[7, 8]), [Fault::ProcessesLeft]);
    }
}
