//! Builds and cleans URLs of repositories.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::term::progress::note;

/// The characters that are percent-encoded in the path of a URL.
pub const URL_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Returns the `file://` URL of a directory. From a URL, git copies objects; from a path, it would hard-link them.
#[must_use]
pub fn file_url(dir: &Path) -> String {
    format!("file://{}", percent_encode(dir.as_os_str().as_bytes(), URL_PATH))
}

/// Returns a remote's URL without its user name and password, which the guest must not learn.
#[must_use]
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    match authority.rsplit_once('@') {
        // In an ssh URL the user name is part of the address and not a secret.
        Some((user, host)) if scheme.contains("ssh") => {
            let user = user.split(':').next().unwrap_or(user);
            format!("{scheme}://{user}@{host}{path}")
        }
        Some((_, host)) => {
            note("the user name or password in the URL of origin is not copied into the machine");
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn passwords_are_not_copied() {
        assert_eq!(without_password("https://me:secret@host.example/r.git"), "https://host.example/r.git");
        assert_eq!(without_password("https://token@host.example/a@b"), "https://host.example/a@b");
        assert_eq!(without_password("ssh://git:pw@host.example:22/r"), "ssh://git@host.example:22/r");
        assert_eq!(without_password("git@host.example:o/r.git"), "git@host.example:o/r.git");
        assert_eq!(without_password("/srv/r.git"), "/srv/r.git");
    }

    #[test]
    fn paths_become_urls_that_git_reads_back() {
        assert_eq!(file_url(Path::new("/a b/100%/ü")), "file:///a%20b/100%25/%C3%BC");
        assert_eq!(file_url(Path::new(OsStr::from_bytes(b"/\xff"))), "file:///%FF");
    }
}
