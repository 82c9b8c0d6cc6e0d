//! Git LFS files. A repository holds only pointers; the contents are in `lfs/objects` of its git directory, under their
//! hash. Git LFS itself does not run on the host, since the repository's attributes configure it.

mod checkout;
mod find;
mod index;
mod pointer;
mod store;

pub use self::checkout::check_out;
pub use self::find::{parsed, pointers};
pub use self::pointer::{DIRECTORY, MAX_POINTER, Pointer};
pub use self::store::{Copied, has, is_damaged, place_all};
