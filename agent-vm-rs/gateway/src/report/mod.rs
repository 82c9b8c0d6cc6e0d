//! What the gateway tells systemd, the journal and `agent-vm status`.

mod journal;
mod notify;
mod states;

pub use journal::{Priority, log, log_long, reason, set_debug};
pub use notify::{notify, watchdog};
pub use states::{Calls, State, States, Status};
