//! Runs one MCP session with two servers, and compares what they answer. Both servers may be hostile: what they send has limits,
//! and is only compared and printed.

mod difference;
mod http;
mod session;
mod stdio;

pub use self::difference::{Difference, Volatile, differences};
pub use self::http::Http;
pub use self::session::{Exchange, Session, run};
pub use self::stdio::Stdio;

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

/// Longest message, in bytes.
pub const LONGEST: u64 = 16 << 20;

/// A server that is talked to.
pub trait Peer {
    /// Sends a request and returns the response.
    ///
    /// # Errors
    /// There is none within `limit`, or it is not a message.
    fn request(&mut self, message: &Value, limit: Duration) -> Result<Value>;

    /// Sends a notification.
    ///
    /// # Errors
    /// The server cannot be reached.
    fn notify(&mut self, message: &Value, limit: Duration) -> Result<()>;
}
