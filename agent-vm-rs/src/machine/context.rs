//! The context of every command: the state directory and the global flags.

use std::time::Duration;

use crate::host::interrupt::Deadline;
use crate::host::timeline::Timeline;
use crate::machine::accel::Accel;
use crate::machine::state_dir::StateDir;
use crate::term::verbosity::Verbosity;

/// See [`Context::start_limit`].
pub const START: Duration = Duration::from_secs(300);
/// The same for an emulated machine.
pub const EMULATED_START: Duration = Duration::from_secs(600);
/// See [`Context::answer_limit`].
pub const ANSWER: Duration = Duration::from_secs(20);

/// The global flags.
#[derive(Clone, Debug)]
pub struct Context {
    /// State directory.
    pub state: StateDir,
    /// `--timeout`, if it was given.
    pub timeout: Option<Duration>,
    /// `--json`.
    pub json: bool,
    /// `--verbose` and `--debug`.
    pub verbosity: Verbosity,
    /// `--nix-arg`; None if it was not given.
    pub nix_args: Option<Vec<String>>,
    /// What the command did so far.
    pub timeline: Timeline,
}

impl Context {
    /// Returns the longest time to wait, which includes the time that another command needs to start a machine.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.timeout.unwrap_or(EMULATED_START)
    }

    /// Returns the deadline of a command that starts now.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        Deadline::after(self.limit())
    }

    /// Returns the time limit from QEMU's start to MCP's answer. An emulated machine on a busy host is slow.
    #[must_use]
    pub fn start_limit(&self, accel: &str) -> Duration {
        self.timeout.unwrap_or(if accel == Accel::Kvm.as_str() { START } else { EMULATED_START })
    }

    /// Returns the time limit for opening a session in a running machine.
    #[must_use]
    pub fn answer_limit(&self) -> Duration {
        self.timeout.unwrap_or(ANSWER)
    }
}
