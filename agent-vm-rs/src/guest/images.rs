//! Built images of the Debian guest in the user's cache. Machines of several state directories share it: each registers the image
//! that it uses.

mod records;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::host::files::{is_absent, make_private_dir, read_text, remove_any, remove_file};
use crate::host::hex::hex;
use crate::host::lock::Lock;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunDir;

pub use records::{remove_records, stale_records};

/// Start of an image's directory name; the start of its hash follows.
const NAME: &str = "debian-";
/// Time for which a registered machine counts as a user before its link points to the image: until the image is built.
const NEW: Duration = Duration::from_secs(6 * 3_600);
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

/// Returns the path of the lock that its builder holds.
#[must_use]
pub fn lock_of(guests: &Path, hash: &str) -> PathBuf {
    guests.join(format!(".lock-{}", short(hash)))
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
    let mut images: Vec<_> = names.filter_map(|name| image(&guests, name.strip_prefix(NAME)?, known)).collect();
    images.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(images)
}

fn image(guests: &Path, name: &str, known: &[PathBuf]) -> Option<Image> {
    let path = path_of(guests, name);
    let is_name = name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let found = path.symlink_metadata().ok().filter(|found| found.is_dir() && is_name)?;
    let built = read_text(&path.join("share/agent-vm/built.json")).ok();
    let built: Built = built.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let modified = || Timestamp::try_from(found.modified().ok()?).ok();
    let mut users: Vec<_> = users(&path, known).iter().map(|machine| name_of(machine)).collect();
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
        let since = link.symlink_metadata().ok()?.modified().ok()?;
        // A time in the future counts as now.
        let age = SystemTime::now().duration_since(since).unwrap_or_default();
        (uses(&machine, package) || (age < NEW && machine.is_dir())).then_some(machine)
    });
    registered.chain(known.iter().filter(|machine| uses(machine, package)).cloned()).collect()
}

/// Returns whether a machine's next start needs the image, or its run was started with it.
fn uses(machine: &Path, package: &Path) -> bool {
    let is = |link: MachinePath| fs::read_link(link.of(machine)).is_ok_and(|target| is_same(&target, package));
    is(MachinePath::Guest) || (is(MachinePath::RunGuest) && RunDir::of(machine).qemu().is_some())
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
    if !users(&image.path, known).is_empty() {
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
mod tests {
    use super::*;

    /// An image, and the directory of a machine.
    fn world(dir: &Path) -> (PathBuf, PathBuf) {
        let image = path_of(&directory(dir), "0123456789abcdef0123");
        fs::create_dir_all(image.join("share/agent-vm")).unwrap();
        fs::write(image.join("base.img"), vec![1; 100_000]).unwrap();
        let machine = dir.join("elsewhere/app-main");
        fs::create_dir_all(machine.join("flake")).unwrap();
        (image, machine)
    }

    #[test]
    fn images_of_registered_and_known_machines_are_used() {
        let dir = tempfile::tempdir().unwrap();
        let (image, machine) = world(dir.path());
        let one = |known: &[PathBuf]| all(dir.path(), known).unwrap().remove(0);
        assert!(one(&[]).users.is_empty() && one(&[]).bytes >= 100_000);
        symlink(&image, MachinePath::Guest.of(&machine)).unwrap();
        assert!(one(&[]).users.is_empty(), "a machine of an unknown state directory");
        assert_eq!(one(std::slice::from_ref(&machine)).users, ["app-main"]);
        register(&image, &machine);
        register(&image, &machine);
        assert_eq!(one(&[]).users, ["app-main"]);
        assert!(!remove(&one(&[]), &[]).unwrap() && image.exists());
        // The cache is reached by another path.
        symlink(dir.path(), dir.path().join("link")).unwrap();
        let elsewhere = all(&dir.path().join("link"), &[]).unwrap().remove(0);
        assert_eq!(elsewhere.users, ["app-main"]);
        assert!(!remove(&elsewhere, &[]).unwrap() && image.exists());
        // Links of destroyed machines do not pile up.
        let links = || links_in(&users_of(&image).unwrap()).count();
        let others = ["elsewhere/app-gone", "not-mounted/app-main"].map(|machine| dir.path().join(machine));
        others.iter().for_each(|other| register(&image, other));
        register(&image, &machine);
        assert_eq!(links(), 2, "that of a disk that is away stays");
        // The machine is destroyed.
        fs::remove_dir_all(&machine).unwrap();
        assert!(one(&[]).users.is_empty());
        assert!(remove(&one(&[]), &[]).unwrap() && !image.exists());
        let left: Vec<_> = fs::read_dir(directory(dir.path())).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "its records are removed, too: {left:?}");
        assert!(all(dir.path(), &[]).unwrap().is_empty());
    }

    #[test]
    fn a_machine_that_has_just_registered_builds_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let (image, machine) = world(dir.path());
        register(&image, &machine);
        assert!(!remove(&all(dir.path(), &[]).unwrap()[0], &[]).unwrap());
        // Its build was given up long ago.
        let link = fs::read_dir(users_of(&image).unwrap()).unwrap().flatten().next().unwrap().path();
        let old = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
            last_modification: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
        };
        rustix::fs::utimensat(rustix::fs::CWD, &link, &old, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
        // Control: another image is removed while its builder does not run.
        let lock = Lock::try_take(&lock_of(&directory(dir.path()), "0123456789abcdef")).unwrap().unwrap();
        assert!(!remove(&all(dir.path(), &[]).unwrap()[0], &[]).unwrap());
        drop(lock);
        assert!(remove(&all(dir.path(), &[]).unwrap()[0], &[]).unwrap());
    }

    #[test]
    fn the_age_is_that_of_the_packages() {
        let dir = tempfile::tempdir().unwrap();
        let (image, _) = world(dir.path());
        assert_eq!(age(&image), None);
        assert!(!all(dir.path(), &[]).unwrap()[0].is_snapshot);
        let write = |text: &str| fs::write(image.join("share/agent-vm/built.json"), text).unwrap();
        write(r#"{"snapshot": "2001-02-03T00:00:00Z", "built": "2026-11-30T08:00:00Z", "more": 1}"#);
        let found = all(dir.path(), &[]).unwrap().remove(0);
        assert!(found.is_snapshot && found.packages_of.unwrap().to_string() == "2001-02-03T00:00:00Z");
        assert!(age(&image).unwrap() > OLD);
        write(&format!(r#"{{"snapshot": null, "built": "{}"}}"#, Timestamp::now()));
        assert!(age(&image).unwrap() < OLD);
    }
}
