//! Reads a stream of events.

use bytes::{Bytes, BytesMut};

use crate::policy::MCP;

/// An event.
#[derive(Debug, Default, PartialEq)]
pub struct Event {
    /// Its name; `message` if it has none.
    pub name: String,
    /// Its identity.
    pub id: Option<String>,
    /// Its text.
    pub data: Bytes,
}

/// The events of a stream, from its bytes.
#[derive(Default)]
pub struct Events {
    buffer: BytesMut,
    searched: usize,
    name: String,
    id: Option<String>,
    data: Option<BytesMut>,
}

/// An event or a line is longer than a message may be.
#[derive(Debug, PartialEq)]
pub struct TooLong;

impl Events {
    /// Takes bytes; returns the events that they complete.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        self.buffer.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(place) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
            let mut line = self.buffer.split_to(self.searched + place + 1);
            self.searched = 0;
            line.truncate(line.len() - 1);
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            events.extend(self.line(&line)?);
        }
        self.searched = self.buffer.len();
        if self.searched > MCP.longest_message { Err(TooLong) } else { Ok(events) }
    }

    /// Returns the identity of the last event, by which the stream is resumed.
    pub fn last_id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Event>, TooLong> {
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let Some(data) = self.data.take() else { return Ok(None) };
            let name = if name.is_empty() { "message".to_owned() } else { name };
            return Ok(Some(Event { name, id: self.id.clone(), data: data.freeze() }));
        }
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            b"id" if !value.contains(&0) => self.id = Some(String::from_utf8_lossy(value).into_owned()),
            b"data" => {
                if let Some(data) = &mut self.data {
                    data.extend_from_slice(b"\n");
                    data.extend_from_slice(value);
                } else {
                    self.data = Some(BytesMut::from(value));
                }
                if self.data.as_ref().is_some_and(|data| data.len() > MCP.longest_message) {
                    return Err(TooLong);
                }
            }
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_in_any_pieces() {
        let text = "\u{feff}: comment\r\nevent: endpoint\r\ndata: /x\r\n\r\nid: 7\ndata: a\ndata:b\n\n: x\n\nretry: 5\n\ndata:\n\n";
        for size in 1..text.len() {
            let mut events = Events::default();
            let mut read = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                read.extend(events.take(piece).unwrap());
            }
            let texts: Vec<_> = read.iter().map(|event| (event.name.as_str(), &event.data[..])).collect();
            assert_eq!(texts, [("endpoint", &b"/x"[..]), ("message", b"a\nb"), ("message", b"")]);
            assert_eq!(events.last_id(), Some("7"));
        }
    }
}
