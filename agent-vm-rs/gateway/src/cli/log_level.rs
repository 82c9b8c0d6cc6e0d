//! The log level, which the host passes as a systemd credential.

use std::fs;
use std::path::Path;

/// Returns whether debug lines are wanted.
pub fn is_debug(directory: Option<&Path>, credential: &str) -> bool {
    let level = directory.and_then(|directory| fs::read_to_string(directory.join(credential)).ok());
    level.is_some_and(|level| level.trim() == "debug")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_read() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("level"), "debug\n").unwrap();
        assert!(is_debug(Some(home.path()), "level"));
        assert!(!is_debug(Some(home.path()), "other") && !is_debug(None, "level"));
    }
}
