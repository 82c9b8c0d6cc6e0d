//! What the watcher does in each tick beside taking samples.

use anyhow::Result;

use crate::host::process::ProcessId;
use crate::machine::Machine;

/// A check of each tick.
pub trait Check {
    /// Looks at the running machine. It is called once a second and must cost next to nothing.
    ///
    /// # Errors
    /// Something failed, which is logged.
    fn tick(&mut self, machine: &Machine, qemu: &ProcessId) -> Result<()>;

    /// Does what is left after QEMU has ended.
    fn end(&mut self, _: &Machine) {}
}
