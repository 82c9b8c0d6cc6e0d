//! The client's end of a stream.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::stream::{Event, Stream};

/// The connected client of a stream. It is disconnected when this is dropped.
pub struct Reader {
    stream: Rc<Stream>,
    number: u64,
}

impl Reader {
    pub(super) fn new(stream: &Rc<Stream>, number: u64) -> Reader {
        Reader { stream: Rc::clone(stream), number }
    }

    /// Returns the stream.
    pub fn stream(&self) -> &Rc<Stream> {
        &self.stream
    }

    /// Returns the next event; None at the end of the stream, or when another client has connected.
    pub fn poll_next(&self, context: &mut Context) -> Poll<Option<Event>> {
        let mut inner = self.stream.inner.borrow_mut();
        if inner.readers != self.number {
            return Poll::Ready(None);
        }
        let unsent = inner.unsent;
        let from = inner.events.partition_point(|event| event.number < unsent);
        if let Some(event) = inner.events.get(from).cloned() {
            inner.unsent = event.number + 1;
            inner.forget();
            drop(inner);
            self.stream.room.notify_waiters();
            return Poll::Ready(Some(event));
        }
        if inner.finished.is_some() {
            return Poll::Ready(None);
        }
        inner.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Waits for the next event; returns it without reading it, and whether it is the last one.
    pub async fn peek(&self) -> Option<(Event, bool)> {
        poll_fn(|context| {
            let mut inner = self.stream.inner.borrow_mut();
            let event = inner.events.iter().find(|event| event.number >= inner.unsent).cloned();
            match event {
                Some(event) => {
                    let last = inner.finished.is_some() && event.number + 1 == inner.next;
                    Poll::Ready(Some((event, last)))
                }
                None if inner.finished.is_some() || inner.readers != self.number => Poll::Ready(None),
                None => {
                    inner.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Returns the next event; None at the end of the stream, or when another client has connected.
    pub async fn next(&self) -> Option<Event> {
        poll_fn(|context| self.poll_next(context)).await
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut inner = self.stream.inner.borrow_mut();
        if inner.readers == self.number {
            inner.connected = false;
            drop(inner);
            self.stream.room.notify_waiters();
        }
    }
}
