//! Copies Git LFS files. The repository holds only pointers; the contents, where the user has fetched them, are in
//! `lfs/objects` of its git directory. Git LFS itself does not run, since the repository's attributes configure it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use super::call::git_in;
use super::discover::Place;
use crate::host::files::beneath::open_file;
use crate::term::progress::{self, note};
use crate::term::text;

/// Largest pointer file, in bytes; the limit of the LFS specification.
const MAX_POINTER: u64 = 1024;
/// The first line of a pointer file.
const VERSION: &str = "version https://git-lfs.github.com/spec/v1";

/// A parsed pointer file.
#[derive(Debug, PartialEq, Eq)]
struct Pointer {
    /// SHA-256 of the contents, as 64 hexadecimal digits.
    oid: String,
    /// Size of the contents, in bytes.
    size: u64,
}

/// Copies the contents of a new work tree's LFS pointers from the source repository to where `git lfs checkout` reads
/// them, and prints how many it found.
///
/// # Errors
/// The work tree cannot be listed, or the workspace cannot be written.
pub fn copy_objects(source: &Place, work_tree: &Path, git_dir: &Path, scratch: &Path) -> Result<()> {
    let pointers = pointers(work_tree, scratch)?;
    if pointers.is_empty() {
        return Ok(());
    }
    let mut brought = 0;
    progress::step("copying Git LFS files", || {
        for pointer in &pointers {
            crate::host::interrupt::check()?;
            brought += usize::from(copy(pointer, &source.common_dir, git_dir)?);
        }
        Ok(())
    })?;
    let count = text::count(pointers.len(), "Git LFS file");
    let contents = match brought {
        0 => format!(
            "their contents are missing from {} (run git lfs fetch before agent-vm create)",
            source.common_dir.join("lfs").display()
        ),
        all if all == pointers.len() => "their contents are copied".to_owned(),
        some => format!("the contents of {some} are copied (run git lfs fetch before agent-vm create to get all)"),
    };
    note(&format!(
        "{count} remain pointers in the machine; {contents}. In a machine created with --package git-lfs: \
         git lfs install --local && git lfs checkout"
    ));
    Ok(())
}

/// Returns the pointers among the files that have the attribute `filter=lfs`.
fn pointers(work_tree: &Path, scratch: &Path) -> Result<Vec<Pointer>> {
    // Most repositories use no LFS attribute; skip the slow listing for them.
    let attributes =
        git_in(work_tree).args(["grep", "--cached", "--quiet", "-F", "filter=lfs"]).args(["--", ".gitattributes"]);
    let attributes =
        attributes.args([":(glob)**/.gitattributes"]).env("GIT_LITERAL_PATHSPECS", "0").of_machine(scratch);
    if !attributes.output()?.status.success() {
        return Ok(Vec::new());
    }
    let list = git_in(work_tree).args(["ls-files", "-z", "--", ":(attr:filter=lfs)"]).env("GIT_LITERAL_PATHSPECS", "0");
    let printed = list.of_machine(scratch).checked().context("failed to list Git LFS files")?.stdout;
    let root = File::open(work_tree).with_context(|| format!("failed to open {}", work_tree.display()))?;
    let paths = printed.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    Ok(paths.filter_map(|path| parse(&read_beneath(&root, path, MAX_POINTER)?)).collect())
}

/// Parses a pointer file: a version line, then lines of a key and a value.
fn parse(bytes: &[u8]) -> Option<Pointer> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    if lines.next() != Some(VERSION) {
        return None;
    }
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    let oid = value("oid")?.strip_prefix("sha256:")?;
    let is_hash = oid.len() == 64 && oid.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    is_hash.then(|| Some(Pointer { oid: oid.to_owned(), size: value("size")?.parse().ok()? }))?
}

/// Copies the contents of a pointer; returns false if they are missing or have another size or hash.
fn copy(pointer: &Pointer, source: &Path, git_dir: &Path) -> Result<bool> {
    let Pointer { oid, size } = pointer;
    let relative: PathBuf = ["lfs", "objects", &oid[..2], &oid[2..4], oid].iter().collect();
    let Ok(root) = File::open(source) else { return Ok(false) };
    let Some(mut from) = open_file(&root, &relative) else { return Ok(false) };
    if from.metadata().map_or(0, |file| file.len()) != *size {
        return Ok(false);
    }
    let target = git_dir.join(&relative);
    if target.exists() {
        return Ok(true);
    }
    let dir = target.parent().unwrap_or(git_dir);
    let failed = || format!("failed to copy the Git LFS file {}", relative.display());
    fs::create_dir_all(dir).with_context(failed)?;
    let mut to = tempfile::NamedTempFile::new_in(dir).with_context(failed)?;
    let (mut hash, mut buffer, mut left) = (Sha256::new(), vec![0; 1 << 20], *size);
    while left > 0 {
        let read = from.read(&mut buffer).with_context(failed)?;
        ensure!(read > 0, "{} shrank while it was copied", relative.display());
        let part = &buffer[..usize::try_from(left).unwrap_or(usize::MAX).min(read)];
        hash.update(part);
        to.write_all(part).with_context(failed)?;
        left -= part.len() as u64;
    }
    // A file with another hash is not what the pointer names.
    if crate::host::hex::hex(&hash.finalize()) != *oid {
        return Ok(false);
    }
    to.persist(&target).map_err(|error| error.error).with_context(failed)?;
    Ok(true)
}

/// Returns at most `limit` bytes of a plain file below `root`, following no symbolic link.
fn read_beneath(root: &File, path: &[u8], limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = open_file(root, OsStr::from_bytes(path).as_ref())?;
    file.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_distinguished_from_other_files() {
        let oid = "0123456789abcdef".repeat(4);
        let text = format!("{VERSION}\noid sha256:{oid}\nsize 12\n");
        assert_eq!(parse(text.as_bytes()), Some(Pointer { oid: oid.clone(), size: 12 }));
        for other in [
            "",
            "contents",
            VERSION,
            &format!("{VERSION}\noid sha256:../../x\nsize 1\n"),
            &format!("{VERSION}\noid sha256:{oid}\nsize x\n"),
            &format!("oid sha256:{oid}\nsize 1\n"),
        ] {
            assert_eq!(parse(other.as_bytes()), None, "{other:?}");
        }
    }
}
