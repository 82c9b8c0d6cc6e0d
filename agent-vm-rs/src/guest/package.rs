//! A guest package in the cache, and whether it still is what was built: a cache may be cut by a full disk, or emptied
//! by somebody else.

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

/// What was built: files by their names in the package.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    files: BTreeMap<String, Built>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Built {
    size: u64,
    /// When the file, or what is known of it, was changed last: seconds and nanoseconds. While this is the same so are
    /// the contents.
    changed: (i64, i64),
    sha256: String,
}

/// What is to be said of a package.
#[derive(Debug, PartialEq, Eq)]
pub enum Condition {
    /// There is none.
    Missing,
    /// It is what was built.
    Well,
    /// It is not, for this reason.
    Damaged(String),
}

/// Looks at a package: at sizes and times, and at the contents only of what was touched since.
///
/// # Errors
/// A file can be neither read nor said to be damaged.
pub fn condition(package: &Path) -> Result<Condition> {
    if !package.is_dir() {
        return Ok(Condition::Missing);
    }
    let record = record_of(package);
    let recorded = read_text(&record).ok().and_then(|text| serde_json::from_str::<Record>(&text).ok());
    let Some(mut recorded) = recorded else {
        return Ok(Condition::Damaged("nothing tells whether its build was finished".to_owned()));
    };
    let mut touched = false;
    for (name, built) in &mut recorded.files {
        let path = package.join(name);
        let found = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() => found,
            _ => return Ok(Condition::Damaged(format!("{name} is missing"))),
        };
        if found.len() != built.size {
            let sizes = format!("{name} has {} bytes of {}", found.len(), built.size);
            return Ok(Condition::Damaged(sizes));
        }
        if changed(&found) != built.changed {
            if sha256(&path)? != built.sha256 {
                return Ok(Condition::Damaged(format!("{name} has other contents")));
            }
            touched = true;
            built.changed = changed(&found);
        }
    }
    if touched {
        // So that the next look is a short one; without it, it is not.
        drop(write(&record, &recorded));
    }
    Ok(Condition::Well)
}

/// Remembers what was built.
///
/// # Errors
/// A file cannot be read, or the record not written.
pub fn remember(package: &Path) -> Result<()> {
    let mut files = BTreeMap::new();
    for entry in walkdir::WalkDir::new(package) {
        let entry = entry.with_context(|| format!("failed to look at {}", package.display()))?;
        let found = entry.metadata().with_context(|| format!("failed to look at {}", entry.path().display()))?;
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

/// Beside the package, of which nothing is changed once it is built.
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
    fn what_was_built_is_well_until_something_of_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(condition(&dir.path().join("none")).unwrap(), Condition::Missing);
        let package = package(dir.path());
        let image = package.join("base.img");
        let damaged = || match condition(&package).unwrap() {
            Condition::Damaged(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(damaged().contains("whether its build was finished"));
        remember(&package).unwrap();
        assert_eq!(condition(&package).unwrap(), Condition::Well);
        // Copied, as by a backup: the same contents, other times.
        let contents = fs::read(&image).unwrap();
        fs::remove_file(&image).unwrap();
        fs::write(&image, &contents).unwrap();
        assert_eq!(condition(&package).unwrap(), Condition::Well);
        fs::write(&image, vec![0; contents.len()]).unwrap();
        assert_eq!(damaged(), "base.img has other contents");
        fs::write(&image, &contents[..10]).unwrap();
        assert_eq!(damaged(), "base.img has 10 bytes of 100000");
        fs::write(&image, &contents).unwrap();
        assert_eq!(condition(&package).unwrap(), Condition::Well);
        fs::write(package.join("share/manifest.json"), "").unwrap();
        assert_eq!(damaged(), "share/manifest.json has 0 bytes of 2");
        fs::remove_dir_all(package.join("share")).unwrap();
        assert_eq!(damaged(), "share/manifest.json is missing");
    }
}
