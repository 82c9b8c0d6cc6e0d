//! A stream of events to a client, which can be resumed after a disconnection.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use super::reader::Reader;

/// Maximal number and size of the events that a connected client has not read. Then its server waits.
const MOST_UNREAD: (usize, usize) = (64, 1 << 20);
/// Maximal number and size of the events kept for a client that is not connected. Then the oldest are dropped.
const MOST_KEPT: (usize, usize) = (1000, 4 << 20);
/// Maximal number and size of the events kept that a client has been sent.
const MOST_SENT: (usize, usize) = (100, 1 << 20);
/// Time for which a stream can be resumed after its last event.
const RESUMABLE: Duration = Duration::from_secs(60);

/// An event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Number in the stream.
    pub number: u64,
    /// Name of the event; none for a message.
    pub name: Option<&'static str>,
    /// A message on one line, or other text.
    pub data: Bytes,
}

/// A stream of events.
pub struct Stream {
    /// Number of the stream in its session.
    pub id: u64,
    pub(super) inner: RefCell<Inner>,
    pub(super) room: Notify,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) events: VecDeque<Event>,
    bytes: usize,
    pub(super) next: u64,
    /// Number of the first event that the client has not been sent.
    pub(super) unsent: u64,
    pub(super) finished: Option<Instant>,
    /// Number of readers so far; only the last one reads.
    pub(super) readers: u64,
    pub(super) connected: bool,
    discarded: bool,
    pub(super) waker: Option<Waker>,
}

impl Stream {
    /// Returns a stream without events.
    pub fn new(id: u64) -> Rc<Stream> {
        Rc::new(Stream { id, inner: RefCell::default(), room: Notify::new() })
    }

    /// Appends a message. If the client is connected and does not read, waits until it does.
    pub async fn push(&self, data: Bytes) {
        loop {
            let room = self.room.notified();
            if self.inner.borrow_mut().make_room(data.len()) {
                self.push_now(None, data);
                return;
            }
            room.await;
        }
    }

    /// Appends an event without waiting.
    pub fn push_now(&self, name: Option<&'static str>, data: Bytes) {
        let mut inner = self.inner.borrow_mut();
        if inner.finished.is_some() {
            return;
        }
        let number = inner.next;
        inner.next += 1;
        inner.bytes += data.len();
        inner.events.push_back(Event { number, name, data });
        inner.wake();
    }

    /// Ends the stream after its last event.
    pub fn finish(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.finished.get_or_insert_with(Instant::now);
        inner.wake();
    }

    /// Returns whether the stream has ended.
    pub fn is_finished(&self) -> bool {
        self.inner.borrow().finished.is_some()
    }

    /// Returns whether a client reads the stream.
    pub fn is_connected(&self) -> bool {
        self.inner.borrow().connected
    }

    /// Ends a stream that nobody can resume, because its client was sent no event.
    pub fn discard(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.finished.get_or_insert_with(Instant::now);
        inner.discarded = true;
        inner.events.clear();
        inner.bytes = 0;
        inner.wake();
    }

    /// Returns the size of the events that are kept.
    pub fn size(&self) -> usize {
        self.inner.borrow().bytes
    }

    /// Returns whether nobody can resume the stream any more.
    pub fn is_over(&self) -> bool {
        let inner = self.inner.borrow();
        inner.discarded || (!inner.connected && inner.finished.is_some_and(|finished| finished.elapsed() > RESUMABLE))
    }

    /// Connects a client, and disconnects the one before. It is sent the events from a number on, or those that nobody was sent.
    pub fn connect(self: &Rc<Self>, from: Option<u64>) -> Reader {
        let mut inner = self.inner.borrow_mut();
        inner.readers += 1;
        inner.connected = true;
        if let Some(from) = from {
            inner.unsent = inner.next.min(from);
        }
        inner.wake();
        self.room.notify_waiters();
        Reader::new(self, inner.readers)
    }
}

impl Inner {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Returns whether there is room for an event. There always is for a client that is not connected.
    fn make_room(&mut self, size: usize) -> bool {
        let unsent = self.events.iter().rev().take_while(|event| event.number >= self.unsent);
        let (mut count, mut bytes) = (0, 0);
        for event in unsent {
            count += 1;
            bytes += event.data.len();
        }
        if self.connected {
            return count == 0 || (count < MOST_UNREAD.0 && bytes + size <= MOST_UNREAD.1);
        }
        while !self.events.is_empty() && (self.events.len() >= MOST_KEPT.0 || self.bytes + size > MOST_KEPT.1) {
            self.drop_first();
        }
        true
    }

    fn drop_first(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.bytes -= event.data.len();
        }
    }

    /// Drops the oldest events that were sent, but not the last one.
    pub(super) fn forget(&mut self) {
        while (self.events.len() > MOST_SENT.0 || self.bytes > MOST_SENT.1)
            && self.events.get(1).is_some_and(|second| second.number < self.unsent)
        {
            self.drop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn numbers(reader: &Reader, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            numbers.extend(reader.next().await.map(|event| event.number));
        }
        numbers
    }

    #[tokio::test]
    async fn a_stream_is_resumed_at_an_event() {
        let stream = Stream::new(1);
        for _ in 0..3 {
            stream.push(Bytes::from_static(b"x")).await;
        }
        let reader = stream.connect(None);
        assert_eq!(numbers(&reader, 3).await, [0, 1, 2]);
        drop(reader);
        stream.push(Bytes::from_static(b"y")).await;
        stream.finish();
        let reader = stream.connect(Some(2));
        assert_eq!(numbers(&reader, 3).await, [2, 3]);
        assert!(reader.next().await.is_none());
    }

    #[tokio::test]
    async fn only_the_last_reader_reads() {
        let stream = Stream::new(1);
        let first = stream.connect(None);
        let second = stream.connect(None);
        stream.push(Bytes::from_static(b"x")).await;
        assert!(first.next().await.is_none());
        drop(first);
        assert!(stream.is_connected());
        assert_eq!(numbers(&second, 1).await, [0]);
    }

    #[tokio::test]
    async fn a_server_waits_for_a_client_that_does_not_read() {
        let stream = Stream::new(1);
        let reader = stream.connect(None);
        let server = async {
            for _ in 0..200 {
                stream.push(Bytes::from_static(b"x")).await;
            }
        };
        tokio::pin!(server);
        tokio::select! {
            biased;
            () = &mut server => panic!("the server does not wait"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(stream.inner.borrow().events.len(), MOST_UNREAD.0);
        let client = numbers(&reader, 200);
        assert_eq!(tokio::join!(server, client).1.len(), 200);
    }

    #[tokio::test]
    async fn events_without_a_client_are_bounded() {
        let stream = Stream::new(1);
        for _ in 0..2000 {
            stream.push(Bytes::from_static(b"x")).await;
        }
        assert_eq!(stream.inner.borrow().events.len(), MOST_KEPT.0);
        for _ in 0..10 {
            stream.push(vec![0; 1 << 20].into()).await;
        }
        assert!(stream.inner.borrow().bytes <= MOST_KEPT.1);
        // One event of any size is kept.
        stream.push(vec![0; 10 << 20].into()).await;
        assert_eq!(stream.inner.borrow().events.len(), 1);
    }
}
