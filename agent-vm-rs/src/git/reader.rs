//! Reads the source repository: what its references are, and which objects it has.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::refs::{self, Ref};
use super::standin::StandIn;
use super::{Source, Stores, examine};
use crate::host::files::quoted;
use crate::term::error::Failure;

/// A source repository as it was when it was opened. Dropping it removes the temporary git directory.
pub struct SourceReader {
    /// A stand-in with all references.
    pub standin: StandIn,
    /// The references.
    pub refs: Vec<Ref>,
    /// The object of every reference that lasts, without missing objects. Commits that these reach are safe in the
    /// repository.
    pub tips: Vec<String>,
    /// Its object stores.
    pub stores: Stores,
}

impl SourceReader {
    /// Opens a source repository. `scratch` is a directory of the machine for temporary files.
    ///
    /// # Errors
    /// Git fails, or a reference is damaged.
    pub fn open(source: &Source, scratch: &Path) -> Result<Self> {
        let standin = StandIn::for_reading(&source.place, &source.format, scratch)?;
        let (refs, broken) = examine::list_in(&standin, scratch)?;
        // The user may have committed since the links were made.
        standin.link_new_objects()?;
        // Commits that only it reaches would count as lost.
        if let Some(broken) = broken.first() {
            return Err(Failure::new(format!(
                "{} is damaged: its reference {broken} cannot be read",
                source.dir.display()
            ))
            .with_hint(format!("git -C {} fsck shows what is wrong", quoted(&source.dir)))
            .into());
        }
        let lasting = refs.iter().filter(|reference| !refs::is_snapshot(&reference.name));
        let ids: String = lasting.map(|reference| format!("{}\n", reference.id)).collect();
        let check = standin.git().args(["cat-file", "--batch-check=%(objectname)"]).stdin(ids).of_machine(scratch);
        // For a missing object git prints "ID missing".
        let tips = check.read()?.lines().filter(|line| !line.contains(' ')).map(str::to_owned).collect();
        Ok(Self { standin, refs, tips, stores: source.stores()? })
    }

    /// Returns an object store with the repository's objects.
    #[must_use]
    pub fn objects(&self) -> PathBuf {
        self.standin.path().join("objects")
    }
}
