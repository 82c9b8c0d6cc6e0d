//! The object stores of a repository, and links through which git reads them.
//!
//! Git follows `info/alternates` of every store that it reads. A downloaded repository's list could name any store of
//! the user, in a form that only git understands. So git never reads a repository's store itself: it reads links to its
//! packs and loose objects, and the stores that agent-vm found in the list. A store without a list is also read itself
//! ([`Stores::expose_whole`]).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::discover::Place;
use super::{alternates, links};
use crate::host::files::places::Mounts;
use crate::host::files::resolved;

/// The object stores of a repository.
#[derive(Clone, Debug)]
pub struct Stores {
    /// Its own object store.
    pub objects: PathBuf,
    /// The stores that it borrows objects from (alternates).
    pub borrowed: Vec<PathBuf>,
    /// The file that lists its shallow commits; it need not exist.
    pub shallow: PathBuf,
}

impl Stores {
    /// Returns the stores of a repository.
    ///
    /// # Errors
    /// A list of borrowed stores cannot be read.
    pub(super) fn of(place: &Place) -> Result<Self> {
        let objects = place.common_dir.join("objects");
        Ok(Self { borrowed: alternates::of(&objects)?, objects, shallow: place.common_dir.join("shallow") })
    }

    /// Returns its own store and those that it borrows from.
    pub fn all(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.objects).chain(&self.borrowed)
    }

    /// Returns a path in `dir` that the repository reads objects from, through a link, a mount or by borrowing. The repository
    /// would lose objects if `dir` were removed.
    #[must_use]
    pub fn within(&self, dir: &Path) -> Option<PathBuf> {
        let mounts = Mounts::read();
        let stores: Vec<_> = self.all().map(|store| resolved(store)).collect();
        let linked = || stores.iter().flat_map(|store| links::of(store)).find(|target| mounts.reach(target, dir));
        stores.iter().find(|store| mounts.reach(store, dir)).cloned().or_else(linked)
    }

    /// Makes the object store `store`, which has all objects of these stores and none that git would find by their own
    /// lists. `links` is a directory for the links that it borrows from. A second call adds links to new parts. Objects that the
    /// user adds later count only if they are in packs or in a directory that exists already.
    ///
    /// # Errors
    /// It cannot be written, or git would wait for a pipe in a store.
    pub fn expose(&self, store: &Path, links: &Path) -> Result<()> {
        let mut list = Vec::new();
        for (number, of) in self.all().enumerate() {
            let links = links.join(number.to_string());
            let failed = "failed to create links to the objects";
            fs::create_dir_all(links.join("info")).context(failed)?;
            for part in links::parts_of_store(of) {
                let link = links.join(&part);
                if link.symlink_metadata().is_err() {
                    links::require_files_in_part(&of.join(&part), &self.objects)?;
                    symlink(of.join(&part), link).context(failed)?;
                }
            }
            list.extend(alternates::line(&links)?);
        }
        borrow(store, list)
    }

    /// Makes the object store `store` as [`Self::expose`] does, but without links, which take most of the time of a short
    /// command. Git reads the repository's store itself. Only for calls that ask no borrowed store's repository for its
    /// references: a fetch does. Returns false, and does nothing, if there is a list of other stores, or the path has a newline.
    ///
    /// # Errors
    /// See [`Self::expose`].
    pub fn expose_whole(&self, store: &Path) -> Result<bool> {
        let has_list = self.objects.join("info/alternates").symlink_metadata().is_ok();
        // The list of a store cannot hold a path with a newline; that of the links can.
        let Ok(list) = alternates::line(&self.objects) else { return Ok(false) };
        if has_list || !self.borrowed.is_empty() {
            return Ok(false);
        }
        for part in links::parts_of_store(&self.objects) {
            links::require_files_in_part(&self.objects.join(part), &self.objects)?;
        }
        borrow(store, list)?;
        Ok(true)
    }
}

/// Writes a store's list of stores that it borrows from.
fn borrow(store: &Path, list: Vec<u8>) -> Result<()> {
    let info = store.join("info");
    fs::create_dir_all(&info)
        .and_then(|()| fs::write(info.join("alternates"), list))
        .context("failed to borrow objects")
}
