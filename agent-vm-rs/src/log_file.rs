//! Files that a machine's programs write, and the guest through them, without end: their ends are what is read and kept.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};

/// Bytes in which a program's last words are.
pub const LAST_WORDS: u64 = 64 << 10;
/// Bytes beyond which a log is shortened.
pub const LONGEST: u64 = 16 << 20;
/// Bytes that are kept of it then.
const KEPT: u64 = 4 << 20;
/// Between looks at its length.
const INTERVAL: Duration = Duration::from_millis(500);

/// Opens a log to be read. What a program that was taken over may have put in its place is not followed, nor waited for.
///
/// # Errors
/// It is not there, or is none.
pub fn open(path: &Path) -> io::Result<File> {
    with_care(OpenOptions::new().read(true)).open(path)
}

fn with_care(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
}

/// The last `most` bytes of an open file, which is left at their end.
///
/// # Errors
/// It cannot be read.
pub fn end_of(file: &mut File, most: u64) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text)?;
    Ok(text)
}

/// The last `most` bytes of a log.
///
/// # Errors
/// As [`open`].
pub fn end(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    end_of(&mut open(path)?, most)
}

/// The last lines of a log; empty if there is none.
#[must_use]
pub fn last_lines(path: &Path, count: usize) -> String {
    let text = end(path, LAST_WORDS).unwrap_or_default();
    crate::text::last_lines(&String::from_utf8_lossy(&text), count)
}

/// Keeps logs short for as long as this process lives.
pub fn keep_short(logs: Vec<PathBuf>) {
    std::thread::spawn(move || {
        loop {
            for log in &logs {
                // One that is not there has not been begun, or has been put away.
                drop(shorten(log));
            }
            std::thread::sleep(INTERVAL);
        }
    });
}

/// Leaves the end of a log that is too long. Whoever writes it appends, and so goes on after that.
fn shorten(path: &Path) -> io::Result<()> {
    let mut log = with_care(OpenOptions::new().read(true).append(true)).open(path)?;
    // Another process of ours may be about it.
    flock(&log, FlockOperation::NonBlockingLockExclusive)?;
    if log.metadata()?.len() <= LONGEST {
        return Ok(());
    }
    let kept = end_of(&mut log, KEPT)?;
    log.set_len(0)?;
    log.write_all(&kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_end_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        assert_eq!(last_lines(&log, 2), "");
        fs::write(&log, "one\ntwo\nthree\n").unwrap();
        assert_eq!(end(&log, 8).unwrap(), b"o\nthree\n");
        assert_eq!(end(&log, 99).unwrap(), b"one\ntwo\nthree\n");
        assert_eq!(last_lines(&log, 2), "two\nthree");
    }

    #[test]
    fn a_log_that_is_too_long_keeps_its_end_and_is_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut writer = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let length = || fs::metadata(&log).unwrap().len();
        writer.write_all(&vec![b'x'; usize::try_from(LONGEST).unwrap()]).unwrap();
        shorten(&log).unwrap();
        assert_eq!(length(), LONGEST);
        writer.write_all(b"end\n").unwrap();
        shorten(&log).unwrap();
        assert_eq!((length(), end(&log, 5).unwrap()), (KEPT, b"xend\n".to_vec()));
        writer.write_all(b"more\n").unwrap();
        assert_eq!((length(), end(&log, 9).unwrap()), (KEPT + 5, b"end\nmore\n".to_vec()));
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (log, elsewhere) = (dir.path().join("log"), dir.path().join("elsewhere"));
        File::create(&elsewhere).unwrap().set_len(LONGEST + 1).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &log).unwrap();
        assert!(open(&log).is_err() && shorten(&log).is_err());
        assert_eq!(fs::metadata(&elsewhere).unwrap().len(), LONGEST + 1);
        // Control: by its own name it is read, and shortened.
        open(&elsewhere).unwrap();
        shorten(&elsewhere).unwrap();
        assert_eq!(fs::metadata(&elsewhere).unwrap().len(), KEPT);
    }
}
