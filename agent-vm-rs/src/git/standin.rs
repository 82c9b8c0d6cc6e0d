//! Builds stand-in git directories, which replace a repository's own for git calls.
//!
//! Git runs programs that a repository's configuration names: `core.fsmonitor`, filters, hooks, the transport of a
//! promisor remote. A downloaded repository may name anything. So git is never pointed at the source repository. It
//! gets a git directory that agent-vm wrote, with the repository's objects and references and none of its
//! configuration.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::call::git;
use super::config::Format;
use super::discover::Place;
use super::links;
use super::refs::Ref;
use super::stores::Stores;
use crate::host::files::plain;
use crate::host::process::Invocation;
use crate::machine::sweep::Scratch;
use crate::term::error::Failure;

/// Largest accepted list of shallow commits, in bytes.
const MAX_SHALLOW: u64 = 64 << 20;
/// Largest accepted HEAD, in bytes.
const MAX_HEAD: u64 = 16 << 10;

/// Longest time for a git call.
const LONGEST: Duration = Duration::from_secs(600);

/// A stand-in git directory; dropping the value removes it.
pub struct StandIn {
    dir: Scratch,
    stores: Stores,
    is_whole: bool,
}

/// How a stand-in gets the objects.
#[derive(Clone, Copy)]
enum Objects {
    /// By [`Stores::expose`].
    Linked,
    /// By [`Stores::expose_whole`] if that is possible.
    Whole,
}

impl StandIn {
    /// Makes a stand-in with all references of a repository, for reading.
    ///
    /// # Errors
    /// `scratch` cannot be written, or git would wait for a pipe of the repository.
    pub fn for_reading(place: &Place, format: &Format, scratch: &Path) -> Result<Self> {
        Self::of_refs(place, format, &place.common_dir, Objects::Linked, scratch)
    }

    /// Makes a stand-in as [`Self::for_reading`] does, but in less time. It is not for fetching: see [`Stores::expose_whole`].
    ///
    /// # Errors
    /// See [`Self::for_reading`].
    pub fn for_showing(place: &Place, format: &Format, scratch: &Path) -> Result<Self> {
        Self::of_refs(place, format, &place.common_dir, Objects::Whole, scratch)
    }

    /// Makes a stand-in with HEAD of a work tree whose references are in tables (reftable).
    ///
    /// # Errors
    /// `scratch` cannot be written, or git would wait for a pipe of the repository.
    pub fn for_head(place: &Place, format: &Format, scratch: &Path) -> Result<Self> {
        Self::of_refs(place, format, &place.git_dir, Objects::Whole, scratch)
    }

    fn of_refs(place: &Place, format: &Format, refs_in: &Path, objects: Objects, scratch: &Path) -> Result<Self> {
        links::require_files_in_refs(refs_in)?;
        let standin = Self::empty(place, format, objects, scratch)?;
        let make = || -> Result<()> {
            if format.reftable {
                fs::create_dir(standin.path().join("refs"))?;
                symlink(refs_in.join("reftable"), standin.path().join("reftable"))?;
                fs::write(standin.path().join("HEAD"), "ref: refs/heads/.invalid\n")?;
                return Ok(());
            }
            symlink(refs_in.join("refs"), standin.path().join("refs"))?;
            symlink(refs_in.join("packed-refs"), standin.path().join("packed-refs"))?;
            Ok(fs::write(standin.path().join("HEAD"), head_of(&place.git_dir)?)?)
        };
        make().context("failed to write a stand-in git directory")?;
        Ok(standin)
    }

    /// Makes a stand-in with only the references `offer`, for cloning. `head` is the text of HEAD.
    ///
    /// # Errors
    /// `scratch` cannot be written, or git would wait for a pipe of the repository.
    pub fn offering(place: &Place, format: &Format, offer: &[Ref], head: &str, scratch: &Path) -> Result<Self> {
        // The stand-in stores references in files, whatever format the repository has.
        let format = Format { reftable: false, ..format.clone() };
        let standin = Self::empty(place, &format, Objects::Linked, scratch)?;
        let mut packed = Vec::new();
        for Ref { id, name, .. } in offer {
            packed.extend([id.as_bytes(), b" ", name, b"\n"].concat());
        }
        let make = || -> std::io::Result<()> {
            fs::create_dir(standin.path().join("refs"))?;
            fs::write(standin.path().join("packed-refs"), packed)?;
            fs::write(standin.path().join("HEAD"), format!("{head}\n"))
        };
        make().context("failed to write a stand-in git directory")?;
        Ok(standin)
    }

    /// Makes a stand-in with the objects and the list of shallow commits, and no reference.
    fn empty(place: &Place, format: &Format, how: Objects, scratch: &Path) -> Result<Self> {
        let failed = || format!("failed to make a git directory in {}", scratch.display());
        let dir = Scratch::new_in(scratch)?;
        let mut config = "[core]\n\trepositoryFormatVersion = 1\n\tbare = true\n[extensions]\n".to_owned();
        // Git versions without SHA-256 support do not know the extension.
        if format.objects != "sha1" {
            config += &format!("\tobjectFormat = {}\n", format.objects);
        }
        if format.reftable {
            config += "\trefStorage = reftable\n";
        }
        let stores = Stores::of(place)?;
        let own = &stores.objects;
        let objects = fs::canonicalize(own).with_context(|| format!("failed to find {}", own.display()))?;
        let stores = Stores { objects, ..stores };
        let is_whole = matches!(how, Objects::Whole) && stores.expose_whole(&dir.path().join("objects"))?;
        let standin = Self { dir, stores, is_whole };
        standin.link_new_objects()?;
        let file = place.common_dir.join("shallow");
        let shallow = plain::read(&file, MAX_SHALLOW)?;
        let is_id = |line: &[u8]| matches!(line.len(), 40 | 64) && line.iter().all(u8::is_ascii_hexdigit);
        let mut lines = shallow.iter().flat_map(|list| list.split(|byte| *byte == b'\n'));
        if !lines.all(|line| line.is_empty() || is_id(line)) {
            return Err(Failure::new(format!("{} is damaged: it is not a list of commits", file.display()))
                .with_hint("take the file of another clone, or use a new clone of the repository")
                .into());
        }
        let make = || -> std::io::Result<()> {
            fs::write(standin.path().join("config"), config)?;
            shallow.map_or(Ok(()), |list| fs::write(standin.path().join("shallow"), list))
        };
        make().with_context(failed)?;
        Ok(standin)
    }

    /// Adds links to the parts of the object store that git has made since.
    ///
    /// # Errors
    /// It cannot be written, or git would wait for a pipe of the repository.
    pub fn link_new_objects(&self) -> Result<()> {
        if self.is_whole {
            return Ok(());
        }
        self.stores.expose(&self.path().join("objects"), &self.path().join("stores"))
    }

    /// Returns the path of the git directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Returns a git call on this git directory. It has a time limit, since a hostile repository can make git run long.
    #[must_use]
    pub fn git(&self) -> Invocation {
        git().time_limit(LONGEST).arg("--git-dir").arg(self.path())
    }
}

/// Returns the text of HEAD, also of a HEAD that is a symbolic link.
pub(super) fn head_of(git_dir: &Path) -> Result<Vec<u8>> {
    let head = git_dir.join("HEAD");
    if let Ok(target) = fs::read_link(&head) {
        return Ok([b"ref: ", target.as_os_str().as_bytes(), b"\n"].concat());
    }
    plain::read(&head, MAX_HEAD)?.with_context(|| format!("{} does not exist", head.display()))
}
