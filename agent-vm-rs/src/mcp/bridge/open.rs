//! The requests that have no answer yet.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::message::Message;
use crate::host::interrupt::Deadline;
use crate::mcp::endpoint::Endpoint;

/// All open requests.
#[derive(Default)]
pub(super) struct Open {
    requests: Mutex<BTreeMap<u64, Request>>,
    changed: Condvar,
}

struct Request {
    message: Message,
    endpoint: Option<Endpoint>,
    cancelled: Arc<AtomicBool>,
}

impl Open {
    /// Adds a request that is open until the result is dropped.
    pub(super) fn add(&self, message: &Message) -> Entry<'_> {
        let cancelled = Arc::<AtomicBool>::default();
        let mut requests = self.requests();
        let number = requests.last_key_value().map_or(0, |(last, _)| last + 1);
        requests
            .insert(number, Request { message: message.clone(), endpoint: None, cancelled: Arc::clone(&cancelled) });
        Entry { open: self, number, cancelled }
    }

    /// Cancels a request without a session by closing its connection, which is how a client cancels it there. Returns whether
    /// there is such a request.
    pub(super) fn cancel(&self, id: &str) -> bool {
        let requests = self.requests();
        let request =
            requests.values().find(|request| request.message.version().is_some() && request.message.has_id(id));
        request.is_some_and(|request| {
            request.cancelled.store(true, Ordering::Release);
            request.endpoint.iter().for_each(Endpoint::close);
            true
        })
    }

    /// Returns the open requests.
    pub(super) fn all(&self) -> Vec<Message> {
        self.requests().values().map(|request| request.message.clone()).collect()
    }

    /// Waits until no request is open, or until the deadline. Returns whether none is open.
    pub(super) fn wait(&self, deadline: Deadline) -> bool {
        let mut requests = self.requests();
        while !requests.is_empty() && !deadline.passed() {
            requests = self.changed.wait_timeout(requests, deadline.left()).unwrap_or_else(PoisonError::into_inner).0;
        }
        requests.is_empty()
    }

    fn requests(&self) -> MutexGuard<'_, BTreeMap<u64, Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open request.
pub(super) struct Entry<'a> {
    open: &'a Open,
    number: u64,
    cancelled: Arc<AtomicBool>,
}

impl Entry<'_> {
    /// Returns whether the client has cancelled the request.
    pub(super) fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Says which connection the request uses.
    pub(super) fn uses(&self, endpoint: &Endpoint) {
        if let Some(request) = self.open.requests().get_mut(&self.number) {
            request.endpoint = Some(endpoint.clone());
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.open.requests().remove(&self.number);
        self.open.changed.notify_all();
    }
}
