//! What every command knows: where machines live, and the global flags.

use std::time::Duration;

use crate::host::interrupt::Deadline;
use crate::machine::accel::Accel;
use crate::machine::state_dir::StateDir;
use crate::term::verbosity::Verbosity;

/// See [`Context::start_limit`].
const START: Duration = Duration::from_secs(300);
const EMULATED_START: Duration = Duration::from_secs(600);
/// See [`Context::answer_limit`].
const ANSWER: Duration = Duration::from_secs(20);

/// What every verb knows of the flags.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where machines live.
    pub state: StateDir,
    /// `--timeout`, if it was given.
    pub timeout: Option<Duration>,
    /// `--json`.
    pub json: bool,
    /// `--verbose` and `--debug`.
    pub verbosity: Verbosity,
    /// `--nix-arg`; None if there is none.
    pub nix_args: Option<Vec<String>>,
}

impl Context {
    /// The longest wait for anything: for a lock that another command holds while it starts a machine.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.timeout.unwrap_or(EMULATED_START)
    }

    /// The end of all waiting that begins now.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        Deadline::after(self.limit())
    }

    /// How long a machine may take from QEMU's start to MCP's answer. An emulated one on a busy host is slow, not broken.
    #[must_use]
    pub fn start_limit(&self, accel: &str) -> Duration {
        self.timeout.unwrap_or(if accel == Accel::Kvm.as_str() { START } else { EMULATED_START })
    }

    /// How long a running machine may take to open a session.
    #[must_use]
    pub fn answer_limit(&self) -> Duration {
        self.timeout.unwrap_or(ANSWER)
    }
}
