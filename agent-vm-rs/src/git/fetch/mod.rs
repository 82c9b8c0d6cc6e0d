//! Fetches everything that a machine has into its source repository, as `refs/agent-vm/MACHINE/…`.
//!
//! The workspace may be hostile. Git reads it in a confined view and packs the new objects there ([`super::workspace`]);
//! the pack is checked beside the source's objects only. Then [`install_kept()`] copies it into the source's object store, and
//! the references change. Nothing else of the workspace reaches the source repository. A commit that a reference of the
//! source loses stays as `refs/agent-vm/MACHINE/former/ID`.

mod change;
pub mod mirrored;
mod plan;
mod restore;
mod writing;

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, Result};

use self::change::Change;
pub use self::change::Update;
use self::plan::{Named, Plan, named};
pub use self::restore::{Restoring, has_everything, is_shallower, restore};
use super::install::{Kept, install_kept};
use super::namespace::{claim, namespace};
use super::owner::Owner;
use super::standin::StandIn;
use super::workspace::{Limit, Offering, Pack, Repository, UNCOMMITTED, Wanted, bring_large_files, offering, pack};
use super::{Source, SourceReader, Stores, links};
use crate::host::interrupt;
use crate::machine::name::VmName;
use crate::machine::state_dir::StateDir;

/// A machine and what to fetch from it.
pub struct Request<'a> {
    /// Its state directory.
    pub state: &'a StateDir,
    /// Its name.
    pub name: &'a VmName,
    /// Its workspace.
    pub workspace: &'a Path,
    /// Its source repository.
    pub source: &'a Source,
    /// A directory of the machine for temporary files.
    pub scratch: &'a Path,
    /// Whether to fetch uncommitted changes, as a commit.
    pub uncommitted: bool,
    /// Largest size of the new objects' contents, in bytes.
    pub most: u64,
}

/// What was fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Fetched {
    /// Number of commits that the source repository did not have.
    pub commits: usize,
    /// Changed references.
    pub updates: Vec<Update>,
    /// What the machine has and was not fetched.
    pub left_out: Vec<String>,
    /// Whether the uncommitted changes are those of now.
    #[serde(skip)]
    pub has_looked_at_files: bool,
    /// The start of the names of the machine's references.
    #[serde(skip)]
    pub prefix: String,
}

/// Fetches what a machine has. A second call without changes does nothing.
///
/// # Errors
/// Git cannot read the workspace or refuses an object of it, there is too much, or the source repository cannot be
/// written. The source repository's references are then unchanged, or changed in part without losing a commit.
pub fn fetch(request: &Request<'_>) -> Result<Fetched> {
    let source = request.source;
    links::check(&source.place)?;
    let reader = Rc::new(SourceReader::open(source, request.scratch)?);
    let known: Named = reader.refs.iter().map(|one| (one.name.clone(), one.id.clone())).collect();
    let wanted =
        Wanted { source, reader: &reader, known: &known, uncommitted: request.uncommitted, scratch: request.scratch };
    let Offering { repositories, left_out, has_looked_at_files } = offering(request.workspace, &wanted)?;
    let limit = Limit { bytes: request.most, raise: "agent-vm fetch" };
    let (offered, missing, _kept) = bring(&repositories, source, &reader.stores, limit)?;
    let prefix = namespace(source, request.state, request.name)?;
    let below = |name: &[u8]| name.strip_prefix(prefix.as_bytes()).map(<[u8]>::to_vec);
    let mut current: Named = known.iter().filter_map(|(name, id)| Some((below(name)?, id.clone()))).collect();
    if !has_looked_at_files {
        current.remove(UNCOMMITTED);
    }
    let plan = Plan::new(&current, &offered);
    let mut fetched = Fetched { left_out, has_looked_at_files, ..Fetched::default() };
    fetched.left_out.extend(missing);
    if !plan.is_empty() {
        claim(source, request.state, request.name, &prefix)?;
        let change = Change {
            git_dir: &source.place.common_dir,
            standin: &reader.standin,
            known: &known,
            plan: &plan,
            prefix: &prefix,
            scratch: request.scratch,
        };
        fetched.commits = change.commits()?;
        fetched.updates = apply(source, change)?;
    }
    fetched.prefix = prefix;
    Ok(fetched)
}

/// Changes references of the source repository, as its owner.
fn apply(source: &Source, change: Change<'_>) -> Result<Vec<Update>> {
    let Some(owner) = Owner::of(&source.place.common_dir) else { return change.apply() };
    owner.act(|| {
        // The owner of the source repository cannot read the machine's directory.
        let scratch = tempfile::tempdir().or_else(|_| tempfile::tempdir_in("/tmp"));
        let scratch = scratch.context("failed to make a temporary directory")?;
        let standin = StandIn::for_reading(&source.place, &source.format, scratch.path())?;
        Change { standin: &standin, ..change }.apply()
    })
}

/// Brings the objects that repositories offer, and the contents of their LFS files, into the source repository. Returns the
/// names for the objects, what is not brought, with the reasons, and the packs, which git keeps until references are written.
fn bring(
    repositories: &[Repository],
    source: &Source,
    stores: &Stores,
    limit: Limit<'_>,
) -> Result<(Named, Vec<String>, Vec<Kept>)> {
    let common_dir = &source.place.common_dir;
    let mut packs: Vec<Pack> = Vec::new();
    let mut missing = Vec::new();
    for repository in repositories {
        let tips: Vec<_> = repository.offers.iter().map(|offer| offer.object.as_str()).collect();
        let packed: u64 = packs.iter().map(|pack| pack.bytes).sum();
        let left = Limit { bytes: limit.bytes.saturating_sub(packed), ..limit };
        let pack = pack(&repository.view, &tips, stores, left)?;
        let new = pack.as_ref().map_or(&[][..], |pack| &pack.pointers);
        let packed = pack.as_ref().map_or(0, |pack| pack.bytes);
        let left = Limit { bytes: left.bytes.saturating_sub(packed), ..left };
        missing.extend(bring_large_files(repository, new, common_dir, left)?);
        packs.extend(pack);
        interrupt::check()?;
    }
    let kept = packs.iter().map(|pack| install_kept(&pack.dir, &pack.name, &stores.objects)).collect::<Result<_>>()?;
    let offers = repositories.iter().flat_map(|repository| &repository.offers);
    Ok((named(offers.map(|offer| (offer.name.as_slice(), offer.object.as_str()))), missing, kept))
}
