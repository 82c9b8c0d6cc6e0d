//! Pointer files: <https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>.

use std::fs::File;
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use sha2::{Digest as _, Sha256};

use crate::host::hex::hex;
use crate::host::interrupt;

/// Path of the store of contents in a git directory.
pub const DIRECTORY: &str = "lfs/objects";
/// Largest pointer file, in bytes; the limit of the specification.
pub const MAX_POINTER: u64 = 1024;
/// The first line of a pointer file.
const VERSION: &str = "version https://git-lfs.github.com/spec/v1";

/// Names of Git LFS, one of which a pointer file contains.
const NAMES: [&str; 3] = ["git-lfs", "hawser", "git-media"];

/// A parsed pointer file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer {
    /// SHA-256 of the contents, as 64 hexadecimal digits.
    oid: String,
    /// Size of the contents, in bytes.
    pub size: u64,
}

impl Pointer {
    /// Parses a pointer file: a version line, then lines of a key and a value. None for contents that an extension of Git LFS
    /// has changed: they are not those of the file.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.lines();
        if lines.next() != Some(VERSION) || lines.any(|line| line.starts_with("ext-")) {
            return None;
        }
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        Self::new(value("oid")?.strip_prefix("sha256:")?, value("size")?.parse().ok()?)
    }

    /// Parses everything that some version of Git LFS takes for a pointer file, and more: any text with its name, a hash and a
    /// size.
    pub fn parse_any(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let value = |key: &str| text.lines().find_map(|line| line.trim().strip_prefix(key));
        NAMES.iter().find(|name| text.contains(**name))?;
        Self::new(value("oid sha256:")?, value("size ")?.trim().parse().ok()?)
    }

    /// Returns the pointer to contents of this hash and size; None if it is no hash.
    pub fn new(oid: &str, size: u64) -> Option<Self> {
        let is_hash = oid.len() == 64 && oid.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        is_hash.then(|| Self { oid: oid.to_owned(), size })
    }

    /// Returns the pointer to the contents of a file. `read` is called for each part that was read.
    ///
    /// # Errors
    /// The file cannot be read, `read` fails, or a signal arrived.
    pub fn to(file: &File, mut read: impl FnMut() -> Result<()>) -> Result<Self> {
        let (mut hash, mut buffer, mut size, mut file) = (Sha256::new(), vec![0; 1 << 20], 0, file);
        loop {
            interrupt::check()?;
            read()?;
            match file.read(&mut buffer)? {
                0 => return Ok(Self { oid: hex(&hash.finalize()), size }),
                length => {
                    hash.update(&buffer[..length]);
                    size += length as u64;
                }
            }
        }
    }

    /// Returns the pointer file, as Git LFS writes it.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{VERSION}\noid sha256:{}\nsize {}\n", self.oid, self.size)
    }

    /// Returns the path of the contents in a git directory.
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.oid[..2]).join(&self.oid[2..4]).join(&self.oid)
    }

    /// Copies a file to `to` while it is what the pointer names, and returns whether it is.
    ///
    /// # Errors
    /// The file cannot be read, `to` cannot be written, or a signal arrived.
    pub fn copy(&self, from: &File, to: &mut impl Write) -> Result<bool> {
        let (mut hash, mut buffer, mut size) = (Sha256::new(), vec![0; 1 << 20], 0);
        // One byte more than expected shows that the file is larger.
        let mut from = from.take(self.size.saturating_add(1));
        loop {
            interrupt::check()?;
            let read = from.read(&mut buffer)?;
            if read == 0 {
                return Ok(size == self.size && hex(&hash.finalize()) == self.oid);
            }
            hash.update(&buffer[..read]);
            to.write_all(&buffer[..read])?;
            size += read as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;

    use super::*;

    #[test]
    fn pointers_are_distinguished_from_other_files() {
        let oid = "0123456789abcdef".repeat(4);
        let text = format!("{VERSION}\noid sha256:{oid}\nsize 12\n");
        let pointer = Pointer::parse(text.as_bytes()).unwrap();
        assert_eq!(pointer, Pointer { oid: oid.clone(), size: 12 });
        assert_eq!(pointer.path(), Path::new("lfs/objects/01/23").join(&oid));
        for other in [
            "",
            "contents",
            VERSION,
            &format!("{VERSION}\noid sha256:../../x\nsize 1\n"),
            &format!("{VERSION}\noid sha256:{oid}\nsize x\n"),
            &format!("oid sha256:{oid}\nsize 1\n"),
            &format!("{VERSION}\next-0-x sha256:{oid}\noid sha256:{oid}\nsize 12\n"),
        ] {
            assert_eq!(Pointer::parse(other.as_bytes()), None, "{other:?}");
        }
        for any in [
            text.clone(),
            format!("\n \n{text}"),
            text.replace('\n', "\r\n"),
            format!("version http://git-media.io/v/2\next-0-x sha256:{oid}\n\noid sha256:{oid}\nsize +12\n"),
        ] {
            assert_eq!(Pointer::parse_any(any.as_bytes()).unwrap().size, 12, "{any:?}");
        }
        assert_eq!(Pointer::parse_any(format!("oid sha256:{oid}\nsize 12\n").as_bytes()), None);
    }

    #[test]
    fn a_pointer_is_made_of_contents() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"contents\n").unwrap();
        file.rewind().unwrap();
        let pointer = Pointer::to(&file, || Ok(())).unwrap();
        assert_eq!((pointer.size, &pointer.oid[..8]), (9, "bfe5ed57"));
        assert_eq!(Pointer::parse(pointer.text().as_bytes()), Some(pointer));
        file.rewind().unwrap();
        assert!(Pointer::to(&file, || anyhow::bail!("late")).is_err());
    }

    #[test]
    fn only_the_named_contents_are_copied() {
        let dir = tempfile::tempdir().unwrap();
        let oid = hex(&Sha256::digest(b"contents"));
        let pointer = Pointer { oid, size: 8 };
        for (written, is_it) in [("contents", true), ("content", false), ("contents ", false), ("CONTENTS", false)] {
            let path = dir.path().join("file");
            std::fs::write(&path, written).unwrap();
            assert_eq!(pointer.copy(&File::open(&path).unwrap(), &mut std::io::sink()).unwrap(), is_it, "{written}");
        }
    }
}
