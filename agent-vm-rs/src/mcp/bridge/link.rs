//! The connections to a machine, whose endpoint changes when the machine restarts.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;

use crate::host::interrupt::{Deadline, pause};
use crate::machine::in_use::{self, InUse};
use crate::mcp::endpoint::Endpoint;
use crate::term::error::Failure;

/// Time between attempts to reach the machine.
const PAUSE: Duration = Duration::from_millis(100);

/// Returns the endpoint of the running machine; None while another command starts or stops it. The argument says whether the
/// machine may be started.
pub type Find = dyn Fn(bool) -> Result<Option<Endpoint>> + Send + Sync;

/// The way to one server of a machine. Each request has a connection of its own, so that it can be closed alone; connections
/// are used again.
pub struct Link {
    machine: PathBuf,
    path: String,
    find: Box<Find>,
    limit: Duration,
    idle: Mutex<Idle>,
}

struct Idle {
    endpoint: Endpoint,
    /// Number of endpoints so far.
    age: u64,
    connections: Vec<Endpoint>,
}

impl Link {
    /// Returns the link to the server at `path` of the machine in `machine`. `limit` is how long an unreachable machine is waited
    /// for.
    pub fn new(machine: PathBuf, endpoint: Endpoint, path: String, limit: Duration, find: Box<Find>) -> Self {
        Self { machine, path, find, limit, idle: Mutex::new(Idle { endpoint, age: 0, connections: Vec::new() }) }
    }

    /// Begins a use of the machine: nothing shows from outside that a request waits for its answer.
    pub(super) fn begin_use(&self) -> InUse {
        in_use::begin(&self.machine)
    }

    /// Returns the server's path.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Returns when to give up a machine that cannot be reached.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::after(self.limit)
    }

    /// Returns a connection that no other request uses.
    pub(super) fn lease(&self) -> Lease<'_> {
        let mut idle = self.idle();
        let endpoint = idle.connections.pop().unwrap_or_else(|| idle.endpoint.apart());
        Lease { link: self, age: idle.age, endpoint }
    }

    /// Waits until the machine has an endpoint, and uses that from now on. `may_start`: whether to start a machine that does not
    /// run.
    ///
    /// # Errors
    /// The machine does not run and may not be started, or the deadline passes.
    pub(super) fn find_again(&self, may_start: bool, deadline: Deadline) -> Result<()> {
        loop {
            pause(PAUSE)?;
            if let Some(endpoint) = (self.find)(may_start)? {
                let mut idle = self.idle();
                idle.age += 1;
                idle.endpoint = endpoint;
                idle.connections.clear();
                return Ok(());
            }
            if deadline.passed() {
                return Err(Failure::new("the machine is not running yet").into());
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use, which another request can use afterwards.
pub(super) struct Lease<'a> {
    link: &'a Link,
    age: u64,
    endpoint: Endpoint,
}

impl Lease<'_> {
    /// Does not let another request use the connection.
    pub(super) fn discard(&mut self) {
        self.age = u64::MAX;
    }
}

impl Deref for Lease<'_> {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut idle = self.link.idle();
        if idle.age == self.age {
            idle.connections.push(self.endpoint.clone());
        }
    }
}
