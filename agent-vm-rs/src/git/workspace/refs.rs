//! Copies the references of a guest's repository into a git directory of agent-vm, where git reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{FileType, Mode, OFlags};

use super::git_failure::Unreadable;
use super::guest_files::{MAX_PACKED_REFS, is_object_id, open_inside, read_all, read_inside};
use crate::host::files::tree::{Visit, descend, entries};
use crate::host::interrupt;

/// Start of the names, in a view, of the references of the copy that `origin` leads to.
pub const OF_COPY: &[u8] = b"refs/agent-vm-origin/";
/// Largest accepted file of one reference, in bytes.
const MAX_LOOSE: u64 = 4096;
/// Largest accepted number of references in separate files.
const MAX_FILES: usize = 500_000;
/// Largest accepted number of directories of such files.
const MAX_DIRECTORIES: usize = 50_000;

/// Symbolic references: full names and contents.
type Symbolic = BTreeMap<Vec<u8>, Vec<u8>>;

/// The copied references.
#[derive(Default)]
pub struct Copied {
    /// The names and object ids that were read without git.
    pub names: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Names and values that git did not write, so that git may ignore them.
    pub odd: Vec<String>,
}

/// Returns how a repository stores references, as a value of `git init --ref-format`.
///
/// # Errors
/// Its git directory cannot be read.
pub fn format(guest: &File) -> Result<&'static str> {
    let tables = open_inside(guest, Path::new("reftable/tables.list"), OFlags::PATH)?;
    Ok(if tables.is_some() { "reftable" } else { "files" })
}

/// Copies the references, except HEAD, from the git directory `guest` to `into`.
///
/// # Errors
/// They cannot be read or written.
pub fn copy(guest: &File, into: &Path) -> Result<Copied> {
    if format(guest)? == "reftable" {
        return copy_tables(guest, into);
    }
    let (mut copied, symbolic) = read(guest)?;
    // A single file, since a long name could exceed the longest path.
    let lines = copied.names.iter().map(|(name, id)| [id.as_slice(), b" ", name, b"\n"].concat());
    fs::write(into.join("packed-refs"), lines.collect::<Vec<_>>().concat()).context("failed to copy references")?;
    for (name, contents) in symbolic {
        let path = into.join(OsStr::from_bytes(&name));
        let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, contents));
        if made.is_err() {
            copied.odd.push(format!("the reference {}", shown(&name)));
        }
    }
    Ok(copied)
}

/// Returns the references of a git directory that stores them in files; symbolic ones count as odd.
///
/// # Errors
/// They are in tables, or cannot be read.
pub fn of_files(git_dir: &File) -> Result<Copied> {
    if format(git_dir)? != "files" {
        return Err(Unreadable("the copy for origin stores references in tables".to_owned()).into());
    }
    let (mut copied, symbolic) = read(git_dir)?;
    copied.odd.extend(symbolic.keys().map(|name| format!("the symbolic reference {}", shown(name))));
    Ok(copied)
}

/// Returns the references in files, and the contents of symbolic ones.
fn read(git_dir: &File) -> Result<(Copied, Symbolic)> {
    let mut copied = Copied::default();
    if let Some(packed) = read_inside(git_dir, Path::new("packed-refs"), MAX_PACKED_REFS)? {
        copied.take_packed(&packed);
    }
    let refs = open_inside(git_dir, Path::new("refs"), OFlags::RDONLY | OFlags::DIRECTORY)?
        .ok_or_else(|| Unreadable("it has no refs directory".to_owned()))?;
    let mut loose = Loose { copied: &mut copied, symbolic: BTreeMap::new(), files: 0, directories: 0 };
    descend(refs.into(), &mut loose).context("failed to read the references")?;
    let symbolic = loose.symbolic;
    Ok((copied, symbolic))
}

impl Copied {
    fn take_packed(&mut self, packed: &[u8]) {
        for line in packed.split(|byte| *byte == b'\n') {
            let comment = line.is_empty() || line.starts_with(b"#");
            // A line `^ID` holds the object that the preceding tag points to.
            let peeled = line.strip_prefix(b"^").is_some_and(is_object_id);
            if comment || peeled {
                continue;
            }
            let mut words = line.splitn(2, |byte| *byte == b' ');
            match (words.next(), words.next()) {
                (Some(id), Some(name)) if is_object_id(id) && is_name(name) => {
                    self.names.insert(name.to_vec(), id.to_vec());
                }
                _ => self.odd.push(format!("the line {} of packed-refs", shown(line))),
            }
        }
    }
}

/// Walks through `refs`.
struct Loose<'a> {
    copied: &'a mut Copied,
    symbolic: BTreeMap<Vec<u8>, Vec<u8>>,
    files: usize,
    directories: usize,
}

impl Visit for Loose<'_> {
    const RIGHTS: Mode = Mode::RUSR.union(Mode::XUSR);

    fn enter(&mut self, dir: &OwnedFd, path: &[CString]) -> Result<Vec<CString>> {
        interrupt::check()?;
        let mut directories = Vec::new();
        for entry in entries(dir)? {
            let (name, kind) = entry?;
            if kind == FileType::Directory {
                directories.push(name);
                self.directories += 1;
                if self.directories > MAX_DIRECTORIES {
                    if self.directories == MAX_DIRECTORIES + 1 {
                        self.copied.odd.push(format!("more than {MAX_DIRECTORIES} directories of references"));
                    }
                    return Ok(Vec::new());
                }
                continue;
            }
            // A killed git leaves lock files, which git does not take for references either.
            if name.to_bytes().ends_with(b".lock") {
                continue;
            }
            self.files += 1;
            let parts = path.iter().map(|part| part.to_bytes()).chain([name.to_bytes()]);
            let whole = std::iter::once(&b"refs"[..]).chain(parts).collect::<Vec<_>>().join(&b'/');
            let file = Path::new(OsStr::from_bytes(name.to_bytes()));
            let contents = if self.files > MAX_FILES || kind != FileType::RegularFile {
                None
            } else {
                open_inside(dir, file, OFlags::RDONLY)?
            };
            let contents = contents.map(|file| read_all(file, MAX_LOOSE)).transpose()?.unwrap_or_default();
            let value = contents.trim_ascii_end();
            if is_object_id(value) && is_name(&whole) {
                self.copied.names.insert(whole, value.to_vec());
            } else if value.starts_with(b"ref: refs/") && is_name(&whole) {
                // A broken loose reference hides the packed one of the same name.
                self.copied.names.remove(&whole);
                self.symbolic.insert(whole, contents);
            } else {
                self.copied.odd.push(format!("the reference {}", shown(&whole)));
                if self.copied.odd.len() > 100 {
                    return Ok(Vec::new());
                }
            }
        }
        Ok(directories)
    }
}

/// Copies reference tables (reftable), which only git parses.
fn copy_tables(guest: &File, into: &Path) -> Result<Copied> {
    let mut copied = Copied::default();
    for other in ["packed-refs", "refs/heads/"] {
        if open_inside(guest, Path::new(other), OFlags::PATH).is_ok_and(|found| found.is_some()) {
            copied.odd.push(format!("{other} beside a table of references"));
        }
    }
    let dir = open_inside(guest, Path::new("reftable"), OFlags::RDONLY | OFlags::DIRECTORY)?
        .ok_or_else(|| Unreadable("it has no table of references".to_owned()))?;
    let dir = OwnedFd::from(dir);
    let mut left = MAX_PACKED_REFS;
    for entry in entries(&dir).context("failed to list the references")? {
        let (name, _) = entry.context("failed to list the references")?;
        let name = OsStr::from_bytes(name.to_bytes());
        let contents = read_inside(&dir, Path::new(name), left)?.unwrap_or_default();
        left = left.saturating_sub(contents.len() as u64);
        fs::write(into.join("reftable").join(name), contents).context("failed to copy references")?;
    }
    Ok(copied)
}

/// Returns whether a name is valid as the full name of a reference.
fn is_name(name: &[u8]) -> bool {
    name.starts_with(b"refs/") && gix_validate::reference::name(name.into()).is_ok()
}

/// Returns the copied references that git does not list.
pub fn missing(copied: &Copied, named: &BTreeSet<Vec<u8>>) -> Vec<String> {
    let unnamed = copied.names.keys().filter(|name| !named.contains(*name));
    unnamed.map(|name| format!("the reference {}", shown(name))).collect()
}

/// Returns bytes as text for messages, shortened if it is long.
pub fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
    let text = crate::term::text::one_line(&text);
    if bytes.len() > 80 { text + "…" } else { text }
}
