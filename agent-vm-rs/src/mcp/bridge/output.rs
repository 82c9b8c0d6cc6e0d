//! Writes messages to the client, one per line. Several threads share it.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::message::Message;
use crate::term::text::one_line;

/// The client's end of the bridge.
pub struct Output {
    writer: Mutex<Box<dyn Write + Send>>,
    closed: AtomicBool,
}

impl Output {
    /// Returns an output that writes to `writer`.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self { writer: Mutex::new(Box::new(writer)), closed: AtomicBool::new(false) }
    }

    /// Returns whether the client has closed its end.
    pub fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
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
