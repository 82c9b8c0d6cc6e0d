//! What the gateway tells systemd, the journal and `agent-vm status`.

mod journal;
mod states;

pub use journal::{Priority, log, log_long, notify, set_debug};
pub use states::{State, States, Status};
