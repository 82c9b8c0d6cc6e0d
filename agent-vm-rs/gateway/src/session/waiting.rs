//! Requests that wait for a server to start.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{AbortHandle, spawn_local};
use tokio::time::sleep;

use crate::json::{Id, Message};

struct Waiter {
    id: Id,
    request: Message,
    timer: AbortHandle,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.timer.abort();
    }
}

/// Requests that wait, in order.
#[derive(Default)]
pub struct Waiting(Rc<RefCell<Vec<Waiter>>>);

impl Waiting {
    /// Appends a request. After a time, removes it and calls a function with it.
    pub fn add(&self, id: Id, request: Message, time: Duration, late: impl FnOnce(Message) + 'static) {
        let (waiting, own) = (Rc::downgrade(&self.0), id.clone());
        let timer = spawn_local(async move {
            sleep(time).await;
            let Some(waiting) = waiting.upgrade() else { return };
            let Some(place) = waiting.borrow().iter().position(|waiter| waiter.id == own) else { return };
            let waiter = waiting.borrow_mut().remove(place);
            late(waiter.request.clone());
        });
        self.0.borrow_mut().push(Waiter { id, request, timer: timer.abort_handle() });
    }

    /// Removes a request; returns whether it was there.
    pub fn remove(&self, id: &Id) -> bool {
        let mut waiting = self.0.borrow_mut();
        let before = waiting.len();
        waiting.retain(|waiter| waiter.id != *id);
        waiting.len() < before
    }

    /// Removes and returns all requests.
    pub fn take(&self) -> Vec<Message> {
        self.0.borrow_mut().drain(..).map(|waiter| waiter.request.clone()).collect()
    }
}
