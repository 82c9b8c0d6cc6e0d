//! What a guest's console says of a boot that comes to nothing.

use std::path::Path;

use anyhow::Result;

use crate::host::log_file;
use crate::term::error::Failure;
use crate::term::text::one_line;

/// The kernel's last message (`panic()` in kernel/panic.c).
const PANIC: &str = "Kernel panic - not syncing";
/// Bytes of the message that are shown.
const LONGEST: usize = 200;

/// Fails once the guest's kernel has panicked: it says nothing more after that.
///
/// # Errors
/// It has; the hint is the command that starts it `again`.
pub fn check(console: &Path, again: &str, name: &str) -> Result<()> {
    match panic(&log_file::end(console, log_file::LAST_WORDS).unwrap_or_default()) {
        None => Ok(()),
        Some(message) => Err(Failure::new(format!("the guest's kernel panicked: {message}"))
            .with_hint(format!("{again} starts it again; agent-vm logs --console {name} shows all it said"))
            .into()),
    }
}

/// The message of the kernel, if it panicked.
fn panic(said: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(said);
    let (_, message) = text.lines().rev().find_map(|line| line.split_once(PANIC))?;
    Some(one_line(message.trim_start_matches(':').trim()).chars().take(LONGEST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_found_with_its_reason() {
        let said = b"[    0.9] VFS: hello\r\n[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n[    1.3] CPU: 0\r\n";
        assert_eq!(panic(said).as_deref(), Some("VFS: Unable to mount root fs"));
        assert_eq!(panic(b"[    0.9] Kernel command line: panic=-1\n"), None);
        assert_eq!(panic(b""), None);
        let dir = tempfile::tempdir().unwrap();
        let console = dir.path().join("console.log");
        check(&console, "agent-vm start app-main", "app-main").unwrap();
        std::fs::write(&console, said).unwrap();
        let error = check(&console, "agent-vm start app-main", "app-main").unwrap_err();
        assert!(error.to_string().contains("panicked: VFS: Unable"), "{error}");
        assert!(error.downcast_ref::<Failure>().unwrap().hint().unwrap().contains("agent-vm start app-main"));
    }
}
