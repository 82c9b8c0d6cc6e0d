//! Packs the new objects of a guest's repository and checks the pack, without the guest's other objects.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::git_failure::{Unreadable, ask, is_unreadable};
use super::view::{MAX_OUTPUT, View};
use crate::git::lfs::Pointer;
use crate::git::{Stores, alternates};
use crate::term::error::Failure;
use crate::term::text::bytes;

/// Largest number of new objects.
pub const MOST_OBJECTS: usize = 2_000_000;

/// A limit of what is packed.
#[derive(Clone, Copy)]
pub struct Limit<'a> {
    /// Largest size of the objects' contents, in bytes.
    pub bytes: u64,
    /// The command that raises it with `--max-size`.
    pub raise: &'a str,
}

/// A checked pack of new objects.
pub struct Pack {
    /// The temporary directory that contains the pack and its index.
    pub dir: PathBuf,
    /// The name of both files, without `.pack` and `.idx`.
    pub name: String,
    /// Size of the objects' contents, in bytes.
    pub bytes: u64,
    /// The pointers to LFS contents among the objects.
    pub pointers: Vec<Pointer>,
}

impl Limit<'_> {
    /// Checks the size of new commits' files.
    ///
    /// # Errors
    /// They are too large.
    pub fn require(&self, size: u64) -> Result<()> {
        if size <= self.bytes {
            return Ok(());
        }
        Err(Failure::new(format!("the new commits have {}; at most {} are fetched", bytes(size), bytes(self.bytes)))
            .with_hint(format!("to fetch them all the same: {} --max-size {}", self.raise, (size >> 20) + 1))
            .into())
    }
}

/// Packs the objects that `tips` reach and the source repository lacks; None if it lacks none. Git checks each object
/// (fsck) and that nothing but the pack and the source repository is needed.
///
/// # Errors
/// [`Unreadable`] if an object is missing, damaged or refused by git's checks. There are too many objects, or they are
/// too large.
pub fn pack(view: &View, tips: &[&str], source: &Stores, limit: Limit<'_>) -> Result<Option<Pack>> {
    let lines = |start: &str, ids: &mut dyn Iterator<Item = &str>| -> String {
        ids.map(|id| format!("{start}{id}\n")).collect()
    };
    let range = lines("", &mut tips.iter().copied()) + &lines("^", &mut view.safe.iter().map(String::as_str));
    let list = ["rev-list", "--objects", "--no-object-names", "--stdin"];
    let new = view.ask(&view.git(None).args(list).stdin(range.clone()))?;
    let objects = new.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    if objects == 0 {
        return Ok(None);
    }
    let bytes = require_few(view, &new, objects, limit)?;
    let pointers = view.pointers(&new)?.into_values().collect();
    let made = view.git_dir().join("made");
    fs::create_dir(&made).context("failed to make a directory for a pack")?;
    let make = view.git(None).args(["pack-objects", "--quiet", "--threads=2", "--delta-base-offset"]);
    let hash = view.ask(&make.arg(made.join("pack")).stdin(new))?;
    let hash = String::from_utf8_lossy(&hash).trim().to_owned();
    let (quarantine, name) = (view.git_dir().join("quarantine"), format!("pack-{hash}"));
    check(view, &made.join(format!("{name}.pack")), &quarantine, source, &range)?;
    Ok(Some(Pack { dir: quarantine.join("objects/pack"), name, bytes, pointers }))
}

/// Returns the size of the objects' contents, in bytes. Fails if there are too many objects, or if they are too large.
fn require_few(view: &View, ids: &[u8], objects: usize, limit: Limit<'_>) -> Result<u64> {
    if objects > MOST_OBJECTS {
        return Err(Failure::new(format!("the machine has {objects} new objects; at most {MOST_OBJECTS} are fetched"))
            .with_hint("find out what it committed: agent-vm exec -- git log --stat")
            .into());
    }
    let sizes = view.ask(&view.git(None).args(["cat-file", "--batch-check=%(objectsize)"]).stdin(ids))?;
    let sizes = String::from_utf8_lossy(&sizes);
    let all: u64 = sizes.lines().filter_map(|size| size.parse::<u64>().ok()).fold(0, u64::saturating_add);
    limit.require(all)?;
    Ok(all)
}

/// Moves a pack into an empty repository that borrows only the source's objects, indexes and checks it.
fn check(view: &View, pack: &Path, quarantine: &Path, source: &Stores, range: &str) -> Result<()> {
    let init = view.git_in(quarantine).args(["init", "--quiet", "--bare", "--template="]);
    let init = if view.store.object_format == "sha1" { init } else { init.arg("--object-format=sha256") };
    ask(&init.arg(quarantine), MAX_OUTPUT)?;
    let (store, info) = (quarantine.join("objects/pack"), quarantine.join("objects/info"));
    let moved = store.join(pack.file_name().unwrap_or_default());
    let alternates = view.source_objects().map_or_else(|| Ok(Vec::new()), |store| alternates::line(&store))?;
    let fill = || -> std::io::Result<()> {
        fs::create_dir_all(&info)?;
        fs::write(info.join("alternates"), alternates)?;
        if source.shallow.is_file() {
            fs::copy(&source.shallow, quarantine.join("shallow"))?;
        }
        fs::create_dir_all(&store)?;
        fs::rename(pack, &moved)
    };
    fill().context("failed to make a repository for the check")?;
    let refused = |error: anyhow::Error| match is_unreadable(&error) {
        true => anyhow::Error::new(Unreadable(format!("git refuses an object of the machine: {error:#}"))),
        false => error,
    };
    ask(&view.git_in(quarantine).args(["index-pack", "--strict"]).arg(&moved), MAX_OUTPUT).map_err(refused)?;
    let walk = ["rev-list", "--objects", "--quiet", "--stdin"];
    ask(&view.git_in(quarantine).args(walk).stdin(range), MAX_OUTPUT).map_err(refused)?;
    Ok(())
}
