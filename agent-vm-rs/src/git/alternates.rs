//! Lists of object stores to borrow from: `info/alternates`, gitrepository-layout(5).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::host::files::{is_absent, plain};
use crate::term::error::Failure;
use crate::term::text::one_line;

/// Largest accepted `info/alternates`, in bytes.
const MAX_LIST: u64 = 1 << 20;
/// Levels of alternates that are followed; git follows as many.
const DEPTH: usize = 6;
/// Largest accepted number of stores.
const MOST: usize = 128;

/// Returns every store that `objects` borrows from, directly or through another. One that does not exist is left out,
/// as git leaves it out.
///
/// # Errors
/// A list cannot be read, or has a line that git may read in another way.
pub fn of(objects: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    let mut now = vec![objects.to_owned()];
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for store in now {
            let list = store.join("info/alternates");
            let named = named_by(&store, &list).with_context(|| unreadable(&list))?;
            for store in named {
                if !all.contains(&store) {
                    if all.len() >= MOST {
                        return Err(anyhow!("it leads to more than {MOST} stores").context(unreadable(&list)));
                    }
                    all.push(store.clone());
                    next.push(store);
                }
            }
        }
        now = next;
    }
    Ok(all)
}

/// Returns the first store that a store's list names and that does not exist.
#[must_use]
pub fn lost(objects: &Path) -> Option<PathBuf> {
    let text = plain::read(&objects.join("info/alternates"), MAX_LIST).ok()??;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    let mut stores = lines.filter_map(|line| Some(objects.join(OsStr::from_bytes(&unquoted(line).ok()?))));
    stores.find(|store| is_absent(store))
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

/// Returns the error about a list that agent-vm does not use.
fn unreadable(list: &Path) -> Failure {
    Failure::new(format!("{} cannot be read as a list of object stores", list.display()))
        .with_hint("if you trust the repository, use a clone of it: git clone --no-local REPOSITORY NEW-DIRECTORY")
}

/// Reads `info/alternates`. Each line is a path; a relative one starts at the store.
fn named_by(objects: &Path, list: &Path) -> Result<Vec<PathBuf>> {
    let text = plain::read(list, MAX_LIST)?.unwrap_or_default();
    // Git ends the list there.
    ensure!(!text.contains(&0), "it contains a NUL character");
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    let mut stores = Vec::new();
    for line in lines {
        // The path is used as it is: git does not remove a carriage return either.
        let path = objects.join(OsStr::from_bytes(&unquoted(line)?));
        stores.extend(std::fs::canonicalize(path).ok().filter(|store| store.is_dir()));
    }
    Ok(stores)
}

/// Removes git's C-style quotes from a line that starts with a double quote.
fn unquoted(line: &[u8]) -> Result<Vec<u8>> {
    let Some(quoted) = line.strip_prefix(b"\"") else { return Ok(line.to_vec()) };
    let odd = || anyhow!("its line {} is not quoted as git quotes", one_line(&String::from_utf8_lossy(line)));
    let mut bytes = quoted.iter().copied();
    let mut plain = Vec::new();
    loop {
        plain.push(match bytes.next().ok_or_else(odd)? {
            // Git takes what follows for the next path.
            b'"' if bytes.next().is_none() => return Ok(plain),
            b'"' => return Err(odd()),
            b'\\' => match bytes.next().ok_or_else(odd)? {
                b'n' => b'\n',
                b't' => b'\t',
                same @ (b'"' | b'\\') => same,
                octal @ b'0'..=b'3' => {
                    let mut digit = || bytes.next().filter(|byte| (b'0'..=b'7').contains(byte)).map(|byte| byte - b'0');
                    let (eights, ones) = digit().zip(digit()).ok_or_else(odd)?;
                    ((octal - b'0') << 6) | (eights << 3) | ones
                }
                _ => return Err(odd()),
            },
            byte => byte,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::process::Invocation;

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
        let found: Vec<_> = of(&a).unwrap().iter().map(|store| store.canonicalize().unwrap()).collect();
        assert!(found.contains(&b) && found.contains(&c), "{found:?}");
        assert!(of(&dir.path().join("none")).unwrap().is_empty());
    }

    #[test]
    fn as_many_levels_as_git_follows_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| Invocation::new("git").args(args).cwd(dir.path()).read().unwrap();
        for number in 0..9 {
            git(&["init", "--quiet", "--bare", &number.to_string()]);
            let list = dir.path().join(format!("{number}/objects/info/alternates"));
            std::fs::write(list, format!("../../{}/objects\n", number + 1)).unwrap();
        }
        let by_git = git(&["--git-dir=0", "count-objects", "-v"]).matches("alternate: ").count();
        assert_eq!(of(&dir.path().join("0/objects")).unwrap().len(), by_git);
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        for path in ["/a b", "#a", "/\"q\"/\\", "/ü\t"] {
            let line = line(Path::new(path)).unwrap();
            assert_eq!(unquoted(line.strip_suffix(b"\n").unwrap()).unwrap(), path.as_bytes(), "{path}");
        }
        assert!(line(Path::new("/a\nb")).is_err());
    }

    #[test]
    fn quoted_lines_are_read_as_git_reads_them() {
        assert_eq!(unquoted(br#""/a\"b\\\303\274""#).unwrap(), "/a\"b\\ü".as_bytes());
        assert_eq!(unquoted(b"/a\\b").unwrap(), b"/a\\b");
        for odd in [&br#""/a"b"#[..], br#""/a"#, br#""/\a""#, br#""/\19""#, br#"""""#, b"\"", b"\"a\"\r"] {
            assert!(unquoted(odd).is_err(), "{odd:?}");
        }
    }
}
