//! Builds and cleans URLs of repositories.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use crate::term::progress::note;
use crate::term::text::one_line;

/// The characters that are percent-encoded in the path of a URL.
pub const URL_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Returns the `file://` URL of a directory. From a URL, git copies objects; from a path, it would hard-link them.
#[must_use]
pub fn file_url(dir: &Path) -> String {
    format!("file://{}", percent_encode(dir.as_os_str().as_bytes(), URL_PATH))
}

/// Returns the path of a URL that names a directory of this host.
#[must_use]
pub fn local_path(url: &str) -> PathBuf {
    match url.get(..7).filter(|start| start.eq_ignore_ascii_case("file://")) {
        Some(_) => OsString::from_vec(percent_decode_str(&url[7..]).collect()).into(),
        None => url.into(),
    }
}

/// Returns a remote's URL without its user name and password, which the guest must not learn.
#[must_use]
pub fn without_password(url: &str) -> String {
    let (plain, is_changed) = plain(url);
    if is_changed {
        note("the user name or password in the URL of a remote is not copied into the machine");
    }
    plain
}

/// Returns a remote's URL for messages: on one line and without a password.
#[must_use]
pub fn shown(url: &str) -> String {
    one_line(&plain(url).0)
}

/// Returns a URL without its user name and password, and whether it had one that may be secret.
fn plain(url: &str) -> (String, bool) {
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), false) };
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    match authority.rsplit_once('@') {
        // In an ssh URL the user name is part of the address and not a secret.
        Some((user, host)) if scheme.contains("ssh") => {
            let user = user.split(':').next().unwrap_or(user);
            (format!("{scheme}://{user}@{host}{path}"), false)
        }
        Some((_, host)) => (format!("{scheme}://{host}{path}"), true),
        None => (url.to_owned(), false),
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
    fn urls_become_paths() {
        for (url, path) in [("file:///a%20b/%FF", &b"/a b/\xff"[..]), ("../a%20b", b"../a%20b"), ("FILE:///x", b"/x")] {
            assert_eq!(local_path(url).as_os_str().as_bytes(), path);
        }
        assert_eq!(local_path("ü/ü/ü"), Path::new("ü/ü/ü"));
        assert_eq!(shown("https://me:x@host.example/\u{1b}"), "https://host.example/");
    }

    #[test]
    fn paths_become_urls_that_git_reads_back() {
        assert_eq!(file_url(Path::new("/a b/100%/ü")), "file:///a%20b/100%25/%C3%BC");
        assert_eq!(file_url(Path::new(OsStr::from_bytes(b"/\xff"))), "file:///%FF");
    }
}
