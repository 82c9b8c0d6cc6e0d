//! A queue between two tasks, bounded by the number and the size of its items.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use tokio::sync::Notify;

/// A bounded queue. All tasks run on one thread.
pub struct Queue<T> {
    items: RefCell<VecDeque<(T, usize)>>,
    bytes: Cell<usize>,
    closed: Cell<bool>,
    most: usize,
    most_bytes: usize,
    filled: Notify,
    emptied: Notify,
}

impl<T> Queue<T> {
    /// Returns an empty queue. An item of any size fits into an empty queue.
    pub fn new(most: usize, most_bytes: usize) -> Queue<T> {
        Queue {
            items: RefCell::default(),
            bytes: Cell::new(0),
            closed: Cell::new(false),
            most,
            most_bytes,
            filled: Notify::new(),
            emptied: Notify::new(),
        }
    }

    /// Appends an item; returns it if there is no room, or if the queue is closed.
    pub fn try_push(&self, item: T, size: usize) -> Result<(), T> {
        if self.closed.get() || !self.has_room(size) {
            return Err(item);
        }
        self.bytes.set(self.bytes.get() + size);
        self.items.borrow_mut().push_back((item, size));
        self.filled.notify_one();
        Ok(())
    }

    /// Appends an item once there is room; returns whether the queue was open.
    pub async fn push(&self, item: T, size: usize) -> bool {
        let mut item = item;
        loop {
            let emptied = self.emptied.notified();
            match self.try_push(item, size) {
                Ok(()) => return true,
                Err(_) if self.closed.get() => return false,
                Err(back) => item = back,
            }
            emptied.await;
        }
    }

    /// Removes the first item; returns None once the queue is closed and empty.
    pub async fn pop(&self) -> Option<T> {
        loop {
            if let Some(item) = self.try_pop() {
                return Some(item);
            }
            if self.closed.get() {
                return None;
            }
            self.filled.notified().await;
        }
    }

    /// Removes the first item, if there is one.
    pub fn try_pop(&self) -> Option<T> {
        let (item, size) = self.items.borrow_mut().pop_front()?;
        self.bytes.set(self.bytes.get() - size);
        self.emptied.notify_waiters();
        Some(item)
    }

    /// Refuses further items.
    pub fn close(&self) {
        self.closed.set(true);
        self.filled.notify_one();
        self.emptied.notify_waiters();
    }

    /// Refuses further items, and drops those that are there.
    pub fn abandon(&self) {
        self.close();
        while self.try_pop().is_some() {}
    }

    fn has_room(&self, size: usize) -> bool {
        let items = self.items.borrow();
        items.is_empty() || (items.len() < self.most && self.bytes.get() + size <= self.most_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn items_come_in_order_and_room_is_bounded() {
        let queue = Queue::new(2, 10);
        assert!(queue.push(1, 100).await);
        assert_eq!(queue.try_push(2, 1), Err(2));
        assert_eq!(queue.pop().await, Some(1));
        assert!(queue.push(3, 5).await && queue.push(4, 5).await);
        assert_eq!(queue.try_push(5, 0), Err(5));
        let (pushed, popped) = tokio::join!(queue.push(6, 1), async {
            tokio::task::yield_now().await;
            queue.pop().await
        });
        assert_eq!((pushed, popped), (true, Some(3)));
        queue.close();
        assert!(!queue.push(7, 1).await);
        assert_eq!((queue.pop().await, queue.pop().await, queue.pop().await), (Some(4), Some(6), None));
    }
}
