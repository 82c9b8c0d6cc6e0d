//! Parses server-sent events: the data of each event; MCP uses nothing else.

use std::io::{self, BufRead, Read as _};

/// Parses the events of a stream.
pub struct Events<R> {
    stream: R,
    longest: usize,
}

impl<R: BufRead> Events<R> {
    /// Returns a parser that accepts events of up to `longest` bytes.
    pub fn new(stream: R, longest: usize) -> Self {
        Self { stream, longest }
    }

    /// Returns the data of the next event that has data; None at the end of the stream. An unfinished last event is
    /// ignored.
    ///
    /// # Errors
    /// Reading fails, or an event is too long.
    pub fn next_data(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut data: Option<Vec<u8>> = None;
        loop {
            let held = data.as_ref().map_or(0, Vec::len);
            let Some(line) = self.line(self.longest.saturating_sub(held))? else { return Ok(None) };
            if line.is_empty() {
                match data.take() {
                    Some(data) if !data.is_empty() => return Ok(Some(data)),
                    _ => continue,
                }
            }
            let Some(value) = line.strip_prefix(b"data:") else { continue };
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &mut data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => data = Some(value.to_vec()),
            }
            if data.as_ref().is_some_and(|data| data.len() > self.longest) {
                return Err(io::Error::other("an event is too long"));
            }
        }
    }

    /// Returns the next line without its LF or CR LF.
    fn line(&mut self, left: usize) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        // Room for the field's name and the end of the line.
        let limit = left as u64 + 16;
        self.stream.by_ref().take(limit).read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            if line.len() as u64 == limit {
                return Err(io::Error::other("an event is too long"));
            }
            return Ok(None);
        }
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Vec<String> {
        let mut events = Events::new(text.as_bytes(), 20);
        std::iter::from_fn(|| events.next_data().unwrap()).map(|data| String::from_utf8(data).unwrap()).collect()
    }

    #[test]
    fn data_is_all_that_counts() {
        assert_eq!(events("event: message\nid: 7\ndata: one\n\n: comment\n\ndata:two\r\n\r\n"), ["one", "two"]);
        assert_eq!(events("data: a\ndata: b\n\ndata:\n\nretry: 5\n\n"), ["a\nb"]);
        // An event counts only once its blank line has arrived.
        assert_eq!(events("data: cut"), [""; 0]);
        assert_eq!(events("data: whole\n\ndata: cut\n"), ["whole"]);
    }

    #[test]
    fn events_are_bounded() {
        for text in ["x".repeat(100), format!("data: {}\n\n", "x".repeat(60)), "data: 12345678\n".repeat(9)] {
            assert!(Events::new(text.as_bytes(), 20).next_data().is_err(), "{text:.30}");
        }
    }
}
