//! A client of HTTP that reads events one by one.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// Time for anything that a test expects.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A response whose body is read piece by piece.
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    reader: BufReader<TcpStream>,
    chunked: bool,
    left: usize,
    bytes: Vec<u8>,
    text: String,
}

/// Sends a request and reads the response's headers.
pub fn send(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    if !headers.iter().any(|(name, _)| *name == "content-length") {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{line:?}"));
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut response =
        Response { status, headers, reader, chunked: false, left: 0, bytes: Vec::new(), text: String::new() };
    response.chunked = response.header("transfer-encoding") == Some("chunked");
    response.left = response.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    response
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn is_events(&self) -> bool {
        self.header("content-type") == Some("text/event-stream")
    }

    /// Returns the next piece of the body; None at its end.
    fn piece(&mut self) -> Option<Vec<u8>> {
        if self.chunked {
            let mut line = String::new();
            self.reader.read_line(&mut line).unwrap();
            let size = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
            let mut piece = vec![0; size + 2];
            self.reader.read_exact(&mut piece).ok()?;
            piece.truncate(size);
            return (size > 0).then_some(piece);
        }
        let mut piece = vec![0; self.left];
        self.left = 0;
        self.reader.read_exact(&mut piece).unwrap();
        (!piece.is_empty()).then_some(piece)
    }

    /// Returns the whole body.
    pub fn body(mut self) -> String {
        while let Some(piece) = self.piece() {
            self.bytes.extend(piece);
        }
        String::from_utf8(self.bytes).unwrap()
    }

    /// Returns the next event as its identity, its name and its data; None at the end of the stream.
    pub fn event(&mut self) -> Option<(Option<String>, String, String)> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let (mut id, mut name, mut data) = (None, "message".to_owned(), None);
                for line in event.lines() {
                    match line.split_once(':').map(|(field, value)| (field, value.trim_start())) {
                        Some(("id", value)) => id = Some(value.to_owned()),
                        Some(("event", value)) => name = value.to_owned(),
                        Some(("data", value)) => data = Some(value.to_owned()),
                        _ => {}
                    }
                }
                self.text = rest.to_owned();
                if let Some(data) = data {
                    return Some((id, name, data));
                }
            }
            let piece = self.piece()?;
            // A piece may end within a character.
            self.bytes.extend(piece);
            let valid = match std::str::from_utf8(&self.bytes) {
                Ok(text) => text.len(),
                Err(error) => error.valid_up_to(),
            };
            self.text += std::str::from_utf8(&self.bytes[..valid]).unwrap();
            self.bytes.drain(..valid);
        }
    }

    /// Returns the next message, whether it is an event or the body; None at the end.
    pub fn message(&mut self) -> Option<Value> {
        if !self.is_events() {
            let text = String::from_utf8(self.piece()?).unwrap();
            return Some(serde_json::from_str(&text).unwrap());
        }
        loop {
            let (_, _, data) = self.event()?;
            if !data.is_empty() {
                return Some(serde_json::from_str(&data).unwrap());
            }
        }
    }

    /// Returns all messages.
    pub fn messages(mut self) -> Vec<Value> {
        let mut messages = Vec::new();
        while let Some(message) = self.message() {
            messages.push(message);
        }
        messages
    }

    /// Returns the last message.
    pub fn answer(self) -> Value {
        self.messages().pop().expect("there is no message")
    }
}
