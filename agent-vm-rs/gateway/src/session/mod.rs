//! One client's conversation with a server's process, in the versions of the protocol that have sessions.

mod conversation;
mod handshake;
mod outbox;
mod pump;
mod stand_in;
mod stream;
mod table;
mod waiting;

pub use conversation::{NOT_RUNNING, Session};
pub use outbox::Outbox;
pub use stand_in::{EMPTY, PROMISED, empty_answer};
pub use stream::{Event, Reader, Stream};
pub use table::{Table, unguessable};
