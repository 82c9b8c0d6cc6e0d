//! The stream of the messages that a server sends by itself.

use std::io::BufReader;
use std::time::Duration;

use super::carrier::Carrier;
use super::exchange::{content_type, with_headers};
use super::message::{Message, longest};
use super::session::Current;
use super::sse::Events;
use crate::host::interrupt::{Deadline, pause};
use crate::term::progress::note;

/// Pauses between attempts to open the stream of the server's own messages, in seconds. The last one is repeated.
const PAUSES: [u64; 5] = [1, 2, 5, 15, 30];

impl Carrier {
    /// Passes on the messages that the server sends by itself, if it does.
    pub(super) fn listen(&self) {
        let mut tries = 0;
        loop {
            let current = self.session.current();
            match self.receive(&current) {
                Stream::None => return,
                Stream::NoSession => {
                    if self.begin_again(current.age, self.link.deadline()).is_ok() {
                        continue;
                    }
                }
                Stream::Ended { received: true } => tries = 0,
                Stream::Ended { received: false } => {
                    // The machine may have restarted on another port. An idle client does not start it.
                    drop(self.link.find_again(false, Deadline::after(Duration::ZERO)));
                }
            }
            if pause(Duration::from_secs(PAUSES[tries])).is_err() {
                return;
            }
            tries = (tries + 1).min(PAUSES.len() - 1);
        }
    }

    /// Reads one stream of the server's own messages.
    fn receive(&self, current: &Current) -> Stream {
        let mut lease = self.link.lease();
        lease.discard();
        let request = with_headers(lease.get(self.link.path()), &current.headers).header("Accept", "text/event-stream");
        let Ok(answer) = request.call() else { return Stream::Ended { received: false } };
        let is_stream = content_type(answer.headers()) == "text/event-stream";
        match answer.status() {
            status if status.is_success() && is_stream => {}
            status if status.as_u16() == 404 && current.has_id() => return Stream::NoSession,
            status if status.is_server_error() => return Stream::Ended { received: false },
            _ => return Stream::None,
        }
        let mut events = Events::new(BufReader::new(answer.into_body().into_reader()), longest());
        let mut received = false;
        while let Ok(Some(data)) = events.next_data() {
            received = true;
            match Message::parse(&data) {
                Ok(message) => self.output.send(&message),
                Err(_) => note("warning: ignored an invalid message from the machine"),
            }
        }
        Stream::Ended { received }
    }
}

/// How a stream of the server's own messages went.
enum Stream {
    /// The server offers none.
    None,
    /// The machine does not know the session.
    NoSession,
    /// It ended.
    Ended { received: bool },
}
