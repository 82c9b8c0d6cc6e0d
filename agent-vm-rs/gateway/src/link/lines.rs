//! Reads lines of limited length.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// How much is read at once.
const CHUNK: usize = 1 << 15;

/// A line that was read.
pub enum Line {
    /// A line without its end.
    Whole(Bytes),
    /// The start of a line that is longer than the limit.
    Long(Bytes),
}

/// The lines of a stream.
pub struct Lines<R> {
    reader: R,
    buffer: BytesMut,
    /// How much of the buffer contains no line's end.
    searched: usize,
    longest: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Returns the lines of a stream, each at most `longest` bytes.
    pub fn new(reader: R, longest: usize) -> Lines<R> {
        Lines { reader, buffer: BytesMut::new(), searched: 0, longest }
    }

    /// Returns the next line; None at the end or on an error.
    pub async fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(place) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
                let mut line = self.buffer.split_to(self.searched + place + 1);
                line.truncate(line.len() - 1);
                self.searched = 0;
                let long = line.len() > self.longest;
                return Some(if long { Line::Long(line.freeze()) } else { Line::Whole(line.freeze()) });
            }
            self.searched = self.buffer.len();
            if self.searched >= self.longest {
                self.searched = 0;
                return Some(Line::Long(self.buffer.split().freeze()));
            }
            if self.buffer.is_empty() {
                // The memory of a long line is not kept.
                self.buffer = BytesMut::new();
            }
            self.buffer.reserve(CHUNK);
            match self.reader.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) if self.buffer.is_empty() => return None,
                Ok(0) | Err(_) => {
                    self.searched = 0;
                    return Some(Line::Whole(self.buffer.split().freeze()));
                }
                Ok(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_split_and_limited() {
        let text = "one\n\ntwo\nlonger than ten\nlast".as_bytes();
        let mut lines = Lines::new(tokio::io::BufReader::with_capacity(3, text), 10);
        let mut read = Vec::new();
        while let Some(line) = lines.next().await {
            match line {
                Line::Whole(line) => read.push(String::from_utf8(line.to_vec()).unwrap()),
                Line::Long(line) => read.push(format!("{}…", String::from_utf8(line.to_vec()).unwrap())),
            }
        }
        assert_eq!(read[..3], ["one", "", "two"]);
        assert!(read[3].ends_with('…') && read[3].len() >= 10);
        assert_eq!(read.concat().replace('…', ""), "onetwolonger than tenlast");
    }
}
