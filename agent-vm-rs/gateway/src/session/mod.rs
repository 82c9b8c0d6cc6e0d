//! One client's conversation with a server's process, in the versions of the protocol that have sessions.

mod conversation;
mod handshake;
mod outbox;
mod pump;
mod reader;
mod stand_in;
mod stream;
mod table;
mod waiting;
mod wishes;

pub use conversation::{NOT_RUNNING, Session, is_probe};
pub use outbox::{Outbox, progress_token};
pub use reader::Reader;
pub use stand_in::greeting;
pub use stream::{Event, Stream};
pub use table::{Table, unguessable};
