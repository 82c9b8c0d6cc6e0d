//! Checks that a git directory consists of its own files. A symbolic link in a downloaded one could lead to the
//! references and objects of any other repository of the user, whose history the machine would then get.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::discover::Place;
use crate::host::files::{plain, quoted};
use crate::host::interrupt::Deadline;
use crate::term::error::Failure;

/// The entries of a git directory that git reads.
const READ: [&str; 8] = ["HEAD", "config", "index", "objects", "packed-refs", "refs", "reftable", "shallow"];

/// Those that hold references.
const REFERENCES: [&str; 3] = ["packed-refs", "refs", "reftable"];

/// The entries of a git directory that git writes, beside files with names in capitals such as `MERGE_MSG`. Git makes the file
/// that a link leads to if there is none.
const WRITTEN: [&str; 7] = ["config", "config.worktree", "index", "logs", "packed-refs", "rr-cache", "sequencer"];
/// The same for Git LFS. Its store may be the user's own link, for example to another disk; see [`super::users_git`].
const WRITTEN_BY_LFS: [&str; 2] = ["lfs/tmp", "lfs/logs"];

/// Names of the files of a work tree that git reads; the first two can be in each directory.
const READ_IN_WORK_TREES: [&str; 3] = [".gitignore", ".gitattributes", ".gitmodules"];

/// Largest accepted file that git reads whole, in bytes. 256 MiB hold three million references. (Git maps packs in
/// parts.)
const MAX_READ_WHOLE: u64 = 256 << 20;
/// Largest accepted index, in bytes; it has a few hundred bytes for each file.
const MAX_INDEX: u64 = 1 << 30;

/// Largest accepted file `.git` with the path of a git directory, in bytes.
const MAX_POINTER: u64 = 16 << 10;

/// Levels of a part of an object store in which git reads files, such as `pack/multi-pack-index.d/FILE`.
const DEEPEST_IN_PART: usize = 2;

/// Refuses a repository whose git directory leads out of itself or has something that is neither a file nor a
/// directory.
///
/// # Errors
/// It does, or it cannot be read.
pub fn check(place: &Place) -> Result<()> {
    let linked = place.is_linked().then_some(&place.git_dir);
    for dir in [&place.common_dir].into_iter().chain(linked) {
        for part in READ.map(|name| dir.join(name)) {
            for entry in walkdir::WalkDir::new(&part).follow_links(false) {
                let entry = match entry {
                    Ok(entry) => entry,
                    // The entry is optional, and git may remove files meanwhile.
                    Err(error) if error.io_error().is_some_and(|error| error.kind() == ErrorKind::NotFound) => continue,
                    Err(error) => return Err(error).with_context(|| format!("failed to look at {}", part.display())),
                };
                let kind = entry.file_type();
                let is_loop = REFERENCES.iter().any(|name| part.ends_with(name)) && is_inner_link(&entry);
                let harmless = kind.is_file() || kind.is_dir() || (kind.is_symlink() && stays(entry.path(), place));
                let harmless = harmless && !is_loop;
                if !harmless {
                    return Err(refused(entry.path()));
                }
                let most = if part.ends_with("index") { MAX_INDEX } else { MAX_READ_WHOLE };
                if kind.is_file() && !part.ends_with("objects") && entry.metadata().is_ok_and(|file| file.len() > most)
                {
                    return Err(too_large(entry.path(), most));
                }
            }
        }
    }
    Ok(())
}

/// Checks that a git directory's references are files and directories, so that git does not wait for a pipe.
///
/// # Errors
/// A reference is something else, or a link to a directory, which could hold a pipe or lead git in circles.
pub fn require_files_in_refs(git_dir: &Path) -> Result<()> {
    for part in REFERENCES.map(|name| git_dir.join(name)) {
        for entry in walkdir::WalkDir::new(&part).into_iter().flatten() {
            require_file(&entry, git_dir)?;
            if is_inner_link(&entry) {
                return Err(refused(entry.path()));
            }
        }
    }
    Ok(())
}

/// Checks that what git writes into a git directory, apart from references and objects, are files of its own. Git writes
/// through a link, for example the message of a commit into any file of the user.
///
/// # Errors
/// Something is a link, or neither a file nor a directory, or the git directory cannot be read.
pub fn require_own_files(git_dir: &Path) -> Result<()> {
    let is_plain = |kind: fs::FileType| kind.is_file() || kind.is_dir();
    if let Some(link) = WRITTEN_BY_LFS.map(|name| git_dir.join(name)).iter().find(|path| path.is_symlink()) {
        return Err(refused(link));
    }
    let entries = fs::read_dir(git_dir).with_context(|| format!("failed to list {}", git_dir.display()))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_in_capitals = name != "HEAD" && name.as_encoded_bytes().first().is_some_and(u8::is_ascii_uppercase);
        if !is_in_capitals && !WRITTEN.iter().any(|written| name == *written) {
            continue;
        }
        // A search follows a link that it begins at.
        if !entry.file_type().is_ok_and(is_plain) {
            return Err(refused(&entry.path()));
        }
        let mut below = walkdir::WalkDir::new(entry.path()).into_iter().flatten();
        if let Some(other) = below.find(|below| !is_plain(below.file_type())) {
            return Err(refused(other.path()));
        }
    }
    Ok(())
}

/// Returns the parts of an object store that git reads, without the lists of other stores: those that are there, and `pack`.
pub fn parts_of_store(store: &Path) -> Vec<PathBuf> {
    let is_loose = |name: &str| name.len() == 2 && name.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
    let entries = fs::read_dir(store).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let loose = names.filter(|name| is_loose(name)).map(PathBuf::from);
    let graphs = ["info/commit-graph", "info/commit-graphs"].map(PathBuf::from).into_iter();
    let graphs = graphs.filter(|part| store.join(part).symlink_metadata().is_ok());
    [PathBuf::from("pack")].into_iter().chain(graphs).chain(loose).collect()
}

/// Checks that a part of an object store consists of files and directories where git reads them. `home` is the store that
/// borrows it.
///
/// # Errors
/// Something else is in it.
pub fn require_files_in_part(part: &Path, home: &Path) -> Result<()> {
    let entries = walkdir::WalkDir::new(part).max_depth(DEEPEST_IN_PART).follow_links(true);
    entries.into_iter().flatten().try_for_each(|entry| require_file(&entry, home))
}

/// Checks that the files of a work tree that git reads are files, so that git does not wait for a pipe. The search ends at
/// `deadline`, since a work tree can have any number of directories.
///
/// # Errors
/// Such a file is something else.
pub fn require_files_in_work_tree(tree: &Path, deadline: Deadline) -> Result<()> {
    let is_below_git_dir = |path: &Path| path.parent().is_some_and(|dir| dir.ends_with(".git"));
    let entries = walkdir::WalkDir::new(tree).into_iter().filter_entry(|entry| !is_below_git_dir(entry.path()));
    for entry in entries.take_while(|_| !deadline.passed()).flatten() {
        if READ_IN_WORK_TREES.iter().any(|name| entry.file_name() == *name) {
            require_file(&entry, tree)?;
        }
        // Git looks whether a directory is a repository of its own.
        if entry.file_name() == ".git" && entry.depth() > 1 {
            read_to_recognize(&entry.into_path()).iter().try_for_each(|file| require_file_at(file, tree))?;
        }
    }
    Ok(())
}

/// Returns the files that git reads when it looks whether `dot_git`, a directory or a file with the path of one, is a
/// repository.
fn read_to_recognize(dot_git: &Path) -> [PathBuf; 2] {
    let line = plain::read(dot_git, MAX_POINTER).ok().flatten().unwrap_or_default();
    let target = line.strip_prefix(b"gitdir: ").zip(dot_git.parent());
    let git_dir = target.map_or_else(|| dot_git.to_owned(), |(target, base)| plain::path_in(target, base));
    ["HEAD", "commondir"].map(|name| git_dir.join(name))
}

/// Fails if an entry, or what a link leads to, is a pipe, a socket or a device. `home` is the directory of the
/// repository in which it is.
fn require_file(entry: &walkdir::DirEntry, home: &Path) -> Result<()> {
    let kind = entry.file_type();
    if kind.is_file() || kind.is_dir() { Ok(()) } else { require_file_at(entry.path(), home) }
}

/// As [`require_file`]. Nothing at the path, or a dangling link, is fine: git skips it.
fn require_file_at(path: &Path, home: &Path) -> Result<()> {
    if fs::metadata(path).map_or(true, |found| found.is_file() || found.is_dir()) {
        return Ok(());
    }
    // A hostile repository could otherwise choose a device of the host.
    let hint = match path.parent().is_some_and(|dir| leads_into(dir, home)) {
        true => format!("move it away: mv -- {} DIRECTORY", quoted(path)),
        false => format!("list the links of the repository and what it borrows: ls -lR -- {}", quoted(home)),
    };
    Err(Failure::new(format!("{} is not a regular file", path.display())).with_hint(hint).into())
}

/// Returns whether an entry is a link to a directory, below the top.
fn is_inner_link(entry: &walkdir::DirEntry) -> bool {
    entry.depth() > 0 && entry.path_is_symlink() && entry.path().is_dir()
}

fn leads_into(link: &Path, dir: &Path) -> bool {
    fs::canonicalize(link).is_ok_and(|target| fs::canonicalize(dir).is_ok_and(|dir| target.starts_with(dir)))
}

/// Returns where the symbolic links in an object store lead, also those in directories that they lead to. Dangling links
/// are left out.
pub fn of(store: &Path) -> Vec<PathBuf> {
    let links = walkdir::WalkDir::new(store).max_depth(2).follow_links(true).into_iter().flatten();
    links.filter(walkdir::DirEntry::path_is_symlink).filter_map(|link| fs::canonicalize(link.path()).ok()).collect()
}

/// Returns whether a link stays inside the repository. A dangling link is harmless.
fn stays(link: &Path, place: &Place) -> bool {
    match fs::canonicalize(link) {
        Ok(target) => target.starts_with(&place.common_dir) || target.starts_with(&place.git_dir),
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

fn too_large(path: &Path, most: u64) -> anyhow::Error {
    Failure::new(format!("{} is larger than {} MiB", path.display(), most >> 20))
        .with_hint("if you trust the repository, let git rewrite the file: git pack-refs --all; git read-tree HEAD")
        .into()
}

fn refused(path: &Path) -> anyhow::Error {
    let what = match fs::read_link(path) {
        Ok(target) => format!("it is a link to {}", target.display()),
        Err(_) => "it is neither a file nor a directory".to_owned(),
    };
    Failure::new(format!("{} is not a part of its repository: {what}", path.display()))
        .with_hint("if you trust the repository, use a clone of it: git clone --no-local REPOSITORY NEW-DIRECTORY")
        .into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_of_any_size_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let git_dir = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(git_dir.join("refs/heads")).unwrap();
        fs::create_dir_all(git_dir.join("objects/pack")).unwrap();
        let place = Place { git_dir: git_dir.clone(), common_dir: git_dir.clone(), work_tree: None };
        let sparse = |name: &str| {
            let file = git_dir.join(name);
            fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
            let checked = check(&place);
            fs::remove_file(file).unwrap();
            checked
        };
        sparse("objects/pack/large.pack").unwrap();
        for name in ["packed-refs", "index", "HEAD", "refs/heads/x", "shallow"] {
            assert!(sparse(name).unwrap_err().to_string().contains("is larger than"), "{name}");
        }
    }

    #[test]
    fn links_that_lead_out_and_fifos_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let git_dir = root.join("app/.git");
        for sub in ["refs/heads", "objects/pack", "hooks"] {
            fs::create_dir_all(git_dir.join(sub)).unwrap();
        }
        fs::create_dir_all(root.join("private/refs")).unwrap();
        fs::write(git_dir.join("refs/heads/main"), "x").unwrap();
        let place = Place { git_dir: git_dir.clone(), common_dir: git_dir.clone(), work_tree: None };
        // Old repositories have HEAD as a link, and a file that git does not read may be any link.
        symlink("refs/heads/main", git_dir.join("HEAD")).unwrap();
        symlink("/", git_dir.join("hooks/all")).unwrap();
        check(&place).unwrap();
        for name in ["refs/heads/x", "objects/ab", "objects/pack/x.pack", "packed-refs", "config", "reftable"] {
            let link = git_dir.join(name);
            symlink(root.join("private/refs"), &link).unwrap();
            assert!(check(&place).unwrap_err().to_string().contains("it is a link to"), "{name}");
            fs::remove_file(&link).unwrap();
            rustix::fs::mknodat(rustix::fs::CWD, &link, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
            assert!(check(&place).unwrap_err().to_string().contains("neither a file"), "{name}");
            fs::remove_file(&link).unwrap();
        }
        // What git only writes may be no link at all.
        require_own_files(&git_dir).unwrap();
        for dir in ["logs/refs", "lfs"] {
            fs::create_dir_all(git_dir.join(dir)).unwrap();
        }
        for name in [
            "MERGE_MSG",
            "ORIG_HEAD",
            "logs/HEAD",
            "logs/refs/x",
            "rr-cache",
            "index",
            "lfs/tmp",
            "config",
            "packed-refs",
        ] {
            let link = git_dir.join(name);
            symlink(root.join("private/none"), &link).unwrap();
            assert!(require_own_files(&git_dir).unwrap_err().to_string().contains("it is a link to"), "{name}");
            fs::remove_file(&link).unwrap();
        }
        fs::rename(git_dir.join("objects"), root.join("objects")).unwrap();
        symlink(root.join("objects"), git_dir.join("objects")).unwrap();
        assert!(check(&place).is_err());
    }
}
