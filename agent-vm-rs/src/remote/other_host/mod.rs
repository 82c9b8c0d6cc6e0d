//! Another host (`--remote`): reached with the user's own ssh, which asks the agent-vm there.
//!
//! Everything that is asked is one word of letters and digits ([`request`]), so that no shell of the other host can change it.

mod connection;
mod place;
pub mod request;
mod url;

pub use self::connection::{Connection, Terminal};
pub use self::url::HostUrl;
