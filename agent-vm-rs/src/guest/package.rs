//! Checks a guest package in the cache. A full disk or another program may have damaged it since it was built.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::host::files::{open_file, read_text, write_file};
use crate::host::hex::hex;

/// The files of a package as they were built, by name.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    files: BTreeMap<String, Built>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Built {
    size: u64,
    /// When the file or its metadata last changed: seconds and nanoseconds. While this stays the same, so do the
    /// contents.
    changed: (i64, i64),
    sha256: String,
}

/// The condition of a package.
#[derive(Debug, PartialEq, Eq)]
pub enum Condition {
    /// It does not exist.
    Missing,
    /// It is as it was built.
    Well,
    /// It is damaged, for this reason.
    Damaged(String),
}

/// Checks a package: sizes and times of all files, and the contents of files that changed since.
///
/// # Errors
/// A file cannot be read.
pub fn condition(package: &Path) -> Result<Condition> {
    if !package.is_dir() {
        return Ok(Condition::Missing);
    }
    let record = record_of(package);
    let recorded = read_text(&record).ok().and_then(|text| serde_json::from_str::<Record>(&text).ok());
    let Some(mut recorded) = recorded else {
        return Ok(Condition::Damaged("its build did not finish".to_owned()));
    };
    let mut touched = false;
    for (name, built) in &mut recorded.files {
        let path = package.join(name);
        let found = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() => found,
            _ => return Ok(Condition::Damaged(format!("{name} is missing"))),
        };
        if found.len() != built.size {
            let sizes = format!("{name} has {} bytes and should have {}", found.len(), built.size);
            return Ok(Condition::Damaged(sizes));
        }
        if changed(&found) != built.changed {
            if sha256(&path)? != built.sha256 {
                return Ok(Condition::Damaged(format!("the contents of {name} changed")));
            }
            touched = true;
            built.changed = changed(&found);
        }
    }
    if touched {
        // The record only makes the next check faster, so a failed write is harmless.
        drop(write(&record, &recorded));
    }
    Ok(Condition::Well)
}

/// Records the files of a new package.
///
/// # Errors
/// A file cannot be read, or the record cannot be written.
pub fn remember(package: &Path) -> Result<()> {
    let mut files = BTreeMap::new();
    for entry in walkdir::WalkDir::new(package) {
        let entry = entry.with_context(|| format!("failed to read {}", package.display()))?;
        let found = entry.metadata().with_context(|| format!("failed to read {}", entry.path().display()))?;
        let name = entry.path().strip_prefix(package).ok().and_then(Path::to_str);
        if let (true, Some(name)) = (found.is_file(), name) {
            let built = Built { size: found.len(), changed: changed(&found), sha256: sha256(entry.path())? };
            files.insert(name.to_owned(), built);
        }
    }
    write(&record_of(package), &Record { files })
}

fn write(path: &Path, record: &Record) -> Result<()> {
    let text = serde_json::to_string(record).context("failed to write a record as JSON")?;
    write_file(path, text + "\n", 0o600)
}

/// Returns the record's path, which is beside the package: a built package is never changed.
fn record_of(package: &Path) -> PathBuf {
    let name = package.file_name().unwrap_or_default().display();
    package.with_file_name(format!(".{name}.files.json"))
}

fn changed(found: &Metadata) -> (i64, i64) {
    (found.ctime(), found.ctime_nsec())
}

fn sha256(path: &Path) -> Result<String> {
    let mut file = open_file(path)?;
    let mut hasher = Sha256::new();
    let mut part = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut part).with_context(|| format!("failed to read {}", path.display()))?;
        match part.get(..read) {
            Some(bytes) if read > 0 => hasher.update(bytes),
            _ => break,
        }
    }
    Ok(hex(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(dir: &Path) -> PathBuf {
        let package = dir.join("debian-1");
        fs::create_dir_all(package.join("share")).unwrap();
        fs::write(package.join("base.img"), vec![7; 100_000]).unwrap();
        fs::write(package.join("share/manifest.json"), "{}").unwrap();
        package
    }

    #[test]
    fn an_image_is_intact_until_a_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(condition(&dir.path().join("none")).unwrap(), Condition::Missing);
        let package = package(dir.path());
        let image = package.join("base.img");
        let damaged = || match condition(&package).unwrap() {
            Condition::Damaged(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(damaged().contains("its build did not finish"));
        remember(&package).unwrap();
        assert_eq!(condition(&package).unwrap(), Condition::Well);
        // A copy, as from a backup, has the same contents and other times.
        let contents = fs::read(&image).unwrap();
        fs::remove_file(&image).unwrap();
        fs::write(&image, &contents).unwrap();
        assert_eq!(condition(&package).unwrap(), Condition::Well);
        fs::write(&image, vec![0; contents.len()]).unwrap();
        assert_eq!(damaged(), "the contents of base.img changed");
        fs::write(&image, &contents[..10]).unwrap();
        assert_eq!(damaged(), "base.img has 10 bytes and should have 100000");
        fs::write(&image, &contents).unwrap();
        assert_eq!(condition(&package).unwrap(), Condition::Well);
        fs::write(package.join("share/manifest.json"), "").unwrap();
        assert_eq!(damaged(), "share/manifest.json has 0 bytes and should have 2");
        fs::remove_dir_all(package.join("share")).unwrap();
        assert_eq!(damaged(), "share/manifest.json is missing");
    }
}
