//! The names of a machine's references in its source repository: `refs/agent-vm/MACHINE/…`. A note in the git directory says
//! which state directory has a machine of this name. The machine of the same name in another state directory gets
//! `refs/agent-vm/MACHINE.HASH/…`, so that neither changes the references of the other.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::Source;
use crate::host::files::beneath::open_file;
use crate::host::files::has_dir;
use crate::host::hex::hex;
use crate::machine::name::VmName;
use crate::machine::state_dir::StateDir;

/// The directory of the notes, in the git directory.
const DIRECTORY: [&str; 2] = ["agent-vm", "owners"];
/// Largest note, in bytes: a longer path does not exist.
const MAX_NOTE: u64 = 4096;
/// Bytes of the hash of a state directory in a name.
const HASH_BYTES: usize = 4;

/// Returns the start of the names of a machine's references.
///
/// # Errors
/// The git directory cannot be read.
pub fn namespace(source: &Source, state: &StateDir, machine: &VmName) -> Result<String> {
    let owner = owner(&open(source)?, machine)?;
    Ok(start(state, machine, owner.is_none_or(|owner| owner == state.path().as_os_str().as_bytes())))
}

/// Notes that a machine has these names, unless another one has them.
///
/// # Errors
/// The note cannot be written, or another command has just written one for another state directory.
pub fn claim(source: &Source, state: &StateDir, machine: &VmName, namespace: &str) -> Result<()> {
    let git_dir = open(source)?;
    if owner(&git_dir, machine)?.is_none()
        && let Err(error) = note(&git_dir, machine, state.path())
    {
        // What is there instead has a hint of its own.
        let dir = source.place.common_dir.join(DIRECTORY[0]);
        has_dir(&dir)?;
        has_dir(&dir.join(DIRECTORY[1]))?;
        return Err(error).context("failed to note which state directory has the machine");
    }
    if self::namespace(source, state, machine)? != namespace {
        bail!("another command fetches from a machine of this name in another state directory; repeat the command");
    }
    Ok(())
}

fn start(state: &StateDir, machine: &VmName, is_plain: bool) -> String {
    let hash = hex(&Sha256::digest(state.path().as_os_str().as_bytes())[..HASH_BYTES]);
    let name = if is_plain { machine.to_string() } else { format!("{machine}.{hash}") };
    // A machine's name may have two dots, a reference's may not.
    format!("refs/agent-vm/{}/", gix_validate::reference::name_partial_or_sanitize(name.as_str().into()))
}

fn open(source: &Source) -> Result<File> {
    let dir = &source.place.common_dir;
    File::open(dir).with_context(|| format!("failed to open {}", dir.display()))
}

/// Returns the state directory that a note names.
fn owner(git_dir: &File, machine: &VmName) -> Result<Option<Vec<u8>>> {
    let path = Path::new(DIRECTORY[0]).join(DIRECTORY[1]).join(machine.as_str());
    let Some(file) = open_file(git_dir, &path) else { return Ok(None) };
    let mut text = Vec::new();
    file.take(MAX_NOTE).read_to_end(&mut text).context("failed to read which state directory has the machine")?;
    Ok(Some(text.strip_suffix(b"\n").map(<[u8]>::to_vec).unwrap_or_default()))
}

/// Writes a note durably, through no link. Another command's note stays.
fn note(git_dir: &File, machine: &VmName, state: &Path) -> io::Result<()> {
    let mut dir = git_dir.try_clone()?;
    for name in DIRECTORY {
        match mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let made = File::from(openat2(&dir, name, flags, Mode::empty(), resolve)?);
        give_to_owner_of(git_dir, &made)?;
        dir.sync_all()?;
        dir = made;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = match openat(&dir, machine.as_str(), flags, Mode::from_raw_mode(0o644)) {
        Ok(file) => File::from(file),
        Err(Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    file.write_all(&[state.as_os_str().as_bytes(), b"\n"].concat())?;
    give_to_owner_of(git_dir, &file)?;
    file.sync_all()?;
    dir.sync_all()
}

/// Root's command leaves nothing in a user's repository that the user cannot change.
fn give_to_owner_of(git_dir: &File, made: &File) -> io::Result<()> {
    let owner = git_dir.metadata()?;
    match rustix::process::geteuid().is_root() {
        true => fchown(made, Some(owner.uid()), Some(owner.gid())),
        false => Ok(()),
    }
}
