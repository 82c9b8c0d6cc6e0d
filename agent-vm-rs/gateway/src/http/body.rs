//! Bodies of requests and responses.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as HyperBody, Frame, Incoming, SizeHint};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::policy::MCP;
use crate::session::{Event, Reader};

/// Time after which a comment is sent on a silent stream, so that nobody takes the connection for dead.
const SILENCE: Duration = Duration::from_secs(20);
/// Size of a message from which on its bytes are not copied into those of its event.
const LARGE: usize = 1 << 14;

/// The body of a response.
pub enum Body {
    /// These bytes.
    Whole(Option<Bytes>),
    /// A stream of events.
    Events(Box<Events>),
}

/// A stream of events, as the client reads it.
pub struct Events {
    reader: Reader,
    /// Whether events have identities, by which the stream can be resumed.
    resumable: bool,
    ready: VecDeque<Bytes>,
    silence: Pin<Box<Sleep>>,
    /// Called when the client no longer reads.
    end: Option<Box<dyn FnOnce()>>,
}

impl Body {
    /// Returns a body of these bytes.
    pub fn whole(bytes: impl Into<Bytes>) -> Body {
        Body::Whole(Some(bytes.into()))
    }

    /// Returns an empty body.
    pub fn empty() -> Body {
        Body::Whole(None)
    }

    /// Returns a body of a stream's events. `prime` sends an identity at once, by which a client can resume the stream.
    pub fn events(reader: Reader, resumable: bool, prime: bool) -> Body {
        let mut ready = VecDeque::new();
        if prime {
            ready.push_back(Bytes::from(format!("id: {}-0\ndata: \n\n", reader.stream().id)));
        }
        Body::Events(Box::new(Events { reader, resumable, ready, silence: Box::pin(sleep(SILENCE)), end: None }))
    }

    /// Returns the body with a function that is called when the client no longer reads it.
    pub fn at_end(mut self, function: impl FnOnce() + 'static) -> Body {
        if let Body::Events(events) = &mut self {
            events.end = Some(Box::new(function));
        }
        self
    }
}

impl Events {
    fn poll(&mut self, context: &mut Context) -> Poll<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                self.silence.as_mut().reset(Instant::now() + SILENCE);
                return Poll::Ready(Some(bytes));
            }
            match self.reader.poll_next(context) {
                Poll::Ready(Some(event)) => self.queue(&event),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => match self.silence.as_mut().poll(context) {
                    Poll::Ready(()) => self.ready.push_back(Bytes::from_static(b": still here\n\n")),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    fn queue(&mut self, event: &Event) {
        let id = if self.resumable {
            format!("id: {}-{}\n", self.reader.stream().id, event.number + 1)
        } else {
            String::new()
        };
        let head = format!("{id}event: {}\ndata: ", event.name.unwrap_or("message"));
        if event.data.len() >= LARGE {
            self.ready.extend([Bytes::from(head), event.data.clone(), Bytes::from_static(b"\n\n")]);
            return;
        }
        let mut whole = BytesMut::with_capacity(head.len() + event.data.len() + 2);
        whole.extend_from_slice(head.as_bytes());
        whole.extend_from_slice(&event.data);
        whole.extend_from_slice(b"\n\n");
        self.ready.push_back(whole.freeze());
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
    }
}

impl HyperBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match self.get_mut() {
            Body::Whole(bytes) => Poll::Ready(bytes.take()),
            Body::Events(events) => events.poll(context),
        };
        bytes.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Body::Events(_) => SizeHint::default(),
        }
    }
}

/// Time for the next piece of a body.
const NEXT_PIECE: Duration = Duration::from_secs(120);
/// Size up to which any number of bodies is read at once.
const SMALL: usize = 1 << 20;
/// How many larger ones are read at once.
static LARGE_BODIES: Semaphore = Semaphore::const_new(8);

/// Why a body was not read.
pub enum Unread {
    /// It is longer than a message may be.
    TooLong,
    /// The client did not send all of it.
    Broken,
}

/// Reads the body of a request.
pub async fn read(mut body: Incoming) -> Result<Bytes, Unread> {
    let longest = MCP.longest_message;
    if body.size_hint().lower() > longest as u64 {
        return Err(Unread::TooLong);
    }
    let mut whole = BytesMut::new();
    let mut permit = None;
    loop {
        let frame = timeout(NEXT_PIECE, poll_fn(|context| Pin::new(&mut body).poll_frame(context)));
        let frame = match frame.await {
            Err(_) => return Err(Unread::Broken),
            Ok(None) => break,
            Ok(Some(frame)) => frame,
        };
        let Ok(frame) = frame else { return Err(Unread::Broken) };
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > longest {
            return Err(Unread::TooLong);
        }
        whole.extend_from_slice(&data);
        if whole.len() > SMALL && permit.is_none() {
            permit = LARGE_BODIES.acquire().await.ok();
        }
    }
    Ok(whole.freeze())
}
