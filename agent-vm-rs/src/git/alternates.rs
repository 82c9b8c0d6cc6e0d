//! Lists of object stores to borrow from: `info/alternates`, gitrepository-layout(5).

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::host::files::plain;

/// Largest accepted `info/alternates`, in bytes.
const MAX_LIST: u64 = 1 << 20;
/// Levels of alternates that are followed; git's own limit.
const DEPTH: usize = 5;

/// Returns every store that `objects` borrows from, directly or through another. An unreadable store counts as
/// borrowing from none.
#[must_use]
pub fn of(objects: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut now = vec![objects.to_owned()];
    for _ in 0..DEPTH {
        now = now.iter().flat_map(|store| named_by(store)).filter(|store| !all.contains(store)).collect();
        all.extend(now.iter().cloned());
    }
    all
}

/// Returns the line for a store in `info/alternates`, quoted as in C so that git takes no path for a comment.
///
/// # Errors
/// The path contains a newline.
pub fn line(store: &Path) -> Result<Vec<u8>> {
    let bytes = store.as_os_str().as_bytes();
    ensure!(!bytes.contains(&b'\n'), "the path {} contains a newline", store.display());
    let escaped = bytes.iter().flat_map(|byte| match byte {
        b'"' | b'\\' => vec![b'\\', *byte],
        byte => vec![*byte],
    });
    Ok(std::iter::once(b'"').chain(escaped).chain(*b"\"\n").collect())
}

/// Reads `info/alternates`. Each line is a path; a relative one starts at the store.
fn named_by(objects: &Path) -> Vec<PathBuf> {
    let list = plain::read(&objects.join("info/alternates"), MAX_LIST).ok().flatten().unwrap_or_default();
    let lines = list.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    lines
        .map(|line| plain::path_in(&unquoted(line), objects))
        .filter_map(|store| std::fs::canonicalize(store).ok())
        .filter(|store| store.is_dir())
        .collect()
}

/// Removes git's C-style quotes from a line that starts with a double quote.
fn unquoted(line: &[u8]) -> Vec<u8> {
    let Some(quoted) = line.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else { return line.to_vec() };
    let mut bytes = quoted.iter().copied().peekable();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        let next = if byte == b'\\' { bytes.next() } else { None };
        plain.push(match next {
            None => byte,
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(octal @ b'0'..=b'3') => {
                let mut digit = || bytes.next_if(|byte| (b'0'..=b'7').contains(byte)).map_or(0, |byte| byte - b'0');
                ((octal - b'0') << 6) | (digit() << 3) | digit()
            }
            Some(other) => other,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternates_are_followed_and_a_cycle_ends() {
        let dir = tempfile::tempdir().unwrap();
        let store = |name: &str, alternates: &str| {
            let store = dir.path().join(name);
            std::fs::create_dir_all(store.join("info")).unwrap();
            std::fs::write(store.join("info/alternates"), alternates).unwrap();
            store
        };
        let c = store("c", "../a\n");
        let b = store("b", &format!("# none\n\"{}\"\n/nowhere\n", c.display()));
        let a = store("a", "../b\n");
        let found: Vec<_> = of(&a).iter().map(|store| store.canonicalize().unwrap()).collect();
        assert!(found.contains(&b) && found.contains(&c), "{found:?}");
        assert!(of(&dir.path().join("none")).is_empty());
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        for path in ["/a b", "#a", "/\"q\"/\\", "/ü\t"] {
            let line = line(Path::new(path)).unwrap();
            assert_eq!(unquoted(line.strip_suffix(b"\n").unwrap()), path.as_bytes(), "{path}");
        }
        assert!(line(Path::new("/a\nb")).is_err());
    }

    #[test]
    fn quoted_lines_are_read_as_git_reads_them() {
        assert_eq!(unquoted(br#""/a\"b\\\303\274""#), "/a\"b\\ü".as_bytes());
        assert_eq!(unquoted(b"/a\\b"), b"/a\\b");
    }
}
