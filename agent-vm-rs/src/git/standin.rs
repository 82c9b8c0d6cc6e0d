//! A git directory of ours in place of a repository's own.
//!
//! Git runs what a repository's configuration names: `core.fsmonitor`, filters, hooks, the program that a promisor remote is
//! reached by. A downloaded repository may name anything. So no git of ours is ever pointed at a repository of the user's: it
//! gets a git directory that we have written, with the repository's objects and references and none of its configuration.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::call::git;
use super::config::Format;
use super::discover::Place;
use super::refs::Ref;
use crate::host::files::plain;
use crate::host::process::Invocation;
use crate::machine::sweep::Scratch;

/// Bytes of the list of shallow commits.
const MAX_SHALLOW: u64 = 64 << 20;
/// Bytes of HEAD.
const MAX_HEAD: u64 = 16 << 10;

/// The git directory; it goes with this value.
pub struct StandIn(Scratch);

impl StandIn {
    /// All references of a repository, as they are, to be read.
    ///
    /// # Errors
    /// Files cannot be written in `scratch`.
    pub fn for_reading(place: &Place, format: &Format, scratch: &Path) -> Result<Self> {
        Self::of_refs(place, format, &place.common_dir, scratch)
    }

    /// HEAD of a work tree that keeps its references in tables.
    ///
    /// # Errors
    /// Files cannot be written in `scratch`.
    pub fn for_head(place: &Place, format: &Format, scratch: &Path) -> Result<Self> {
        Self::of_refs(place, format, &place.git_dir, scratch)
    }

    fn of_refs(place: &Place, format: &Format, refs_in: &Path, scratch: &Path) -> Result<Self> {
        let standin = Self::empty(place, format, scratch)?;
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
        make().context("failed to make a view of the repository")?;
        Ok(standin)
    }

    /// These references and no others, to be cloned from; `head` is the text of HEAD.
    ///
    /// # Errors
    /// Files cannot be written in `scratch`.
    pub fn offering(place: &Place, format: &Format, offer: &[Ref], head: &str, scratch: &Path) -> Result<Self> {
        // We write files, whatever the repository has.
        let format = Format { reftable: false, ..format.clone() };
        let standin = Self::empty(place, &format, scratch)?;
        let mut packed = Vec::new();
        for Ref { id, name, .. } in offer {
            packed.extend([id.as_bytes(), b" ", name, b"\n"].concat());
        }
        let make = || -> std::io::Result<()> {
            fs::create_dir(standin.path().join("refs"))?;
            fs::write(standin.path().join("packed-refs"), packed)?;
            fs::write(standin.path().join("HEAD"), format!("{head}\n"))
        };
        make().context("failed to write what the machine gets of the repository")?;
        Ok(standin)
    }

    /// Objects and shallow commits.
    fn empty(place: &Place, format: &Format, scratch: &Path) -> Result<Self> {
        let failed = || format!("failed to make a git directory in {}", scratch.display());
        let dir = Scratch::new_in(scratch)?;
        let mut config = "[core]\n\trepositoryFormatVersion = 1\n\tbare = true\n[extensions]\n".to_owned();
        // Git knows no name for what it has always had.
        if format.objects != "sha1" {
            config += &format!("\tobjectFormat = {}\n", format.objects);
        }
        if format.reftable {
            config += "\trefStorage = reftable\n";
        }
        let alternates = [alternate(&place.common_dir.join("objects"))?, b"\n".to_vec()].concat();
        let shallow = plain::read(&place.common_dir.join("shallow"), MAX_SHALLOW)?;
        let make = || -> std::io::Result<()> {
            fs::write(dir.path().join("config"), config)?;
            fs::create_dir_all(dir.path().join("objects/info"))?;
            fs::write(dir.path().join("objects/info/alternates"), alternates)?;
            shallow.map_or(Ok(()), |list| fs::write(dir.path().join("shallow"), list))
        };
        make().with_context(failed)?;
        Ok(Self(dir))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Git on it.
    #[must_use]
    pub fn git(&self) -> Invocation {
        git().arg("--git-dir").arg(self.path())
    }
}

/// HEAD's text, of one that is a link, too.
pub(super) fn head_of(git_dir: &Path) -> Result<Vec<u8>> {
    let head = git_dir.join("HEAD");
    if let Ok(target) = fs::read_link(&head) {
        return Ok([b"ref: ", target.as_os_str().as_bytes(), b"\n"].concat());
    }
    plain::read(&head, MAX_HEAD)?.with_context(|| format!("there is no {}", head.display()))
}

/// A line of `objects/info/alternates`: quoted as C, so that no path is taken for a comment.
fn alternate(objects: &Path) -> Result<Vec<u8>> {
    let path: PathBuf = fs::canonicalize(objects).with_context(|| format!("failed to find {}", objects.display()))?;
    let bytes = path.as_os_str().as_bytes();
    ensure!(!bytes.contains(&b'\n'), "the path {} has a line feed", path.display());
    let quoted = bytes.iter().flat_map(|byte| match byte {
        b'"' | b'\\' => vec![b'\\', *byte],
        byte => vec![*byte],
    });
    Ok(std::iter::once(b'"').chain(quoted).chain([b'"']).collect())
}
