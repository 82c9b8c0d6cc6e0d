//! Classifies git's failures: permanent (a damaged repository) or temporary (the host lacks memory, files or disk).

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Output;

use anyhow::Result;

use crate::host::process::Invocation;
use crate::term::error::Failure;
use crate::term::text::last_lines;

/// The repository is damaged, so reading it will fail every time. Other errors do not mean damage.
#[derive(Debug)]
pub struct Unreadable(pub String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

/// Returns whether an error means that the repository is damaged.
#[must_use]
pub fn is_unreadable(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Unreadable>().is_some()
}

/// Returns whether an error means that a disk is full.
#[must_use]
pub fn is_no_space(error: &anyhow::Error) -> bool {
    let by_kind = |cause: &(dyn std::error::Error + 'static)| {
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        matches!(kind, Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
    };
    error.chain().any(|cause| by_kind(cause) || has_any(&cause.to_string(), &NO_SPACE))
}

/// Returns whether an error means that git had too little memory. A hostile repository can make it need any amount.
#[must_use]
pub fn is_no_memory(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| has_any(&cause.to_string(), &NO_MEMORY))
}

/// Messages of git and the C library about too little memory.
const NO_MEMORY: [&str; 2] = ["Cannot allocate memory", "ut of memory"];
/// Messages of git and the C library about a full disk.
const NO_SPACE: [&str; 3] = ["No space left on device", "Out of diskspace", "Disk quota exceeded"];
/// Messages about other shortages of the host, or about killed processes.
const HOST: [&str; 14] = [
    "Resource temporarily unavailable",
    "Too many open files",
    "Too many open files in system",
    "unable to create thread",
    "cannot fork",
    "unable to fork",
    "died of signal",
    "Input/output error",
    "Read-only file system",
    "Stale file handle",
    "Interrupted system call",
    "bwrap: ",
    "prlimit: ",
    "failed to apply Landlock",
];

/// Runs git on a guest's repository, with at most `most` bytes of output.
///
/// # Errors
/// [`Unreadable`] if git cannot read the repository; any other error if git did not finish.
pub fn ask(git: &Invocation, most: usize) -> Result<Output> {
    let output = git.output_within(most)?;
    if output.status.success() { Ok(output) } else { Err(failure(&output)) }
}

fn failure(output: &Output) -> anyhow::Error {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let words = last_lines(&stderr, 4);
    // bwrap and prlimit report a signal as an exit code above 128.
    let signal =
        output.status.signal().or_else(|| output.status.code().filter(|code| *code > 128).map(|code| code - 128));
    if let Some(signal) = signal {
        return Failure::new(format!("git was killed by signal {signal} while reading the workspace")).into();
    }
    if [&NO_SPACE[..], &NO_MEMORY, &HOST].iter().any(|phrases| has_any(&stderr, phrases)) {
        return Failure::new(format!("git failed to read the workspace: {words}")).into();
    }
    let words = if words.is_empty() { format!("git failed ({})", output.status) } else { words };
    Unreadable(words.trim_start_matches("fatal: ").to_owned()).into()
}

/// Returns the context of an error about objects that are missing because the repository borrows them.
pub fn borrowing() -> Failure {
    Failure::new("the workspace's repository borrows objects from elsewhere (.git/objects/info/alternates)")
        .with_hint("in the machine: git repack -a -d && rm .git/objects/info/alternates")
}

fn has_any(text: &str, phrases: &[&str]) -> bool {
    phrases.iter().any(|phrase| text.contains(phrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(script: &str) -> anyhow::Error {
        ask(&Invocation::new("sh").args(["-c", script]), 1000).unwrap_err()
    }

    #[test]
    fn only_messages_about_the_repository_count_as_damage() {
        assert!(is_unreadable(&after("echo 'fatal: bad object refs/heads/x' >&2; exit 128")));
        for passing in [
            "kill -9 $$",
            "exit 137",
            "echo 'error: pack-objects died of signal 9' >&2; exit 128",
            "echo 'fatal: write error: No space left on device' >&2; exit 128",
            "echo 'fatal: Out of memory, malloc failed (tried to allocate 9 bytes)' >&2; exit 128",
            "echo 'bwrap: Creating new namespace failed' >&2; exit 1",
        ] {
            assert!(!is_unreadable(&after(passing)), "{passing}");
        }
        assert!(is_no_space(&after("echo 'fatal: write error: No space left on device' >&2; exit 128")));
        let missing = ask(&Invocation::new("no-such-program"), 1000).unwrap_err();
        assert!(!is_unreadable(&missing) && !is_no_space(&missing));
    }
}
