//! Log files of a machine's programs, which write without a limit, also on behalf of the guest: only the end is kept and read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{FlockOperation, OFlags, fcntl_getfl, fcntl_setfl, flock};

/// Bytes read from the end of a log to find its last lines.
pub const LAST_WORDS: u64 = 64 << 10;
/// Size in bytes above which a log is shortened.
pub const LONGEST: u64 = 16 << 20;
/// Size in bytes after shortening.
const KEPT: u64 = 4 << 20;

/// Opens a log for reading. A compromised program may have replaced it: a link is not followed, and a pipe does not block.
///
/// # Errors
/// It does not exist, is a link, or cannot be opened.
pub fn open(path: &Path) -> io::Result<File> {
    with_care(OpenOptions::new().read(true)).open(path)
}

fn with_care(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
}

/// Returns the last `most` bytes of an open file and leaves its position at the end.
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

/// Returns the last `most` bytes of a log.
///
/// # Errors
/// See [`open`].
pub fn end(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    end_of(&mut open(path)?, most)
}

/// Returns the last lines of a log; empty if it does not exist.
#[must_use]
pub fn last_lines(path: &Path, count: usize) -> String {
    let text = end(path, LAST_WORDS).unwrap_or_default();
    crate::term::text::last_lines(&String::from_utf8_lossy(&text), count)
}

/// Opens a log for appending, and creates it if it does not exist. A link is not followed, and a pipe does not block.
///
/// # Errors
/// It cannot be opened.
pub fn open_to_append(path: &Path) -> io::Result<File> {
    with_care(OpenOptions::new().read(true).append(true).create(true).mode(0o600)).open(path)
}

/// Copies a stream to a log until the stream ends, and keeps only the end of a log that grows too long. Data that cannot be
/// written is dropped: the writing program must not block.
///
/// # Errors
/// The stream cannot be read.
pub fn keep(mut from: impl io::Read, mut log: File) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => drop(log.write_all(&buffer[..length]).and_then(|()| shorten(&mut log))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Shortens a log that is too long to its end.
fn shorten(log: &mut File) -> io::Result<()> {
    if log.metadata()?.len() <= LONGEST {
        return Ok(());
    }
    // Two processes write into the log for a moment while a program restarts.
    flock(&*log, FlockOperation::LockExclusive)?;
    let shorter = if log.metadata()?.len() > LONGEST { cut(log) } else { Ok(()) };
    flock(&*log, FlockOperation::Unlock)?;
    shorter
}

fn cut(log: &mut File) -> io::Result<()> {
    let kept = end_of(log, KEPT)?;
    replace(log, &kept)
}

/// Replaces the content of a log, opened for appending, by a shorter one. It is written over the beginning, and the rest is cut
/// off then: a program that is killed in between leaves the old end, too, and not an empty log.
///
/// # Errors
/// It cannot be written.
pub fn replace(log: &mut File, content: &[u8]) -> io::Result<()> {
    let flags = fcntl_getfl(&*log)?;
    fcntl_setfl(&*log, flags - OFlags::APPEND)?;
    let written = log.seek(SeekFrom::Start(0)).and_then(|_| log.write_all(content));
    fcntl_setfl(&*log, flags)?;
    written?;
    log.set_len(content.len() as u64)
}

/// The arguments of the log keeper.
#[derive(clap::Args, Clone, Debug)]
pub struct KeepLog {
    /// Path of the log file, for process lists; the log itself is standard output
    #[arg(value_name = "FILE")]
    log: PathBuf,
}

impl KeepLog {
    /// Copies standard input to standard output, which is the log: opened by name, it could be a file that appears after its
    /// directory was removed.
    ///
    /// # Errors
    /// See [`keep`].
    pub fn keep(&self) -> anyhow::Result<()> {
        let log = io::stdout().as_fd().try_clone_to_owned().map(File::from);
        log.and_then(|log| keep(io::stdin().lock(), log))
            .with_context(|| format!("failed to write the log {}", self.log.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn end_and_last_lines_read_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        assert_eq!(last_lines(&log, 2), "");
        fs::write(&log, "one\ntwo\nthree\n").unwrap();
        assert_eq!(end(&log, 8).unwrap(), b"o\nthree\n");
        assert_eq!(end(&log, 99).unwrap(), b"one\ntwo\nthree\n");
        assert_eq!(last_lines(&log, 2), "two\nthree");
    }

    #[test]
    fn a_log_above_the_limit_keeps_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let length = || fs::metadata(&log).unwrap().len();
        keep(io::repeat(b'x').take(LONGEST), open_to_append(&log).unwrap()).unwrap();
        assert_eq!(length(), LONGEST);
        keep(&b"end\n"[..], open_to_append(&log).unwrap()).unwrap();
        assert_eq!((length(), end(&log, 5).unwrap()), (KEPT, b"xend\n".to_vec()));
        keep(&b"more\n"[..], open_to_append(&log).unwrap()).unwrap();
        assert_eq!((length(), end(&log, 9).unwrap()), (KEPT + 5, b"end\nmore\n".to_vec()));
        // One long stream stays within the limit as well.
        keep(io::repeat(b'y').take(5 * LONGEST), open_to_append(&log).unwrap()).unwrap();
        assert!((KEPT..=LONGEST).contains(&length()));
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (log, elsewhere) = (dir.path().join("log"), dir.path().join("elsewhere"));
        fs::write(&elsewhere, "kept").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &log).unwrap();
        assert!(open(&log).is_err() && open_to_append(&log).is_err());
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "kept");
        // Control: by its real path the log can be read and extended.
        open(&elsewhere).unwrap();
        keep(&b" more"[..], open_to_append(&elsewhere).unwrap()).unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "kept more");
    }

    /// The test reads the length without a lock: it sees the file as a killed program would leave it.
    #[test]
    fn a_log_is_never_empty_while_it_is_shortened() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        fs::write(&log, "the beginning\nthe end\n").unwrap();
        let shortest = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for _ in 0..5_000 {
                    let mut file = open_to_append(&log).unwrap();
                    replace(&mut file, b"the end\n").unwrap();
                    file.write_all(b"the beginning\nthe end\n").unwrap();
                }
            });
            let mut shortest = u64::MAX;
            while !writer.is_finished() {
                shortest = shortest.min(fs::metadata(&log).unwrap().len());
            }
            shortest
        });
        assert!(shortest >= 8, "{shortest}");
        assert_eq!(fs::read_to_string(&log).unwrap(), "the end\nthe beginning\nthe end\n");
    }
}
