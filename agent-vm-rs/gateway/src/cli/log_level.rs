//! The log level, which the host passes as a systemd credential.

use std::fs;
use std::path::Path;

/// Returns the level; an empty text without one.
pub fn log_level(directory: Option<&Path>, credential: &str) -> String {
    let level = directory.and_then(|directory| fs::read_to_string(directory.join(credential)).ok());
    level.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_read() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("level"), "debug\n").unwrap();
        assert_eq!(log_level(Some(home.path()), "level"), "debug");
        assert_eq!(log_level(Some(home.path()), "other") + &log_level(None, "level"), "");
    }
}
