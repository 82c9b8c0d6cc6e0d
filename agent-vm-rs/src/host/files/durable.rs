//! Durable writes, renames and directories, which survive a power cut, and cheaper ones that need not.
//!
//! A rename is durable once its directory is synced, and safe only if the renamed file was synced before. Therefore: write,
//! sync, rename, sync the directory; and remove the old file only after that.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// Number of files up to which a tree is synced file by file. That does not write other programs' data, but for more files
/// it takes longer than syncing the whole file system.
const FEW: usize = 128;
/// Prefix of temporary files and directories: they are renamed later, or are needed for one command only.
pub const TEMPORARY: &str = ".tmp-";

/// Writes a file atomically and durably: a temporary file in the same directory, synced, then renamed.
///
/// # Errors
/// The directory is missing, full or not writable. The old file is unchanged.
pub fn write_file(path: &Path, contents: impl AsRef<[u8]>, mode: u32) -> Result<()> {
    let failed = || format!("failed to write {}", path.display());
    let file = written_beside(path, contents.as_ref(), mode).with_context(failed)?;
    sync(file.as_file()).with_context(failed)?;
    file.persist(path).map_err(|error| in_the_way(path, error.error)).with_context(failed)?;
    sync_dir(parent_of(path))
}

/// Writes a file atomically but not durably: other processes see the old or the new one, a power cut may lose both. For
/// facts about a running machine, and for a tree that is synced as a whole later.
///
/// # Errors
/// See [`write_file`].
pub fn write_unsynced(path: &Path, contents: impl AsRef<[u8]>, mode: u32) -> Result<()> {
    let failed = || format!("failed to write {}", path.display());
    let file = written_beside(path, contents.as_ref(), mode).with_context(failed)?;
    file.persist(path).map_err(|error| in_the_way(path, error.error)).with_context(failed)?;
    Ok(())
}

/// Returns the error of a rename; it says if a directory has the file's path.
fn in_the_way(path: &Path, error: io::Error) -> anyhow::Error {
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() && error.kind() == io::ErrorKind::IsADirectory => {
            super::wrong(path, "file", found.file_type()).into()
        }
        _ => error.into(),
    }
}

fn written_beside(path: &Path, contents: &[u8], mode: u32) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(parent_of(path))?;
    file.write_all(contents)?;
    // The umask may have cleared some bits.
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(file)
}

/// Creates a directory and its parents, durably. An existing one keeps its mode.
///
/// # Errors
/// It cannot be created or synced.
pub fn make_dir_durably(path: &Path, mode: u32) -> Result<()> {
    let missing: Vec<PathBuf> = path.ancestors().take_while(|dir| !dir.exists()).map(Path::to_owned).collect();
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|error| super::not_a_directory(path, error))
        .with_context(|| format!("failed to create the directory {}", path.display()))?;
    missing.iter().rev().try_for_each(|made| sync_dir(parent_of(made)))
}

/// Renames a file or directory durably. Its contents must have been synced.
///
/// # Errors
/// It cannot be renamed, or a directory cannot be synced.
pub fn rename_durably(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to)
        .map_err(|error| in_the_way(to, error))
        .with_context(|| format!("failed to rename {} to {}", from.display(), to.display()))?;
    let (old, new) = (parent_of(from), parent_of(to));
    sync_dir(new)?;
    if old == new { Ok(()) } else { sync_dir(old) }
}

/// Syncs a directory: the names in it, not the contents of its files.
///
/// # Errors
/// It cannot be opened or synced.
pub fn sync_dir(path: &Path) -> Result<()> {
    let failed = || format!("failed to sync the directory {}", path.display());
    let dir = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::DIRECTORY.bits().cast_signed())
        .open(path)
        .with_context(failed)?;
    sync(&dir).with_context(failed)
}

/// Syncs the contents of a file that another program wrote. Links are not followed.
///
/// # Errors
/// It cannot be opened or synced.
pub fn sync_file(path: &Path) -> Result<()> {
    open_to_sync(path).and_then(|file| sync(&file)).with_context(|| format!("failed to sync {}", path.display()))
}

/// Syncs everything in a directory, without following links: file by file if there are few, else the whole file system.
///
/// # Errors
/// Something in it cannot be read or synced.
pub fn sync_tree(path: &Path) -> Result<()> {
    let failed = || format!("failed to sync {}", path.display());
    let all = walkdir::WalkDir::new(path).follow_links(false).into_iter();
    let entries = all.take(FEW + 1).collect::<Result<Vec<_>, _>>().with_context(failed)?;
    if entries.len() > FEW {
        return sync_file_system(path);
    }
    // Bottom up: a directory is synced after its entries.
    for entry in entries.iter().rev() {
        let kind = entry.file_type();
        if kind.is_file() {
            sync_file(entry.path())?;
        } else if kind.is_dir() {
            sync_dir(entry.path())?;
        }
    }
    Ok(())
}

/// Syncs the file system that contains a directory.
///
/// # Errors
/// It cannot be opened or synced.
pub fn sync_file_system(path: &Path) -> Result<()> {
    let failed = || format!("failed to sync the file system of {}", path.display());
    let dir = File::open(path).with_context(failed)?;
    rustix::fs::syncfs(&dir).with_context(failed)
}

/// Calls `fsync`. Some FUSE file systems do not support it; they cannot be made more durable.
fn sync(file: &File) -> io::Result<()> {
    match rustix::fs::fsync(file) {
        Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => Ok(()),
        other => Ok(other?),
    }
}

/// Opens a file for `fsync`, which needs a descriptor but no particular access: a file that we own and may not read is
/// opened for writing.
fn open_to_sync(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            OpenOptions::new().append(true).custom_flags(flags).open(path)
        }
        other => other,
    }
}

/// Returns the directory that contains a path.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn written_files_have_their_mode_and_replace_the_old_file() {
        type Write = fn(&Path, &str, u32) -> Result<()>;
        let both: [Write; 2] =
            [|path, text, mode| write_file(path, text, mode), |path, text, mode| write_unsynced(path, text, mode)];
        for write in both {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            write(&path, "one", 0o644).unwrap();
            write(&path, "two", 0o600).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "two");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn directories_are_created_with_parents_and_existing_ones_kept() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        make_dir_durably(&deep, 0o700).unwrap();
        make_dir_durably(&deep, 0o755).unwrap();
        assert_eq!(fs::metadata(&deep).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(deep.join("file"), "").unwrap();
        assert!(make_dir_durably(&deep.join("file"), 0o700).is_err());
    }

    #[test]
    fn trees_with_links_pipes_and_unreadable_files_are_synced() {
        for files in [1, FEW + 1] {
            let dir = tempfile::tempdir().unwrap();
            for number in 0..files {
                fs::write(dir.path().join(number.to_string()), "x").unwrap();
            }
            symlink("/nowhere", dir.path().join("link")).unwrap();
            rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("pipe"), rustix::fs::Mode::RUSR).unwrap();
            fs::set_permissions(dir.path().join("0"), fs::Permissions::from_mode(0o200)).unwrap();
            sync_tree(dir.path()).unwrap();
        }
        assert!(sync_tree(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn a_file_is_renamed_into_another_directory() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("to")).unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        rename_durably(&dir.path().join("file"), &dir.path().join("to/file")).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("to/file")).unwrap(), "x");
        assert!(rename_durably(&dir.path().join("file"), &dir.path().join("to/file")).is_err());
    }
}
