//! What `agent-vm prune` removes beside machines: files of ended runs, unused images, and temporary files of killed commands.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};

use crate::guest::images::{self, Image, used_bytes};
use crate::host::files::{remove_any, remove_file};
use crate::host::lock::Lock;
use crate::host::process::Invocation;
use crate::host::user_dirs::cache_dir;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::state_dir::StateDir;
use crate::vm::shutdown;

/// Directories of Nix's links to what must not be removed from its store.
const ROOTS: &str = "/nix/var/nix/gcroots/auto";
/// End of a machine's link to its guest.
const GUEST: &str = "flake/guest";

/// Something that can be removed.
pub struct Leftover {
    /// `run`, `image`, `temporary` or `gc-root`.
    pub kind: &'static str,
    /// Its name or path, for people.
    pub name: String,
    /// Why it can be removed.
    pub reason: String,
    /// Space on the disk in bytes.
    pub bytes: u64,
    what: What,
}

impl Leftover {
    /// Returns whether it is an image, or what is left of one.
    #[must_use]
    pub fn is_of_images(&self) -> bool {
        match &self.what {
            What::Image(_) | What::Records(..) => true,
            What::Temporary(path) => path.file_name().is_some_and(|name| is_half_built(&name.to_string_lossy())),
            What::Run(_) | What::GcRoot(_) => false,
        }
    }
}

/// Returns whether this is the name of an image whose build did not finish.
fn is_half_built(name: &str) -> bool {
    // The builder puts a dot before the name of its result, which has one itself if `scripts/prepare-image` asks for it.
    (name.starts_with(".debian-") || name.starts_with("..prepared-")) && name.contains(".tmp-")
}

enum What {
    Run(Machine),
    Image(Image),
    /// A directory that its user locks.
    Temporary(PathBuf),
    /// The directory of images, and the start of a hash.
    Records(PathBuf, String),
    GcRoot(PathBuf),
}

/// Returns everything that can be removed.
///
/// # Errors
/// The cache cannot be read.
pub fn all(context: &Context) -> Result<Vec<Leftover>> {
    let mut all = runs(&context.state)?;
    if let Ok(cache) = cache_dir() {
        let used = images::all(&cache, &known(&context.state)?)?;
        all.extend(used.iter().filter(|image| image.users.is_empty()).map(unused));
        let guests = images::directory(&cache);
        all.extend(temporary(&guests, is_half_built));
        all.extend(records(&guests));
        all.extend(roots(&cache.join("nix/var/nix/gcroots/auto")));
    }
    let own = format!("agent-vm-build-{}-", rustix::process::geteuid().as_raw());
    let mut places = vec![std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
    places.sort();
    places.dedup();
    all.extend(places.iter().flat_map(|place| temporary(place, |name| name.starts_with(&own))));
    all.extend(roots(Path::new(ROOTS)));
    Ok(all)
}

/// Returns the directories of the machines of this state directory and of the usual one.
///
/// # Errors
/// The state directory cannot be read.
pub fn known(state: &StateDir) -> Result<Vec<PathBuf>> {
    let usual = StateDir::locate(None).ok().filter(|usual| usual.path() != state.path());
    let mut known = Vec::new();
    for state in [Some(state.clone()), usual].into_iter().flatten() {
        known.extend(state.names()?.iter().map(|name| state.machine(name)));
    }
    Ok(known)
}

/// Returns the runs that have ended without being cleaned up.
fn runs(state: &StateDir) -> Result<Vec<Leftover>> {
    let machines = state.names()?.into_iter().map(|name| Machine::new(state, name));
    let ended = machines.filter(|machine| machine.run().qemu().is_none() && machine.run().path().exists());
    let unlocked = ended.filter(|machine| !machine.is_locked().unwrap_or(true));
    let leftover = |machine: Machine| Leftover {
        kind: "run",
        name: machine.name.to_string(),
        reason: "its run has ended".to_owned(),
        bytes: used_bytes(machine.run().path()),
        what: What::Run(machine),
    };
    Ok(unlocked.map(leftover).collect())
}

fn unused(image: &Image) -> Leftover {
    Leftover {
        kind: "image",
        name: image.name.clone(),
        reason: "no machine uses it".to_owned(),
        bytes: image.bytes,
        what: What::Image(image.clone()),
    }
}

fn names_in(dir: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok())
}

/// Returns our own temporary directories that no program holds.
fn temporary(dir: &Path, is_one: impl Fn(&str) -> bool) -> Vec<Leftover> {
    let paths = names_in(dir).filter(|name| is_one(name)).map(|name| dir.join(name));
    let free = paths.filter(|path| free(path).is_some());
    let leftover = |path: PathBuf| Leftover {
        kind: "temporary",
        name: path.display().to_string(),
        reason: "a killed command left it".to_owned(),
        bytes: used_bytes(&path),
        what: What::Temporary(path),
    };
    free.map(leftover).collect()
}

/// Returns a lock on a directory of ours; None if a program uses it.
fn free(path: &Path) -> Option<File> {
    let found = path.symlink_metadata().ok()?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return None;
    }
    let dir = File::open(path).ok()?;
    flock(&dir, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(dir)
}

/// Returns records of images that do not exist.
fn records(guests: &Path) -> Vec<Leftover> {
    let leftover = |(hash, bytes): (String, u64)| Leftover {
        kind: "temporary",
        name: format!("records of the image {hash}"),
        reason: "the image does not exist".to_owned(),
        bytes,
        what: What::Records(guests.to_owned(), hash),
    };
    images::stale_records(guests).into_iter().map(leftover).collect()
}

/// Returns Nix's links to the guests of machines that are gone.
fn roots(dir: &Path) -> Vec<Leftover> {
    let links = names_in(dir).map(|name| dir.join(name));
    let gone = links.filter_map(|link| {
        let target = fs::read_link(&link).ok()?;
        let machine = target.parent()?.parent()?;
        let is_gone = target.ends_with(GUEST) && machine.symlink_metadata().is_err() && machine.parent()?.is_dir();
        (is_gone && may_remove(&link)).then_some((link, target))
    });
    let leftover = |(link, target): (PathBuf, PathBuf)| Leftover {
        kind: "gc-root",
        name: link.display().to_string(),
        reason: format!("the machine of {} does not exist", target.display()),
        bytes: 0,
        what: What::GcRoot(link),
    };
    gone.map(leftover).collect()
}

/// Returns whether a file's directory can be written.
fn may_remove(path: &Path) -> bool {
    path.parent().is_some_and(|dir| rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok())
}

/// Removes it. Returns false if it is in use by now.
///
/// # Errors
/// It cannot be removed.
pub fn remove(context: &Context, leftover: &Leftover) -> Result<bool> {
    match &leftover.what {
        What::Run(machine) => {
            let Some(_lock) = Lock::try_take(&machine.state.lock_file(&machine.name))? else { return Ok(false) };
            if machine.run().qemu().is_some() || !machine.exists() {
                return Ok(false);
            }
            shutdown::clean_up(machine).map(|()| true)
        }
        What::Image(image) => images::remove(image, &known(&context.state)?),
        What::Temporary(path) => match free(path) {
            Some(_held) => remove_tree(path).map(|()| true),
            None => Ok(false),
        },
        What::Records(guests, hash) => images::remove_records(guests, hash),
        What::GcRoot(path) => remove_file(path).map(|()| true),
    }
}

/// Removes a directory, also with files of subordinate ids.
fn remove_tree(path: &Path) -> Result<()> {
    if remove_any(path).is_ok() {
        return Ok(());
    }
    let remove = Invocation::new("unshare").args(["--user", "--map-root-user", "--map-auto", "--"]);
    let remove = remove.args(["rm", "-rf", "--one-file-system", "--"]).arg(path);
    remove.checked().map(drop).with_context(|| format!("failed to remove {}", path.display()))
}
