//! Files in directories that others can write: read only if they are regular files, and a bounded number of bytes.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::OFlags;

use crate::term::error::Failure;

/// Returns the contents of a file; None if it does not exist.
///
/// # Errors
/// It cannot be read, is larger than `limit` bytes, or is not a regular file (opening a FIFO does not block).
pub fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let failed = || format!("failed to read {}", path.display());
    // The conversion cannot fail: it is a flag of open(2).
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = match OpenOptions::new().read(true).custom_flags(nonblock).open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(error).with_context(failed),
    };
    let metadata = file.metadata().with_context(failed)?;
    if !metadata.is_file() {
        return Err(Failure::new(format!("{} is not a regular file", path.display()))
            .with_hint(format!("see what it is, and put a file in its place: ls -l -- {}", super::quoted(path)))
            .into());
    }
    ensure!(metadata.len() <= limit, "{} is larger than {limit} bytes", path.display());
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).with_context(failed)?;
    Ok(Some(bytes))
}

/// Returns the path that a line contains, relative to `base`, without the line ending.
#[must_use]
pub fn path_in(line: &[u8], base: &Path) -> PathBuf {
    let end = line.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
    base.join(OsStr::from_bytes(&line[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(read(&file, 5).unwrap().unwrap(), b"12345");
        assert!(read(&file, 4).is_err());
        assert!(read(dir.path(), 5).is_err());
        assert!(read(&dir.path().join("none"), 5).unwrap().is_none());
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(read(&fifo, 5).is_err());
    }

    #[test]
    fn path_in_joins_the_line_to_the_base() {
        assert_eq!(path_in(b"../a b\n", Path::new("/x")), Path::new("/x/../a b"));
        assert_eq!(path_in(b"/a", Path::new("/x")), Path::new("/a"));
    }
}
