//! When a machine is stopped because nothing uses it, or because its time to live has passed.

use std::time::Duration;

use anyhow::Result;

use crate::host::lock::Lock;
use crate::machine::events::What;
use crate::machine::settings::Settings;
use crate::machine::{Machine, in_use};
use crate::vm::shutdown;

/// Why a machine is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was not used for this long.
    Idle(Duration),
    /// This time to live has passed.
    Ttl(Duration),
}

/// Returns why a machine has to be stopped now; None if it has not. `idle` is the time since its last use, `age` that since its
/// start.
#[must_use]
pub fn due(settings: &Settings, idle: Duration, age: Duration) -> Option<Cause> {
    let ttl = settings.ttl.get().filter(|ttl| age >= *ttl).map(Cause::Ttl);
    let is_idle = settings.idle_timeout.get().is_some_and(|limit| idle >= limit);
    ttl.or_else(|| is_idle.then_some(Cause::Idle(idle)))
}

/// Stops a machine as `agent-vm stop` does. Returns false if a command holds its lock or, if it was idle, uses it now; then it is
/// tried again later.
///
/// # Errors
/// QEMU does not end.
pub fn stop(machine: &Machine, cause: Cause, last: &in_use::Uses) -> Result<bool> {
    let Some(_lock) = Lock::try_take(&machine.state.lock_file(&machine.name))? else { return Ok(false) };
    if !machine.exists() || machine.run().qemu().is_none() {
        return Ok(false);
    }
    // A command that begins now waits for this lock, and then finds the machine stopped.
    let unused = in_use::unused(&machine.dir);
    let is_used = unused.is_none() || in_use::last(&machine.dir) != last.last;
    if is_used && matches!(cause, Cause::Idle(_)) {
        return Ok(false);
    }
    shutdown::stop_as(machine, None, |outcome| match cause {
        Cause::Idle(idle) => What::IdleStop { outcome, idle_seconds: idle.as_secs() },
        Cause::Ttl(ttl) => What::TtlStop { outcome, ttl_seconds: ttl.as_secs() },
    })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::settings::tests::sample;

    #[test]
    fn a_machine_is_due_only_at_its_own_limits() {
        let seconds = Duration::from_secs;
        let limited = |idle: &str, ttl: &str| Settings {
            idle_timeout: idle.parse().unwrap(),
            ttl: ttl.parse().unwrap(),
            ..sample()
        };
        let forever = seconds(u64::from(u32::MAX));
        assert_eq!(due(&sample(), forever, forever), None, "off by default");
        let idle = limited("30m", "none");
        assert_eq!(due(&idle, seconds(1_799), forever), None);
        assert_eq!(due(&idle, seconds(1_800), seconds(0)), Some(Cause::Idle(seconds(1_800))));
        let aged = limited("none", "8h");
        assert_eq!(due(&aged, forever, seconds(28_799)), None);
        assert_eq!(due(&aged, seconds(0), seconds(28_800)), Some(Cause::Ttl(seconds(28_800))));
        assert_eq!(due(&limited("1s", "1s"), seconds(1), seconds(1)), Some(Cause::Ttl(seconds(1))));
    }
}
