//! What `destroy` and `prune` kept of machines: bundles and whole workspaces, in the state directory or in the directories
//! of `--keep-in`. A record of each in the state directory says where it is and what it holds.

mod find;
mod name;
mod record;
mod remove;

pub use self::find::{Kept, Presence, all, find, names};
pub use self::name::{Kind, Named, stem};
pub use self::record::{Facts, Record, forget, is_recorded, write};
pub use self::remove::{finish_rests, remove, remove_rests};
