//! Reads the guest's console for a kernel panic.

use std::path::Path;

use anyhow::Result;

use crate::host::log_file;
use crate::term::error::Failure;
use crate::term::text::one_line;

/// Start of the kernel's panic message (`panic()` in kernel/panic.c).
const PANIC: &str = "Kernel panic - not syncing";
/// Largest part of the message that is shown, in characters.
const LONGEST: usize = 200;

/// Fails if the guest's kernel panicked, since it prints nothing after that.
///
/// # Errors
/// It panicked. `again` is the command in the hint.
pub fn check(console: &Path, again: &str, name: &str) -> Result<()> {
    let hint = format!("{again}\nto see the whole console: agent-vm logs --console {name}");
    panic(console).map_or(Ok(()), |panic| Err(panic.with_hint(hint).into()))
}

/// Returns the kernel panic as an error; None if the console shows none.
#[must_use]
pub fn panic(console: &Path) -> Option<Failure> {
    let message = message(&log_file::end(console, log_file::LAST_WORDS).unwrap_or_default())?;
    Some(Failure::new(format!("the guest's kernel panicked: {message}")))
}

fn message(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    let (_, message) = text.lines().rev().find_map(|line| line.split_once(PANIC))?;
    Some(one_line(message.trim_start_matches(':').trim()).chars().take(LONGEST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_found_with_its_reason() {
        let output = b"[    0.9] VFS: hello\r\n[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n[    1.3] CPU: 0\r\n";
        assert_eq!(message(output).as_deref(), Some("VFS: Unable to mount root fs"));
        assert_eq!(message(b"[    0.9] Kernel command line: panic=-1\n"), None);
        assert_eq!(message(b""), None);
        let dir = tempfile::tempdir().unwrap();
        let console = dir.path().join("console.log");
        check(&console, "agent-vm start app-main", "app-main").unwrap();
        std::fs::write(&console, output).unwrap();
        let error = check(&console, "agent-vm start app-main", "app-main").unwrap_err();
        assert!(error.to_string().contains("panicked: VFS: Unable"), "{error}");
        assert!(error.downcast_ref::<Failure>().unwrap().hint().unwrap().contains("agent-vm start app-main"));
    }
}
