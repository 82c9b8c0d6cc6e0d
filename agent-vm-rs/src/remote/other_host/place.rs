//! Where the sockets of shared connections are.

use std::env;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Longest directory: a socket's path may have 107 bytes, of which ssh needs 58 for a hash and a temporary ending.
const LONGEST: usize = 49;
/// Permissions of the directory.
const OWN: u32 = 0o700;

/// Returns a directory for sockets that only this user can enter; None if there is none with a path that ssh can use.
#[must_use]
pub fn directory() -> Option<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let of_session = env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("agent-vm"));
    let of_user = Some(PathBuf::from(format!("/tmp/agent-vm-{user}")));
    of_session.into_iter().chain(of_user).find(|dir| is_usable(dir) && is_private(dir, user))
}

/// Returns whether ssh takes the path as it is.
fn is_usable(dir: &Path) -> bool {
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    dir.is_absolute() && dir.to_str().is_some_and(|text| text.len() <= LONGEST && plain(text))
}

/// Makes the directory if it does not exist. Anyone can make one in /tmp first.
fn is_private(dir: &Path, user: u32) -> bool {
    drop(fs::DirBuilder::new().mode(OWN).create(dir));
    let found = dir.symlink_metadata();
    found.is_ok_and(|found| found.is_dir() && found.uid() == user && found.mode() & 0o777 == OWN)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn only_a_private_directory_of_the_user_is_used() {
        let top = tempfile::tempdir().unwrap();
        let user = rustix::process::geteuid().as_raw();
        let dir = top.path().join("own");
        assert!(is_private(&dir, user) && is_private(&dir, user));
        assert!(!is_private(&dir, user + 1));
        symlink(&dir, top.path().join("link")).unwrap();
        assert!(!is_private(&top.path().join("link"), user));
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(!is_private(&dir, user));
        assert!(is_usable(Path::new("/run/user/1000/agent-vm")));
        for path in ["run", "/run/a b", "/run/%C", &format!("/{}", "x".repeat(LONGEST))] {
            assert!(!is_usable(Path::new(path)), "{path}");
        }
    }
}
