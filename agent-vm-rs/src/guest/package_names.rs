//! Checks names of Debian packages against the list that an image build left in the cache.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::time::SystemTime;

use crate::guest::images::PREPARED;
use crate::term::error::Failure;

/// The list in a built guest (`docs/reference/contract.md`).
const LIST: &str = "share/agent-vm/packages.txt";
/// Largest accepted list, in bytes. Debian 13 has 70,000 names in 1.5 MiB.
const LONGEST: u64 = 32 << 20;
/// Largest number of suggested names, and largest edit distance of one.
const MOST_MEANT: usize = 3;
const FURTHEST: usize = 2;

/// Checks that every name is a Debian package, if an image was built here.
///
/// # Errors
/// The first unknown name, with similar names as a hint.
pub fn check(names: &[String], cache: &Path) -> Result<(), Failure> {
    let Some(list) = newest_list(&cache.join("guests")) else { return Ok(()) };
    let known: std::collections::BTreeSet<&str> = list.lines().collect();
    let Some(unknown) = names.iter().find(|name| !known.contains(name.as_str())) else { return Ok(()) };
    let mut meant: Vec<_> = known
        .iter()
        .filter(|name| name.len().abs_diff(unknown.len()) <= FURTHEST)
        .map(|name| (strsim::damerau_levenshtein(name, unknown), *name))
        .filter(|(distance, _)| *distance <= FURTHEST)
        .collect();
    meant.sort_unstable();
    let meant: Vec<_> = meant.into_iter().take(MOST_MEANT).map(|(_, name)| name).collect();
    let failure = Failure::usage(format!("Debian has no package {unknown}"));
    Err(if meant.is_empty() {
        failure.with_hint("apt-cache search WORD finds the names of Debian's packages")
    } else {
        failure.with_hint(format!("did you mean {}?", meant.join(", ")))
    })
}

/// Returns the newest readable list of a built image; None if there is none.
fn newest_list(guests: &Path) -> Option<String> {
    let built = |entry: fs::DirEntry| {
        let path = entry.path().join(LIST);
        let time = fs::metadata(&path).and_then(|list| list.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        // The name of an unfinished image starts with a dot, and so does that of a whole one that no start has used yet.
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        let is_built = (name.starts_with(PREPARED.as_bytes()) || !name.starts_with(b".")) && path.is_file();
        is_built.then_some((time, path))
    };
    let (_, path) = fs::read_dir(guests).ok()?.flatten().filter_map(built).max()?;
    let mut list = String::new();
    File::open(path).ok()?.take(LONGEST).read_to_string(&mut list).ok()?;
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_against_a_built_image() {
        let cache = tempfile::tempdir().unwrap();
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        // Without a built image, the first build finds unknown names.
        assert!(check(&names(&["no-such-package"]), cache.path()).is_ok());
        let prepared = cache.path().join("guests/.prepared-a").join(LIST);
        fs::create_dir_all(prepared.parent().unwrap()).unwrap();
        fs::write(&prepared, "nodejs\n").unwrap();
        assert!(check(&names(&["nodejs"]), cache.path()).is_ok());
        assert!(check(&names(&["nodejss"]), cache.path()).is_err());
        fs::remove_file(prepared).unwrap();
        for (image, list) in [("debian-a", "g++\nnodejs\n"), (".debian-b.tmp-x", "no-such-package\n")] {
            let path = cache.path().join("guests").join(image).join(LIST);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, list).unwrap();
        }
        assert!(check(&names(&["g++", "nodejs"]), cache.path()).is_ok());
        let error = check(&names(&["g++", "no-such-package"]), cache.path()).unwrap_err();
        assert_eq!(error.to_string(), "Debian has no package no-such-package");
        let error = check(&names(&["ndoejs"]), cache.path()).unwrap_err();
        assert_eq!(error.hint(), Some("did you mean nodejs?"));
    }
}
