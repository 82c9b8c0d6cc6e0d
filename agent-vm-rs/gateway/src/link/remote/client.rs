//! Requests to a server.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::{proxy, tls};
use crate::policy::MCP;
use crate::report::reason;

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(30);
/// Maximal number of unused connections.
const MOST_UNUSED: usize = 4;

/// The body of a request.
pub struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, Bytes::len) as u64)
    }
}

/// A client of one server.
pub struct Client {
    url: Uri,
    unused: RefCell<Vec<SendRequest<Whole>>>,
}

/// A connection with a response; it can be used again once the response is read.
pub struct Answer {
    /// The response.
    pub response: Response<Incoming>,
    connection: SendRequest<Whole>,
}

impl Client {
    /// Returns a client of the server of a URL.
    pub fn new(url: &Uri) -> Client {
        Client { url: url.clone(), unused: RefCell::default() }
    }

    /// Sends a request, of which the URL has the client's host; returns the answer, or why there is none.
    pub async fn send(&self, mut request: Request<()>, body: Option<Bytes>) -> Result<Answer, String> {
        if let Some(host) = self.url.authority().and_then(|name| HeaderValue::from_str(name.as_str()).ok()) {
            request.headers_mut().insert(HOST, host);
        }
        let mut request = request.map(|()| Whole(body));
        let through = proxy::proxy_for(&self.url, |name| std::env::var(name).ok());
        if through.is_none() || self.is_https() {
            // Only a proxy wants the whole URL.
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            *request.uri_mut() = path.parse().map_err(|_| "its URL is not valid".to_owned())?;
        }
        loop {
            let unused = self.unused.borrow_mut().pop();
            let Some(mut connection) = unused else { break };
            if connection.ready().await.is_err() {
                continue;
            }
            match connection.try_send_request(request).await {
                Ok(response) => return Ok(Answer { response, connection }),
                Err(mut failed) => match failed.take_message() {
                    // The server has closed the connection before.
                    Some(unsent) => request = unsent,
                    None => return Err(failed.into_error().to_string()),
                },
            }
        }
        let mut connection = match timeout(CONNECT, self.connect(through)).await {
            Ok(connected) => connected.map_err(|error| reason(&error))?,
            Err(_) => return Err(format!("no connection within {} s", CONNECT.as_secs())),
        };
        let response = connection.send_request(request).await.map_err(|error| error.to_string())?;
        Ok(Answer { response, connection })
    }

    /// Reads the rest of an answer, and keeps its connection.
    pub async fn finish(&self, mut answer: Answer) -> Result<Bytes, String> {
        let mut whole = BytesMut::new();
        while let Some(bytes) = next(&mut answer.response).await? {
            if whole.len() + bytes.len() > MCP.longest_message {
                return Err("its answer is too long".to_owned());
            }
            whole.extend_from_slice(&bytes);
        }
        self.keep(answer);
        Ok(whole.freeze())
    }

    /// Keeps the connection of an answer that was read.
    pub fn keep(&self, answer: Answer) {
        let mut unused = self.unused.borrow_mut();
        if unused.len() < MOST_UNUSED {
            unused.push(answer.connection);
        }
    }

    fn is_https(&self) -> bool {
        self.url.scheme_str() == Some("https")
    }

    async fn connect(&self, through: Option<Uri>) -> io::Result<SendRequest<Whole>> {
        let host = self.url.host().unwrap_or_default();
        let port = self.url.port_u16().unwrap_or(if self.is_https() { 443 } else { 80 });
        let stream = match &through {
            None => TcpStream::connect((host.trim_matches(['[', ']']), port)).await?,
            Some(proxy) => {
                let name = proxy.host().unwrap_or_default().trim_matches(['[', ']']);
                let proxy_port = proxy.port_u16().unwrap_or(80);
                let mut stream = TcpStream::connect((name, proxy_port))
                    .await
                    .map_err(|error| io::Error::other(format!("proxy {name}:{proxy_port}: {error}")))?;
                if self.is_https() {
                    tunnel(&mut stream, host, port).await?;
                }
                stream
            }
        };
        stream.set_nodelay(true)?;
        if self.is_https() { speak(tls::wrap(stream, host).await?).await } else { speak(stream).await }
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> io::Result<SendRequest<Whole>> {
    let (connection, driver) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    spawn_local(async move {
        // The request that uses the connection reports its errors.
        let _ = driver.await;
    });
    Ok(connection)
}

/// Asks a proxy for a connection to a host.
async fn tunnel(stream: &mut TcpStream, host: &str, port: u16) -> io::Result<()> {
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let line = head.lines().next().unwrap_or_default();
    let status = line.split(' ').nth(1).unwrap_or_default();
    if status.starts_with('2') { Ok(()) } else { Err(io::Error::other(format!("the proxy refused it: {line}"))) }
}

/// Returns the next bytes of a response; None at its end.
pub async fn next(response: &mut Response<Incoming>) -> Result<Option<Bytes>, String> {
    loop {
        match poll_fn(|context| Pin::new(response.body_mut()).poll_frame(context)).await {
            None => return Ok(None),
            Some(Err(error)) => return Err(error.to_string()),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}
