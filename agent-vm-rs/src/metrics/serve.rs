//! Serves metrics over HTTP: one request a connection. Every account of this host can connect, so that there is a limit of
//! everything.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::event::PollFlags;

use super::exposition::Format;
use crate::host::interrupt::{self, Deadline};
use crate::term::error::Failure;

/// Interval at which a wait checks for signals.
const MOMENT: Duration = Duration::from_millis(100);
/// Where the metrics are.
const PATH: &str = "/metrics";
/// Largest number of connections at the same time. Others are closed.
const MOST: usize = 16;
/// Longest request, in bytes.
const LONGEST: usize = 16 << 10;
/// Largest number of a request's fields.
const FIELDS: usize = 64;
/// Time for a client to send its request, and again to take the answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Serves what `metrics` returns on an address of loopback, until a signal arrives. `listening` is called once it does.
///
/// # Errors
/// The address cannot be bound, or a signal arrived.
pub fn serve(
    address: SocketAddr,
    listening: impl FnOnce(SocketAddr),
    metrics: impl Fn(Format) -> Result<String> + Sync,
) -> Result<()> {
    let failed = || {
        Failure::new(format!("cannot serve metrics on {address}"))
            .with_hint("choose another port: agent-vm metrics --listen PORT")
    };
    let listener = TcpListener::bind(address).with_context(failed)?;
    listener.set_nonblocking(true).with_context(failed)?;
    listening(listener.local_addr().with_context(failed)?);
    let (open, turn) = (AtomicUsize::new(0), Mutex::new(()));
    // One after the other: each asks the machines.
    let metrics = |format| {
        // It guards no data that a thread which panicked could have left damaged.
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        metrics(format)
    };
    std::thread::scope(|scope| {
        loop {
            interrupt::check()?;
            match listener.accept() {
                Ok((client, _)) if open.load(Ordering::Relaxed) < MOST => {
                    open.fetch_add(1, Ordering::Relaxed);
                    let place = Place(&open);
                    scope.spawn(|| {
                        let _place = place;
                        if let Err(error) = answer(client, &metrics) {
                            tracing::info!("a client did not wait for the metrics: {error}");
                        }
                    });
                }
                Ok(_) => tracing::info!("more than {MOST} clients read the metrics at the same time"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    interrupt::wait_for(&listener, PollFlags::IN, MOMENT);
                }
                Err(error) => {
                    tracing::warn!("failed to accept a connection: {error}");
                    interrupt::pause(MOMENT)?;
                }
            }
        }
    })
}

/// One of the connections at the same time, also of a thread that panics.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads a request and answers it.
fn answer(mut client: TcpStream, metrics: &impl Fn(Format) -> Result<String>) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(MOMENT))?;
    client.set_write_timeout(Some(MOMENT))?;
    let request = match request(&mut client)? {
        Ok(request) => request,
        Err(status) => {
            let text = "the request is damaged or too long\n";
            return send(&mut client, response(status, Format::Prometheus, text, false).as_bytes());
        }
    };
    let Request { method, target, host, accept } = &request;
    let format = Format::accepted(accept);
    let refused = |status, text: &str| (status, Format::Prometheus, text.to_owned());
    let (status, kind, text) = if !is_meant(host) {
        refused(403, "this server has another name\n")
    } else if !["GET", "HEAD"].contains(&method.as_str()) {
        refused(405, "only GET is answered\n")
    } else if target.split('?').next() != Some(PATH) {
        refused(404, &format!("the metrics are at {PATH}\n"))
    } else {
        // A scrape that fails shows that something is wrong.
        metrics(format).map_or_else(
            |error| {
                tracing::warn!("{error:#}");
                refused(500, "the metrics cannot be read; the log of agent-vm says why\n")
            },
            |text| (200, format, text),
        )
    };
    send(&mut client, response(status, kind, &text, method == "HEAD").as_bytes())
}

fn response(status: u16, kind: Format, text: &str, is_head: bool) -> String {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        _ => "Internal Server Error",
    };
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
        kind.media_type(),
        text.len(),
        if is_head { "" } else { text }
    )
}

/// What counts of a request.
struct Request {
    method: String,
    target: String,
    host: String,
    accept: String,
}

/// Reads a request, or returns the status that refuses it.
fn request(client: &mut TcpStream) -> io::Result<Result<Request, u16>> {
    let deadline = Deadline::after(LIMIT);
    let mut bytes = Vec::new();
    let mut buffer = [0; 2048];
    while bytes.len() < LONGEST {
        let read = patiently(deadline, || client.read(&mut buffer))?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..read]);
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut parsed = httparse::Request::new(&mut fields);
        match parsed.parse(&bytes) {
            Ok(httparse::Status::Partial) => {}
            Ok(httparse::Status::Complete(_)) => return Ok(Ok(Request::of(&parsed))),
            Err(httparse::Error::TooManyHeaders) => return Ok(Err(431)),
            Err(_) => return Ok(Err(400)),
        }
    }
    Ok(Err(431))
}

impl Request {
    fn of(parsed: &httparse::Request<'_, '_>) -> Self {
        let value = |wanted: &str| {
            let found = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case(wanted));
            found.map_or_else(String::new, |field| String::from_utf8_lossy(field.value).trim().to_owned())
        };
        Self {
            method: parsed.method.unwrap_or_default().to_owned(),
            target: parsed.path.unwrap_or_default().to_owned(),
            host: value("Host"),
            accept: value("Accept"),
        }
    }
}

fn send(client: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    let deadline = Deadline::after(LIMIT);
    while !bytes.is_empty() {
        let written = patiently(deadline, || client.write(bytes))?;
        bytes = &bytes[written..];
    }
    client.shutdown(Shutdown::Write)?;
    // An end with data that was not read would discard the answer.
    let mut rest = [0; LONGEST];
    while let Ok(1..) = client.read(&mut rest) {
        if deadline.passed() {
            break;
        }
    }
    Ok(())
}

/// Repeats a call that takes a moment at most, until it has done something. One that does a byte at a time ends at the deadline, too.
fn patiently(deadline: Deadline, mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        if interrupt::check().is_err() {
            return Err(ErrorKind::Interrupted.into());
        }
        if deadline.passed() {
            return Err(ErrorKind::TimedOut.into());
        }
        match call() {
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            done => return done,
        }
    }
}

/// Checks that a request names this host: a web page that a browser loaded under another name must not read the metrics.
fn is_meant(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_of_loopback_are_refused() {
        for host in ["localhost", "LocalHost:9477", "127.0.0.1:9477", "[::1]:9477"] {
            assert!(is_meant(host), "{host}");
        }
        for host in ["", "evil.test", "evil.test:9477", "127.0.0.1.evil.test"] {
            assert!(!is_meant(host), "{host}");
        }
    }

    /// Returns the body of the answer to a request; empty if the connection ends without one.
    fn body(address: SocketAddr) -> String {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned())
    }

    #[test]
    fn a_scrape_that_panics_spoils_no_later_one() {
        let (calls, limit) = (AtomicUsize::new(0), 2 * MOST);
        let (send, receive) = std::sync::mpsc::channel();
        let scrape = move |_| {
            assert!(calls.fetch_add(1, Ordering::Relaxed) >= limit, "one of the first scrapes");
            Ok("good 1\n".to_owned())
        };
        // It ends with the test's process.
        std::thread::spawn(move || {
            serve(SocketAddr::from(([127, 0, 0, 1], 0)), |address| send.send(address).unwrap(), scrape)
        });
        let address = receive.recv().unwrap();
        for _ in 0..limit {
            assert_eq!(body(address), "");
        }
        assert_eq!((body(address), body(address)), ("good 1\n".to_owned(), "good 1\n".to_owned()));
    }
}
