//! What the watcher does in each tick beside taking samples.

use std::time::Duration;

use anyhow::Result;

use crate::host::process::ProcessId;
use crate::machine::Machine;

/// Time between two ticks, unless a check wants less.
pub const TICK: Duration = Duration::from_secs(1);

/// A check of each tick.
pub trait Check {
    /// Looks at the running machine. It is called about once a second and must cost next to nothing. Returns the time until it
    /// wants to be called again; that is at most [`TICK`].
    ///
    /// # Errors
    /// Something failed, which is logged.
    fn tick(&mut self, machine: &Machine, qemu: &ProcessId) -> Result<Duration>;

    /// Does what is left after QEMU has ended.
    fn end(&mut self, _: &Machine) {}
}
