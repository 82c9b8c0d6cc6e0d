//! The client's end: one line for each message, whole, whichever thread writes it.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::message::Message;
use crate::term::text::one_line;

/// Where messages for the client go.
pub struct Output {
    writer: Mutex<Box<dyn Write + Send>>,
    closed: AtomicBool,
}

impl Output {
    /// Writes to `writer`.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self { writer: Mutex::new(Box::new(writer)), closed: AtomicBool::new(false) }
    }

    /// Whether nobody reads any more.
    pub fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Gives the client a message.
    pub(super) fn send(&self, message: &Message) {
        // A thread that panicked has written a whole line or is no reason to lose this one.
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

    /// Gives the client an error as the answer to a request, whose id is this text.
    pub(super) fn error(&self, id: &str, code: i32, text: &str) {
        self.send(&Message::error(id, code, &one_line(text)));
    }
}
