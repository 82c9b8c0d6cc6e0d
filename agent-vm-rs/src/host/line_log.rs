//! Logs of whole lines with a limited size, which several processes append to.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::host::log_file;

/// A log of lines. Its file need not exist.
#[derive(Clone, Debug)]
pub struct LineLog {
    path: PathBuf,
    longest: u64,
    is_important: fn(&str) -> bool,
}

impl LineLog {
    /// Returns the log in a file, which has at most `longest` bytes. A longer one is shortened to its last half.
    #[must_use]
    pub fn new(path: PathBuf, longest: u64) -> Self {
        Self { path, longest, is_important: |_| false }
    }

    /// Returns the same log, of which important lines stay longer: the others do not displace them from a quarter of it.
    #[must_use]
    pub fn keeping(self, is_important: fn(&str) -> bool) -> Self {
        Self { is_important, ..self }
    }

    /// Returns the path of its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&self, line: &str) -> io::Result<()> {
        let mut file = log_file::open_to_append(&self.path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        let length = file.metadata()?.len();
        // A full disk or a killed program may have left a part of a line, which must not spoil this one.
        let begin = if log_file::end_of(&mut file, 1)?.last().is_none_or(|last| *last == b'\n') { "" } else { "\n" };
        // One write, so that a line is whole or missing.
        if let Err(error) = file.write_all(format!("{begin}{line}\n").as_bytes()) {
            file.set_len(length)?;
            return Err(error);
        }
        if file.metadata()?.len() > self.longest { self.shorten(&mut file) } else { Ok(()) }
    }

    fn shorten(&self, file: &mut File) -> io::Result<()> {
        let text = log_file::end_of(file, 2 * self.longest)?;
        let kept = self.kept(&String::from_utf8_lossy(&text));
        log_file::replace(file, kept.as_bytes())
    }

    /// Returns the lines that stay: the last ones, and of the important ones more.
    fn kept(&self, text: &str) -> String {
        let lines: Vec<_> = text.split_inclusive('\n').collect();
        let mut stays = vec![false; lines.len()];
        let important = mark(&lines, &mut stays, self.longest / 4, self.is_important);
        mark(&lines, &mut stays, self.longest / 2 - important, |_| true);
        lines.iter().zip(&stays).filter(|(_, stays)| **stays).map(|(line, _)| *line).collect()
    }

    /// Returns its lines, oldest first; none if the file does not exist or cannot be read.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = log_file::open(&self.path)?;
            // Not while another process shortens it.
            flock(&file, FlockOperation::LockShared)?;
            log_file::end_of(&mut file, self.longest)
        };
        let text = read().unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }
}

/// Marks the last wanted lines that fit into `room` bytes and are not marked yet, and returns their size.
fn mark(lines: &[&str], stays: &mut [bool], room: u64, is_wanted: fn(&str) -> bool) -> u64 {
    let mut used = 0;
    for (line, stays) in lines.iter().zip(stays).rev().filter(|(line, stays)| !**stays && is_wanted(line)) {
        let size = line.len() as u64;
        if used + size > room {
            break;
        }
        used += size;
        *stays = true;
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_its_last_lines_whole() {
        let dir = tempfile::tempdir().unwrap();
        let log = LineLog::new(dir.path().join("log"), 100);
        assert!(log.lines().is_empty());
        for number in 0..200 {
            log.append(&format!("line {number}")).unwrap();
            assert!(std::fs::metadata(log.path()).unwrap().len() <= 110);
            let lines = log.lines();
            assert_eq!(lines.last().unwrap(), &format!("line {number}"));
            assert!(lines.iter().all(|line| line.starts_with("line ")), "{lines:?}");
        }
        assert!((5..20).contains(&log.lines().len()));
    }

    #[test]
    fn important_lines_are_not_displaced() {
        let dir = tempfile::tempdir().unwrap();
        let log = LineLog::new(dir.path().join("log"), 400).keeping(|line| line.starts_with("important"));
        for number in 0..500 {
            if number % 100 == 0 {
                log.append(&format!("important {number}")).unwrap();
            }
            log.append(&format!("line {number}")).unwrap();
            assert!(std::fs::metadata(log.path()).unwrap().len() <= 420);
        }
        let lines = log.lines();
        let important: Vec<_> = lines.iter().filter(|line| line.starts_with("important")).collect();
        assert_eq!(important, ["important 0", "important 100", "important 200", "important 300", "important 400"]);
        assert_eq!(lines.last().unwrap(), "line 499");
        // They have a bound, too.
        for number in 0..500 {
            log.append(&format!("important {number}")).unwrap();
            assert!(std::fs::metadata(log.path()).unwrap().len() <= 420);
        }
        assert_eq!(log.lines().last().unwrap(), "important 499");
    }

    #[test]
    fn a_part_of_a_line_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let log = LineLog::new(dir.path().join("log"), 100);
        std::fs::write(log.path(), "one\ntw").unwrap();
        log.append("three").unwrap();
        log.append("four").unwrap();
        assert_eq!(log.lines(), ["one", "tw", "three", "four"]);
    }

    /// As on a full disk: the kernel writes as much as it can. The test starts itself with a limit of file sizes.
    #[test]
    fn a_line_that_finds_no_room_leaves_no_part() {
        const LOG: &str = "AGENT_VM_TEST_LOG";
        if let Some(path) = std::env::var_os(LOG) {
            assert!(LineLog::new(path.into(), 1 << 20).append(&"x".repeat(3_000)).is_err());
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "one\n").unwrap();
        let mut limited = std::process::Command::new("prlimit");
        limited.args(["--fsize=1024", "env", "--ignore-signal=XFSZ"]).arg(std::env::current_exe().unwrap());
        let own = "host::line_log::tests::a_line_that_finds_no_room_leaves_no_part";
        let done = limited.args(["--exact", own]).env(LOG, &path).output().unwrap();
        assert!(String::from_utf8_lossy(&done.stdout).contains("1 passed"), "{done:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\n");
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (own, others) = (dir.path().join("own"), dir.path().join("others"));
        std::fs::write(&others, "kept\n").unwrap();
        std::os::unix::fs::symlink(&others, &own).unwrap();
        let log = LineLog::new(own, 100);
        assert!(log.append("x").is_err() && log.lines().is_empty());
        // Control: by its own name it is read and written.
        let log = LineLog::new(others, 100);
        log.append("x").unwrap();
        assert_eq!(log.lines(), ["kept", "x"]);
    }
}
