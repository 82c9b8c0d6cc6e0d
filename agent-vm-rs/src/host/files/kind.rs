//! Files in a state directory, which a user, a restored backup or another program may have changed: opening them here
//! follows no link, blocks on no pipe and reads a bounded number of bytes.

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::OFlags;

use crate::term::error::Failure;

/// Largest file, in bytes, that is read whole: settings, keys, rules.
const LONGEST: u64 = 4 << 20;

/// Returns the text of a file in the state directory.
///
/// # Errors
/// It is missing, not a regular file (a link is not), larger than 4 MiB, not UTF-8, or cannot be read.
pub fn read_text(path: &Path) -> Result<String> {
    let text = read_if_there(path)?;
    text.ok_or(rustix::io::Errno::NOENT).with_context(|| format!("failed to read {}", path.display()))
}

/// Returns the text of a file in the state directory; None if it does not exist.
///
/// # Errors
/// See [`read_text`].
pub fn read_if_there(path: &Path) -> Result<Option<String>> {
    let failed = || format!("failed to read {}", path.display());
    let Some(file) = open_if_there(path).with_context(failed)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).with_context(failed)?;
    if bytes.len() as u64 > LONGEST {
        let size = crate::term::text::bytes(LONGEST);
        return Err(Failure::new(format!("{} is larger than {size}", path.display()))
            .with_hint(format!("no command writes such a large file; remove it: rm -f -- {}", quoted(path)))
            .into());
    }
    String::from_utf8(bytes).map(Some).context("it is not valid UTF-8").with_context(failed)
}

/// Opens a file in the state directory for reading.
///
/// # Errors
/// It is missing, not a regular file (a link is not), or cannot be opened.
pub fn open_file(path: &Path) -> Result<File> {
    open_if_there(path)?.ok_or_else(|| io::Error::from(rustix::io::Errno::NOENT).into())
}

/// Like [`open_file`], but a missing file is None. Most machines lack most files, and an error takes time to make.
fn open_if_there(path: &Path) -> Result<Option<File>> {
    // Opening a pipe that has no writer would block.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => {
            let kind = file.metadata()?.file_type();
            if kind.is_file() { Ok(Some(file)) } else { Err(wrong(path, "file", kind).into()) }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // With these flags, opening a link, a socket or a device fails.
        Err(error) => match fs::symlink_metadata(path) {
            Ok(found) if !found.is_file() => Err(wrong(path, "file", found.file_type()).into()),
            _ => Err(error.into()),
        },
    }
}

/// Returns whether nothing has this path; false if that cannot be examined. Links are followed.
#[must_use]
pub fn is_absent(path: &Path) -> bool {
    let is_missing = |error: io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    fs::metadata(path).is_err_and(is_missing)
}

/// Checks whether a regular file exists.
///
/// # Errors
/// Something else has this path, or its status cannot be read.
pub fn has_file(path: &Path) -> Result<bool> {
    has(path, "file", FileType::is_file)
}

/// Checks whether a directory exists.
///
/// # Errors
/// Something else has this path (a link to a directory, too), or its status cannot be read.
pub fn has_dir(path: &Path) -> Result<bool> {
    has(path, "directory", FileType::is_dir)
}

fn has(path: &Path, wanted: &str, is_wanted: fn(&FileType) -> bool) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) if is_wanted(&found.file_type()) => Ok(true),
        Ok(found) => Err(wrong(path, wanted, found.file_type()).into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("failed to read the status of {}", path.display())),
    }
}

/// Removes a directory tree, or anything else, if it exists. Links are not followed.
///
/// # Errors
/// It cannot be removed.
pub fn remove_any(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => super::remove_tree(path),
        _ => super::remove_file(path),
    }
}

/// Checks that a new file may take a path that a user named: a device, a pipe or a socket there would be lost, also one that a
/// link such as `/dev/stdout` leads to.
///
/// # Errors
/// One of them is there.
pub fn require_replaceable(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => {
            let what = named(found.file_type());
            Err(Failure::new(format!("{} is {what}, and a new file would replace it", path.display()))
                .with_hint("choose the name of a file")
                .into())
        }
        _ => Ok(()),
    }
}

/// Returns the error of a path whose kind is not the `wanted` one.
#[must_use]
pub fn wrong(path: &Path, wanted: &str, found: FileType) -> Failure {
    Failure::new(format!("{} is {}, not a {wanted}", path.display(), named(found)))
        .with_hint(format!("move it away, or remove it: rm -r -- {}", quoted(path)))
}

fn named(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_file() {
        "a file"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Returns a path quoted for a shell.
#[must_use]
pub fn quoted(path: &Path) -> String {
    let path = crate::term::text::one_line(&path.display().to_string());
    shlex::try_quote(&path).map_or_else(|_| path.clone(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, mkfifoat};
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    #[test]
    fn no_device_pipe_or_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        mkfifoat(CWD, at("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        symlink("pipe", at("link-to-pipe")).unwrap();
        for (path, kind) in [
            (at("pipe"), "a named pipe"),
            (at("socket"), "a socket"),
            (at("link-to-pipe"), "a named pipe"),
            ("/dev/null".into(), "a device"),
        ] {
            let error = require_replaceable(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("{} is {kind}, and", path.display())), "{error}");
        }
        // Control: a file, a directory, a link, and nothing.
        fs::write(at("file"), "").unwrap();
        symlink("file", at("link")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        for name in ["file", "link", "dangling", "none", "."] {
            require_replaceable(&at(name)).unwrap();
        }
    }

    #[test]
    fn only_regular_files_are_read_and_opening_never_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "text").unwrap();
        assert_eq!(read_text(&at("file")).unwrap(), "text");
        assert_eq!(read_if_there(&at("none")).unwrap(), None);
        assert!(format!("{:#}", read_text(&at("none")).unwrap_err()).contains("No such file"));
        symlink(at("file"), at("link")).unwrap();
        fs::create_dir(at("dir")).unwrap();
        mkfifoat(CWD, at("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        for (name, kind) in
            [("link", "a symbolic link"), ("dir", "a directory"), ("pipe", "a named pipe"), ("socket", "a socket")]
        {
            let error = read_text(&at(name)).unwrap_err();
            assert!(format!("{error:#}").contains(&format!("is {kind}, not a file")), "{error:#}");
            assert!(has_file(&at(name)).is_err());
            assert_eq!(has_dir(&at(name)).is_ok(), name == "dir");
            remove_any(&at(name)).unwrap();
            remove_any(&at(name)).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        File::create(at("file")).unwrap().set_len(LONGEST + 1).unwrap();
        assert!(read_text(&at("file")).unwrap_err().to_string().contains("is larger than"));
    }
}
