//! Copies a checked pack into the source repository's object store.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};

use super::owner::Owner;
use crate::host::files::{open_file, plain, sync_dir, sync_file};
use crate::host::hex::random;

/// Prefix of a file that git removes later if it is left over: git-prune-packed(1).
const TEMPORARY: &str = "tmp_pack_agent-vm-";
/// Content of `.keep`.
const MARK: &[u8] = b"kept until references lead to it (agent-vm)\n";
/// Mode of packs; git gives them the same.
const MODE: u32 = 0o444;

/// A pack that was installed and that git must not remove yet: no reference leads to its objects. Git keeps packs that have a
/// file `.keep`, as its own fetch makes one (git-repack(1)). Dropping the value removes that file.
pub struct Kept {
    path: PathBuf,
    /// Locked, so that other commands know that it is not left over.
    _file: File,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let remove = || Ok(fs::remove_file(&self.path)?);
        drop(Owner::of(&self.path).map_or_else(remove, |owner| owner.act(remove)));
    }
}

/// Copies a pack and its index into an object store, durably, and keeps git from removing it. The files belong to the owner of
/// the store. The pack gets a name of its own: git may be about to remove one that has the same objects.
///
/// # Errors
/// The store cannot be written. What was copied so far is not used.
pub fn install_kept(dir: &Path, name: &str, objects: &Path) -> Result<Kept> {
    let files = open(dir, name, &["pack", "idx"])?;
    let digits = name.rsplit('-').next().unwrap_or(name).len();
    let new = format!("pack-{}", &random(digits.div_ceil(2))?[..digits]);
    let store = objects.join("pack");
    act(objects, || {
        remove_left_over(&store);
        let kept = keep(&store, &new).with_context(|| format!("failed to write into {}", store.display()))?;
        copy(&files, &new, &store)?;
        Ok(kept)
    })
}

/// Writes the file `.keep` of a pack that does not exist yet.
fn keep(store: &Path, name: &str) -> io::Result<Kept> {
    fs::create_dir_all(store)?;
    let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(store)?;
    file.write_all(MARK)?;
    // Some network file systems have no locks.
    let _locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
    let path = store.join(format!("{name}.keep"));
    let file = file.persist(&path).map_err(|error| error.error)?;
    Ok(Kept { path, _file: file })
}

/// Removes what killed commands left of [`Kept`].
fn remove_left_over(store: &Path) {
    for path in fs::read_dir(store).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let is_ours = path.extension().is_some_and(|end| end == "keep")
            && plain::read(&path, MARK.len() as u64 + 1).is_ok_and(|mark| mark.as_deref() == Some(MARK));
        if is_ours
            && let Ok(file) = open_file(&path)
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            tracing::debug!("removing {}", path.display());
            drop(fs::remove_file(&path));
        }
    }
}

/// Copies the files of the pack `name` in `dir` with these `ends` into an object store, durably. The last end is `idx`, the
/// index, which makes git use the pack. The files belong to the owner of the store.
///
/// # Errors
/// The store cannot be written. What was copied so far is not used.
pub fn install(dir: &Path, name: &str, ends: &[&str], objects: &Path) -> Result<()> {
    let files = open(dir, name, ends)?;
    act(objects, || copy(&files, name, &objects.join("pack")))
}

fn open<'a>(dir: &Path, name: &str, ends: &[&'a str]) -> Result<Vec<(&'a str, File)>> {
    let file = |end: &&'a str| {
        let path = dir.join(format!("{name}.{end}"));
        let file = File::open(&path).with_context(|| format!("failed to open {}", path.display()))?;
        Ok((*end, file))
    };
    ends.iter().map(file).collect()
}

fn act<T: Send>(objects: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    match Owner::of(objects) {
        Some(owner) => owner.act(work),
        None => work(),
    }
}

fn copy(files: &[(&str, File)], name: &str, store: &Path) -> Result<()> {
    let failed = || format!("failed to write into {}", store.display());
    fs::create_dir_all(store).with_context(failed)?;
    for (end, file) in files {
        let copy = || -> io::Result<tempfile::TempPath> {
            let mut beside = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(store)?;
            io::copy(&mut &*file, beside.as_file_mut())?;
            beside.as_file().set_permissions(fs::Permissions::from_mode(MODE))?;
            Ok(beside.into_temp_path())
        };
        let copied = { copy }().with_context(failed)?;
        sync_file(&copied)?;
        copied.persist(store.join(format!("{name}.{end}"))).map_err(|error| error.error).with_context(failed)?;
        sync_dir(store)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        for end in ["pack", "idx"] {
            fs::write(dir.path().join(format!("pack-{}.{end}", "1".repeat(40))), end).unwrap();
        }
        let objects = dir.path().join("objects");
        fs::create_dir(&objects).unwrap();
        (dir, objects)
    }

    fn names(objects: &Path, end: &str) -> Vec<String> {
        let names = fs::read_dir(objects.join("pack")).unwrap().flatten();
        let mut names: Vec<_> = names.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.retain(|name| name.ends_with(end));
        names
    }

    #[test]
    fn a_pack_is_kept_until_its_references_are_written() {
        let (dir, objects) = pack();
        let name = format!("pack-{}", "1".repeat(40));
        let kept = install_kept(dir.path(), &name, &objects).unwrap();
        let own = names(&objects, ".pack").pop().unwrap().replace(".pack", "");
        assert!(own != name && own.len() == name.len());
        assert_eq!(names(&objects, ".keep"), [format!("{own}.keep")]);
        // Another command does not take it for left over.
        let other = install_kept(dir.path(), &name, &objects).unwrap();
        assert_eq!(names(&objects, ".keep").len(), 2);
        drop((kept, other));
        assert!(names(&objects, ".keep").is_empty());
        assert_eq!(names(&objects, ".idx").len(), 2);
    }

    #[test]
    fn only_what_a_killed_command_left_is_removed() {
        let (dir, objects) = pack();
        fs::create_dir(objects.join("pack")).unwrap();
        fs::write(objects.join("pack/pack-of-killed.keep"), MARK).unwrap();
        fs::write(objects.join("pack/pack-of-user.keep"), "").unwrap();
        drop(install_kept(dir.path(), &format!("pack-{}", "1".repeat(40)), &objects).unwrap());
        assert_eq!(names(&objects, ".keep"), ["pack-of-user.keep"]);
    }
}
