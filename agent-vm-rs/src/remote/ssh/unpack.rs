//! Unpacks an archive that a guest sent. The guest chooses every byte of it: names, kinds, modes, sizes.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tar::{Archive, EntryType};

use crate::term::error::Failure;
use crate::term::text::{bytes, one_line};

/// Name of the directory of a git repository: git would run programs that its files name.
const REPOSITORY: &[u8] = b".git";

/// Name of the file without which git takes a directory for no repository, also for a bare one of another name than `.git`.
const HEAD: &[u8] = b"HEAD";

/// Number of bytes that git reads of a `HEAD`.
const HEAD_BYTES: u64 = 256;

/// Longest path, in bytes: no file system has a longer one (`PATH_MAX`).
const LONGEST_NAME: u64 = 4096;

/// Size of a header, in bytes. It counts for the limit, so that the number of files has one, too.
const HEADER: u64 = 512;

/// What was not unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Symbolic links, devices, pipes and sockets.
    pub special: usize,
    /// Files of git repositories.
    pub git: usize,
}

/// Unpacks an archive to `item`, which does not exist: as a directory if its paths begin with `./`, else as one file. Only files and
/// directories are created, each once, in directories that this created: in a directory that no other program writes, no link can
/// lead out of it. Modes are the user's usual ones; only the permission to execute is kept. At most `most` bytes are unpacked.
///
/// # Errors
/// A path leads elsewhere, occurs twice or lacks its directory, there is too much, or a file cannot be written.
pub fn unpack(stream: impl Read, item: &Path, most: u64) -> Result<LeftOut> {
    let mut left_out = LeftOut::default();
    let mut left = most;
    let mut archive = Archive::new(stream);
    let mut long = None;
    // Raw: the crate itself would read a long name of any length into memory.
    for entry in archive.entries().context("failed to read the machine's answer")?.raw(true) {
        let mut entry = entry.context("failed to read the machine's answer")?;
        let size = entry.size().saturating_add(HEADER);
        left = left.checked_sub(size).ok_or_else(|| too_much(most))?;
        match entry.header().entry_type() {
            EntryType::GNULongName => {
                long = Some(long_name(&mut entry)?);
                continue;
            }
            EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader => continue,
            _ => {}
        }
        let name = long.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        let Some(parts) = parts(&name) else {
            let shown = one_line(&String::from_utf8_lossy(&name)).escape_debug().to_string();
            return Err(Failure::new(format!("the machine sent a file outside the copied directory: {shown}")).into());
        };
        if parts.iter().any(|part| part.eq_ignore_ascii_case(REPOSITORY)) {
            left_out.git += 1;
            continue;
        }
        let path =
            parts.iter().fold(item.to_owned(), |path: PathBuf, part| path.join(std::ffi::OsStr::from_bytes(part)));
        let failed = || format!("failed to write {}", path.display());
        match entry.header().entry_type() {
            EntryType::Directory => DirBuilder::new().create(&path).with_context(failed)?,
            EntryType::Regular => {
                let runs = entry.header().mode().unwrap_or(0) & 0o100 != 0;
                let mut start = Vec::new();
                if parts.last().is_some_and(|name| name.eq_ignore_ascii_case(HEAD)) {
                    (&mut entry)
                        .take(HEAD_BYTES)
                        .read_to_end(&mut start)
                        .context("failed to read the machine's answer")?;
                    if is_head(&start) {
                        left_out.git += 1;
                        continue;
                    }
                }
                let mode = if runs { 0o777 } else { 0o666 };
                let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
                let mut file = file.with_context(failed)?;
                io::copy(&mut start.chain(&mut entry), &mut file).with_context(failed)?;
            }
            _ => left_out.special += 1,
        }
    }
    Ok(left_out)
}

fn too_much(most: u64) -> Failure {
    Failure::new(format!("the machine sent more than {}", bytes(most)))
        .with_hint(format!("to copy more: agent-vm cp --max-size {} SRC DST", (most >> 20) * 2))
}

/// Returns whether git takes a file named `HEAD` that starts like this for that of a repository: it leads to a reference, or has
/// the id of a commit.
fn is_head(start: &[u8]) -> bool {
    match start.strip_prefix(b"ref:") {
        Some(name) => name.trim_ascii_start().starts_with(b"refs/"),
        None => start.get(..40).is_some_and(|id| id.iter().all(u8::is_ascii_hexdigit)),
    }
}

/// Returns the content of an entry that is the name of the next one.
fn long_name(entry: &mut impl Read) -> Result<Vec<u8>> {
    let mut name = Vec::new();
    entry.take(LONGEST_NAME).read_to_end(&mut name).context("failed to read the machine's answer")?;
    name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
    Ok(name)
}

/// Returns the parts of an entry's path below the item; none for the item itself. None for a path that leads elsewhere.
fn parts(name: &[u8]) -> Option<Vec<&[u8]>> {
    let Some(below) = name.strip_prefix(b"./") else {
        // A single file.
        return (!name.is_empty() && !name.contains(&b'/') && name != b".." && !name.contains(&0)).then(Vec::new);
    };
    let below = below.strip_suffix(b"/").unwrap_or(below);
    if below.is_empty() {
        return Some(Vec::new());
    }
    let parts: Vec<_> = below.split(|byte| *byte == b'/').collect();
    let is_plain = |part: &&[u8]| !part.is_empty() && *part != b"." && *part != b".." && !part.contains(&0);
    parts.iter().all(is_plain).then_some(parts)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::host::process::Invocation;

    /// Returns an archive of entries with these names, kinds and modes, whatever they are.
    fn archive(entries: &[(&str, EntryType, u32)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, kind, mode) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            if *kind == EntryType::Symlink {
                header.as_gnu_mut().unwrap().linkname[..9].copy_from_slice(b"../escape");
            }
            header.set_size(if *kind == EntryType::Regular { 3 } else { 0 });
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            if *kind == EntryType::Regular {
                bytes.extend_from_slice(b"abc");
                bytes.resize(bytes.len().next_multiple_of(512), 0);
            }
        }
        bytes.extend_from_slice(&[0; 1024]);
        bytes
    }

    const MOST: u64 = 1 << 20;

    const DIR: (&str, EntryType, u32) = ("./", EntryType::Directory, 0o755);

    #[test]
    fn files_and_directories_are_unpacked_without_their_special_modes() {
        let dir = tempfile::tempdir().unwrap();
        let item = dir.path().join("item");
        let entries = [
            DIR,
            ("./sub/", EntryType::Directory, 0o7777),
            ("./sub/run", EntryType::Regular, 0o6755),
            ("./plain\u{1b}[2J", EntryType::Regular, 0o600),
            ("./link", EntryType::Symlink, 0o777),
            ("./pipe", EntryType::Fifo, 0o644),
            ("./disk", EntryType::Block, 0o644),
            ("./.GIT/", EntryType::Directory, 0o755),
            ("./.GIT/config", EntryType::Regular, 0o644),
        ];
        let left_out = unpack(archive(&entries).as_slice(), &item, MOST).unwrap();
        assert_eq!(left_out, LeftOut { special: 3, git: 2 });
        let mode = |path: &str| fs::symlink_metadata(item.join(path)).unwrap().permissions().mode();
        assert_eq!(mode("sub/run") & 0o7100, 0o100);
        assert_eq!((mode("sub") & 0o7000, mode("plain\u{1b}[2J") & 0o111), (0, 0));
        let mut names: Vec<_> = fs::read_dir(&item).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["plain\u{1b}[2J", "sub"]);

        let long = dir.path().join("long");
        let mut packed = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o644);
        packed.append_data(&mut header, "x".repeat(200), &b"abc"[..]).unwrap();
        unpack(packed.into_inner().unwrap().as_slice(), &long, MOST).unwrap();
        assert_eq!(fs::read(long).unwrap(), b"abc");

        let file = dir.path().join("file");
        unpack(archive(&[("name", EntryType::Regular, 0o644)]).as_slice(), &file, MOST).unwrap();
        assert_eq!(fs::read(file).unwrap(), b"abc");
    }

    /// Git itself says what is a repository.
    #[test]
    fn no_copied_directory_is_a_repository_whatever_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let run = |at: &Path, args: &[&str]| {
            let git = Invocation::new("git").args(["-C"]).arg(at).args(args);
            git.env("GIT_CEILING_DIRECTORIES", dir.path()).env("HOME", dir.path()).output().unwrap()
        };
        let is_repository = |at: &Path| run(at, &["rev-parse", "--git-dir"]).status.success();
        let bare = dir.path().join("bare");
        fs::create_dir(&bare).unwrap();
        assert!(run(&bare, &["init", "--bare", "--quiet", "."]).status.success());
        let id = "0123456789abcdef0123456789abcdef01234567";
        for (number, head) in ["ref: refs/heads/main\n", "ref:\t refs/x", id, &id.repeat(2)].iter().enumerate() {
            fs::write(bare.join("HEAD"), head).unwrap();
            assert!(is_repository(&bare), "control: {head}");
            let item = dir.path().join(format!("item-{number}"));
            let tar = Invocation::new("tar").args(["--format=gnu", "-cf", "-", "-C"]).arg(&bare).arg(".");
            let packed = tar.output().unwrap().stdout;
            assert_eq!(unpack(packed.as_slice(), &item, MOST).unwrap().git, 1, "{head}");
            assert!(item.join("objects").is_dir() && !is_repository(&item), "{head}");
        }
        // Control: another file of that name.
        let item = dir.path().join("other");
        let entries = [DIR, ("./HEAD", EntryType::Regular, 0o644), ("./head", EntryType::Regular, 0o644)];
        assert_eq!(unpack(archive(&entries).as_slice(), &item, MOST).unwrap(), LeftOut::default());
        assert_eq!(fs::read(item.join("HEAD")).unwrap(), b"abc");
    }

    #[test]
    fn hostile_archives_write_nothing_elsewhere() {
        for entries in [
            vec![DIR, ("./../escape", EntryType::Regular, 0o644)],
            vec![DIR, ("../escape", EntryType::Regular, 0o644)],
            vec![DIR, ("/tmp/escape", EntryType::Regular, 0o644)],
            vec![DIR, ("./a/../../escape", EntryType::Regular, 0o644)],
            vec![DIR, (".//escape", EntryType::Regular, 0o644)],
            vec![("..", EntryType::Regular, 0o644)],
            // A link, and then a file through it.
            vec![DIR, ("./a", EntryType::Symlink, 0o777), ("./a/escape", EntryType::Regular, 0o644)],
            // The same path twice.
            vec![DIR, ("./a", EntryType::Regular, 0o644), ("./a", EntryType::Regular, 0o644)],
            vec![("a", EntryType::Regular, 0o644), ("b", EntryType::Regular, 0o644)],
            vec![("a", EntryType::Symlink, 0o777)],
            vec![],
        ] {
            let dir = tempfile::tempdir().unwrap();
            let item = dir.path().join("staging/item");
            fs::create_dir(dir.path().join("staging")).unwrap();
            let unpacked = unpack(archive(&entries).as_slice(), &item, MOST);
            assert!(unpacked.is_err() || !item.exists(), "{entries:?}");
            let found: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(found, ["staging"], "{entries:?}");
        }
    }
}
