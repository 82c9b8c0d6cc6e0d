//! Writes messages to the client, one per line. Several threads share it.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::message::Message;
use crate::term::text::one_line;

/// The client's end of the bridge.
pub struct Output {
    writer: Mutex<Box<dyn Write + Send>>,
    descriptor: OwnedFd,
    closed: AtomicBool,
}

impl Output {
    /// Returns an output that writes to `writer`.
    ///
    /// # Errors
    /// The writer's descriptor cannot be copied.
    pub fn new(writer: impl Write + AsFd + Send + 'static) -> Result<Self> {
        let descriptor = writer.as_fd().try_clone_to_owned().context("failed to watch the client's end")?;
        Ok(Self { writer: Mutex::new(Box::new(writer)), descriptor, closed: AtomicBool::new(false) })
    }

    /// Returns whether the client has closed its end.
    pub fn closed(&self) -> bool {
        let hung_up = || {
            let mut watched = [PollFd::new(&self.descriptor, PollFlags::empty())];
            let none = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut watched, Some(&none)).is_ok_and(|count| count > 0)
        };
        self.closed.load(Ordering::Relaxed) || hung_up()
    }

    /// Sends a message to the client.
    pub(super) fn send(&self, message: &Message) {
        // Even if another thread panicked, every message is one whole line.
        let mut writer = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if writer
            .write_all(message.line().as_bytes())
            .and_then(|()| writer.write_all(b"\n"))
            .and_then(|()| writer.flush())
            .is_err()
        {
            self.closed.store(true, Ordering::Relaxed);
        }
    }

    /// Answers a request with an error. `id` is the text of the request's id.
    pub(super) fn error(&self, id: &str, code: i32, text: &str) {
        self.send(&Message::error(id, code, &one_line(text)));
    }
}
