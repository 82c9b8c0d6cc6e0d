//! Built images of the Debian guest in the user's cache. Machines of several state directories share it: each registers the image
//! that it uses.

mod records;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::host::files::{is_absent, make_private_dir, read_text, remove_any, remove_file};
use crate::host::hex::hex;
use crate::host::lock::{Lock, lock_beside};
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunDir;
use crate::machine::state_dir::StateDir;

pub use records::{remove_records, stale_records};

/// Start of an image's directory name; the start of its hash follows.
const NAME: &str = "debian-";
/// Start of the directory name of an image that `scripts/prepare-image` built and that no start has used yet.
pub const PREPARED: &str = ".prepared-";
/// Age at which an image is old.
pub const OLD: Duration = Duration::from_secs(30 * 86_400);

/// An image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Image {
    /// Start of its hash.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
    /// Space on the disk in bytes.
    pub bytes: u64,
    /// When its packages were published: the date of the snapshot, or when it was built without one.
    pub packages_of: Option<Timestamp>,
    /// Whether its packages are those of a snapshot, so that it can be built again.
    pub is_snapshot: bool,
    /// Names of the machines that use it, running or not.
    pub users: Vec<String>,
}

/// What the builder writes about the packages of an image.
#[derive(Debug, Default, Deserialize)]
struct Built {
    snapshot: Option<Timestamp>,
    built: Option<Timestamp>,
}

/// Returns the directory of images below the cache.
#[must_use]
pub fn directory(cache: &Path) -> PathBuf {
    cache.join("guests")
}

/// Returns the path of the image with this hash.
#[must_use]
pub fn path_of(guests: &Path, hash: &str) -> PathBuf {
    guests.join(format!("{NAME}{}", short(hash)))
}

/// Returns the path of the image with this hash before its first use, if `scripts/prepare-image` built it.
#[must_use]
pub fn prepared_of(guests: &Path, hash: &str) -> PathBuf {
    guests.join(format!("{PREPARED}{}", short(hash)))
}

/// Returns the path of the lock that its builder holds.
#[must_use]
pub fn lock_of(guests: &Path, hash: &str) -> PathBuf {
    lock_beside(guests, &format!(".lock-{}", short(hash)))
}

fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

/// Registers a machine as a user of an image; nothing for another path. A failure is only logged: it must not prevent a start.
pub fn register(package: &Path, machine: &Path) {
    let Some(users) = users_of(package) else { return };
    let link = users.join(hex(&Sha256::digest(machine.as_os_str().as_encoded_bytes())).get(..16).unwrap_or_default());
    let write = || -> Result<()> {
        make_private_dir(&users)?;
        links_in(&users).filter(|link| is_dead(link)).try_for_each(|link| remove_file(&link))?;
        // A new link has a new time.
        remove_file(&link)?;
        symlink(machine, &link).with_context(|| format!("failed to write {}", link.display()))
    };
    if let Err(error) = write() {
        tracing::warn!("failed to register the use of an image: {error:#}");
    }
}

/// Returns the directory with links to the users of an image.
fn users_of(package: &Path) -> Option<PathBuf> {
    let name = package.file_name()?.to_str()?.strip_prefix(NAME)?;
    Some(package.with_file_name(format!(".users-{name}")))
}

/// Returns the links in the directory of an image's users.
fn links_in(users: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(users).into_iter().flatten().flatten().map(|link| link.path())
}

/// Returns whether the machine of a link was destroyed. Its state directory is there, so it is not on a disk that is away.
fn is_dead(link: &Path) -> bool {
    let machine = fs::read_link(link).ok();
    machine.is_some_and(|machine| is_absent(&machine) && machine.parent().is_some_and(Path::is_dir))
}

/// Returns the images, sorted by name. `known` are machines that may have been started by an agent-vm that did not register them.
///
/// # Errors
/// The directory cannot be read.
pub fn all(cache: &Path, known: &[PathBuf]) -> Result<Vec<Image>> {
    let guests = directory(cache);
    let entries = match fs::read_dir(&guests) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("failed to list {}", guests.display()))?,
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let hash_in = |name: String| name.strip_prefix(NAME).or_else(|| name.strip_prefix(PREPARED)).map(str::to_owned);
    let hashes: BTreeSet<_> = names.filter_map(hash_in).collect();
    let images = hashes.iter().filter_map(|hash| image(&guests, hash, known)).collect();
    Ok(images)
}

fn image(guests: &Path, name: &str, known: &[PathBuf]) -> Option<Image> {
    let is_name = name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let dir = |path: PathBuf| {
        let found = path.symlink_metadata().ok().filter(|found| found.is_dir() && is_name);
        found.map(|found| (path, found))
    };
    let package = path_of(guests, name);
    let (path, found) = dir(package.clone()).or_else(|| dir(prepared_of(guests, name)))?;
    let built = read_text(&path.join("share/agent-vm/built.json")).ok();
    let built: Built = built.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let modified = || Timestamp::try_from(found.modified().ok()?).ok();
    let mut users: Vec<_> = users(&package, known).iter().map(|machine| name_of(machine)).collect();
    users.sort();
    users.dedup();
    Some(Image {
        name: name.to_owned(),
        bytes: used_bytes(&path),
        is_snapshot: built.snapshot.is_some(),
        packages_of: built.snapshot.or(built.built).or_else(modified),
        users,
        path,
    })
}

fn name_of(machine: &Path) -> String {
    machine.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns the directories of the machines that use an image.
fn users(package: &Path, known: &[PathBuf]) -> Vec<PathBuf> {
    let links = users_of(package).into_iter().flat_map(|users| links_in(&users));
    let registered = links.filter_map(|link| {
        let machine = fs::read_link(&link).ok()?;
        (uses(&machine, package) || is_in_work(&machine)).then_some(machine)
    });
    registered.chain(known.iter().filter(|machine| uses(machine, package)).cloned()).collect()
}

/// Returns whether a machine's next start needs the image, or its run was started with it.
fn uses(machine: &Path, package: &Path) -> bool {
    let is = |link: MachinePath| fs::read_link(link.of(machine)).is_ok_and(|target| is_same(&target, package));
    is(MachinePath::Guest) || (is(MachinePath::RunGuest) && RunDir::of(machine).qemu().is_some())
}

/// Returns whether a command works on a machine, such as a start that has registered an image and is about to use it.
fn is_in_work(machine: &Path) -> bool {
    let lock = || StateDir::lock_of(machine).filter(|lock| lock.exists());
    machine.is_dir() && lock().is_some_and(|lock| matches!(Lock::try_take(&lock), Ok(None)))
}

/// Returns whether two paths lead to the same directory: the cache may have been named in another way, such as by a link.
fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
    one == other || id(one).is_some_and(|found| id(other) == Some(found))
}

/// Removes an image that no machine uses. Returns false if one does now, or builds it.
///
/// # Errors
/// It cannot be removed.
pub fn remove(image: &Image, known: &[PathBuf]) -> Result<bool> {
    let guests = image.path.parent().unwrap_or(&image.path);
    let Some(lock) = Lock::try_take(&lock_of(guests, &image.name))? else { return Ok(false) };
    // A start may have made a prepared image its own.
    if !users(&path_of(guests, &image.name), known).is_empty() {
        return Ok(false);
    }
    remove_any(&image.path)?;
    records::of(guests, &image.name).iter().try_for_each(|record| remove_any(record))?;
    lock.retire()?;
    Ok(true)
}

/// Returns the space that a directory uses on the disk.
#[must_use]
pub fn used_bytes(dir: &Path) -> u64 {
    let files = walkdir::WalkDir::new(dir).follow_links(false).follow_root_links(false).into_iter().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * 512).sum()
}

/// Returns the age of an image's packages; None if it is not known.
#[must_use]
pub fn age(image: &Path) -> Option<Duration> {
    let text = read_text(&image.join("share/agent-vm/built.json")).ok()?;
    let built: Built = serde_json::from_str(&text).ok()?;
    let since = built.snapshot.or(built.built)?;
    Duration::try_from(Timestamp::now().duration_since(since)).ok()
}

#[cfg(test)]
mod tests;
