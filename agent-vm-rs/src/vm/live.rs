//! Changes the settings of a running machine, as far as QEMU and the host can.

use anyhow::Result;
use serde_json::json;

use crate::limits::{Means, Wanted};
use crate::machine::Machine;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunFacts;
use crate::machine::settings::Settings;
use crate::machine::settings_key::Key;
use crate::vm::{network_rate, qmp, throttle};

/// When a change of one setting takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// It has.
    Now,
    /// Partly, as the text says, and completely at the next start.
    Partly(String),
    /// At the next start.
    NextStart,
    /// With a new disk.
    NewDisk,
    /// Not at all: the run began with this value and still has it.
    Unchanged,
}

/// Applies the changed settings to a running machine. Returns for each when it takes effect.
#[must_use]
pub fn apply(machine: &Machine, after: &Settings, changed: &[Key]) -> Vec<(Key, When)> {
    let facts = machine.run().facts();
    // An older agent-vm did not record them.
    let began = Settings::read(&machine.run().file(MachinePath::RunSettings)).ok();
    let is_as_begun = |key: Key| began.as_ref().is_some_and(|began| key.value(began) == key.value(after));
    // What fails now is in the settings, and the next start applies it.
    let done = |key: Key, outcome: Result<When>| {
        outcome.unwrap_or_else(|error| {
            tracing::warn!("failed to change {} of the running machine: {error:#}", key.name());
            When::NextStart
        })
    };
    let when = |key: Key| match key {
        Key::Allow | Key::Deny | Key::IdleTimeout | Key::Ttl | Key::WorkspaceSize | Key::KeepFree => When::Now,
        Key::Memory => done(key, memory(machine, facts.as_ref(), after.memory)),
        Key::CpuQuota | Key::Pids => done(key, processes(machine, after)),
        Key::NetworkBandwidth => done(key, network(machine, after)),
        Key::DiskIops | Key::DiskBandwidth => done(key, disk(machine, after)),
        Key::Disk => When::NewDisk,
        _ => When::NextStart,
    };
    let of_run = |key: Key| match when(key) {
        When::NextStart if is_as_begun(key) => When::Unchanged,
        when => when,
    };
    changed.iter().map(|key| (*key, of_run(*key))).collect()
}

/// Has the guest return memory, or gives it back what it had when it started.
fn memory(machine: &Machine, facts: Option<&RunFacts>, mib: u32) -> Result<When> {
    let Some(boot) = facts.map(|facts| facts.memory).filter(|boot| *boot > 0) else { return Ok(When::NextStart) };
    let now = mib.min(boot);
    qmp::command(&machine.run(), "balloon", json!({ "value": u64::from(now) << 20 }))?;
    Ok(if now == mib {
        When::Now
    } else {
        When::Partly(format!("it has {boot} MiB, with which it started, until its next start"))
    })
}

fn processes(machine: &Machine, after: &Settings) -> Result<When> {
    let means = Means::of_run(&machine.dir);
    means.change(&Wanted::of_limits(&machine.dir, &after.limits))?;
    Ok(if means == Means::Single { When::NextStart } else { When::Now })
}

fn network(machine: &Machine, after: &Settings) -> Result<When> {
    let run = machine.run();
    // A run without a limit has forwarders that cannot have one.
    if !network_rate::is_limited(&run) {
        return Ok(When::NextStart);
    }
    network_rate::write(&run, &after.limits)?;
    Ok(When::Now)
}

fn disk(machine: &Machine, after: &Settings) -> Result<When> {
    throttle::change(&machine.run(), &after.limits)?;
    Means::of_run(&machine.dir).change(&Wanted::of_limits(&machine.dir, &after.limits))?;
    Ok(When::Now)
}
