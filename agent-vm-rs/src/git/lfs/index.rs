//! Writes sizes and times of files into a git index: gitformat-index(5).

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// Length of the header: `DIRC`, the version and the number of entries.
const HEADER: usize = 12;
/// Length of what an entry says about its file: ten numbers of 32 bits.
const STAT: usize = 40;
/// Bit of an entry's flags: there are two more bytes of flags.
const EXTENDED: u16 = 0x4000;
/// Bits of an entry's flags that have the length of its name. A longer name has all of them.
const NAME: u16 = 0x0fff;

/// Changes what an index says about `files`, so that git takes them for unchanged, and returns their number; None if this is not
/// an index of version 2 or 3 with a valid checksum.
pub fn record(index: &mut [u8], files: &BTreeMap<Vec<u8>, Metadata>) -> Option<usize> {
    let hash = checksum(index)?;
    let end = index.len() - hash;
    let version = number(index, 4)?;
    if index.get(..4) != Some(b"DIRC") || !(2..=3).contains(&version) {
        return None;
    }
    let (mut at, mut found) = (HEADER, 0);
    for _ in 0..number(index, 8)? {
        let flags = at + STAT + hash;
        let bits = u16::from_be_bytes(index.get(flags..flags + 2)?.try_into().ok()?);
        let name = flags + if version == 3 && bits & EXTENDED != 0 { 4 } else { 2 };
        let rest = index.get(name..end)?;
        let length = match usize::from(bits & NAME) {
            length if length < usize::from(NAME) => length,
            _ => rest.iter().position(|byte| *byte == 0)?,
        };
        if let Some(file) = files.get(rest.get(..length)?) {
            index.get_mut(at..at + STAT)?.copy_from_slice(&stat(file));
            found += 1;
        }
        // One to eight zero bytes fill the entry up to a multiple of eight bytes.
        at += (name - at + length + 8) / 8 * 8;
    }
    let sum = sum(&index[..end], hash);
    index[end..].copy_from_slice(&sum);
    Some(found)
}

/// Returns the length of the checksum at the end, that of the repository's object ids; None if it is wrong.
fn checksum(index: &[u8]) -> Option<usize> {
    [20, 32].into_iter().find(|length| {
        let end = index.len().checked_sub(*length).filter(|end| *end >= HEADER);
        end.is_some_and(|end| sum(&index[..end], *length) == index[end..])
    })
}

fn sum(bytes: &[u8], length: usize) -> Vec<u8> {
    if length == 20 { Sha1::digest(bytes).to_vec() } else { Sha256::digest(bytes).to_vec() }
}

fn number(index: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(index.get(at..at + 4)?.try_into().ok()?))
}

/// Returns what the index has of a file. It stores the lower 32 bits.
fn stat(file: &Metadata) -> Vec<u8> {
    let signed = i64::cast_unsigned;
    let numbers = [
        signed(file.ctime()),
        signed(file.ctime_nsec()),
        signed(file.mtime()),
        signed(file.mtime_nsec()),
        file.dev(),
        file.ino(),
        if file.mode() & 0o100 == 0 { 0o100_644 } else { 0o100_755 },
        file.uid().into(),
        file.gid().into(),
        file.size(),
    ];
    numbers.into_iter().flat_map(|number| number.to_be_bytes().into_iter().skip(4)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn git(dir: &Path, args: &[&str]) -> String {
        let output = Command::new("git").arg("-C").arg(dir).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn git_takes_recorded_files_for_unchanged() {
        for format in ["sha1", "sha256"] {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path();
            git(dir, &["init", "--quiet", &format!("--object-format={format}")]);
            // Names of every length modulo eight.
            let long = format!("{}/{}", "x".repeat(200), "y/".repeat(500) + "z");
            let names: Vec<_> = (1..20).map(|length| "n".repeat(length)).chain([long]).collect();
            for name in &names {
                fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
                fs::write(dir.join(name), "pointer").unwrap();
            }
            git(dir, &["add", "."]);
            // An entry with more flags makes an index of version 3.
            fs::write(dir.join("later"), "x").unwrap();
            git(dir, &["add", "--intent-to-add", "later"]);
            let list = |dir: &Path| git(dir, &["ls-files", "--stage"]);
            let before = list(dir);
            for name in &names {
                fs::write(dir.join(name), "contents").unwrap();
            }
            let files = names.iter().map(|name| (name.clone().into_bytes(), fs::metadata(dir.join(name)).unwrap()));
            let files: BTreeMap<_, _> = files.collect();
            let path = dir.join(".git/index");
            let mut index = fs::read(&path).unwrap();
            // Control: a damaged index.
            let mut damaged = index.clone();
            damaged[20] ^= 1;
            assert_eq!(record(&mut damaged, &files), None);
            assert_eq!(record(&mut index, &files), Some(names.len()));
            fs::write(&path, index).unwrap();
            // A file that is older than the index is not read.
            let later = std::time::SystemTime::now() + std::time::Duration::from_secs(10);
            fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
            assert_eq!(git(dir, &["diff-files", "--name-only"]), "later\n", "{format}");
            assert_eq!(list(dir), before);
            git(dir, &["fsck", "--no-dangling"]);
        }
    }
}
