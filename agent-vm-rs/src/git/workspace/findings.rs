//! Finds what a workspace has that its source repository lacks, and whether a bundle can hold all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Result;

use super::contents::Contents;
use super::git_failure::{Unreadable, is_unreadable};
use super::guest_files::{is_empty, open_root};
use super::inventory::{self, Inventory, is_elsewhere, shown_path};
use super::large_files::lacking_in;
use super::listed_refs::Reference;
use super::objects::objects;
use super::refs::shown;
use super::unsaved::Unsaved;
use super::view::{LONG, Place, View};
use crate::git::{Source, SourceReader};
use crate::host::interrupt;

/// Size of packs, in bytes, above which a workspace is moved and not bundled.
const MAX_PACKED: u64 = 512 << 20;
/// Changed files, and their size in bytes, above which a workspace is moved and not bundled.
pub(super) const MAX_CHANGED: usize = 10_000;
pub(super) const MAX_CHANGED_BYTES: u64 = 256 << 20;

/// How to save a workspace without losing anything.
pub enum Findings {
    /// Nothing to save: the source repository has everything.
    Nothing,
    /// A bundle can hold what the source repository lacks.
    Bundle(Box<Unsaved>),
    /// The whole workspace must be kept, for this reason. The numbers are those of its own repository, as far as it can be
    /// read.
    Whole(WholeReason, Contents),
}

impl Findings {
    /// Returns what only the workspace has, as numbers; None if its repository cannot be read.
    #[must_use]
    pub fn contents(&self) -> Option<Contents> {
        match self {
            Self::Nothing => Some(Contents::default()),
            Self::Bundle(own) => Some(own.contents()),
            Self::Whole(WholeReason::Unreadable(_), _) => None,
            Self::Whole(WholeReason::Holds(_), contents) => Some(contents.clone()),
        }
    }
}

/// Why a bundle is not enough.
pub enum WholeReason {
    /// The workspace's repository cannot be read.
    Unreadable(String),
    /// The workspace also has this, which a bundle cannot hold.
    Holds(String),
}

/// Finds what only the workspace has. `scratch` is a directory of the host for temporary git directories.
///
/// # Errors
/// The host fails, or the workspace's repository is on the machine's disk.
pub fn look(workspace: &Path, source: Option<&Source>, scratch: &Path) -> Result<Findings> {
    let inventory = inventory::take(workspace)?;
    if inventory.is_empty {
        return Ok(Findings::Nothing);
    }
    if !inventory.elsewhere.is_empty() {
        return Err(on_the_disk(&inventory.elsewhere));
    }
    let odd: Vec<_> = inventory.odd.iter().chain(&inventory.git_dir.odd).cloned().collect();
    if !odd.is_empty() {
        let count = || view_of(workspace, source, scratch).and_then(own).map(|own| own.contents());
        let contents = if inventory.has_pipe { Ok(Contents::default()) } else { count() };
        interrupt::check()?;
        return Ok(Findings::Whole(WholeReason::Holds(some(&odd)), contents.unwrap_or_default()));
    }
    match look_at_repository(workspace, source, scratch, &inventory) {
        Err(error) if is_unreadable(&error) => {
            Ok(Findings::Whole(WholeReason::Unreadable(format!("{error:#}")), Contents::default()))
        }
        other => other,
    }
}

/// Returns a view of the workspace's repository that reads all of it.
pub(super) fn view_of(workspace: &Path, source: Option<&Source>, scratch: &Path) -> Result<View> {
    let place = Place { workspace, git_dir: Path::new(".git"), work_tree: Some(Path::new("")) };
    View::open(&place, reader_of(source, scratch)?.as_ref(), scratch, LONG)
}

/// Opens a source repository, if there is one.
pub(super) fn reader_of(source: Option<&Source>, scratch: &Path) -> Result<Option<Rc<SourceReader>>> {
    source.map(|source| SourceReader::open(source, scratch).map(Rc::new)).transpose()
}

fn look_at_repository(
    workspace: &Path,
    source: Option<&Source>,
    scratch: &Path,
    inventory: &Inventory,
) -> Result<Findings> {
    let view = view_of(workspace, source, scratch)?;
    let alternates = view.store.alternates.clone();
    let own = match own(view) {
        Err(error) if is_unreadable(&error) => {
            let elsewhere = alternates.iter().filter(|path| is_elsewhere(workspace, path));
            let places: Vec<_> = elsewhere.map(|path| shown(path)).collect();
            return Err(if places.is_empty() { error } else { on_the_disk(&places) });
        }
        other => other?,
    };
    let contents = own.contents();
    if let Some(store) = alternates.iter().find(|path| !is_elsewhere(workspace, path)) {
        let why = format!("objects in another store, {}", shown(store));
        return Ok(Findings::Whole(WholeReason::Holds(why), contents));
    }
    if let Some(why) = holds_more(workspace, source, scratch, inventory, &own.view)? {
        return Ok(Findings::Whole(WholeReason::Holds(why), contents));
    }
    if own.is_empty() {
        return Ok(Findings::Nothing);
    }
    if own.holes > 0 {
        return Ok(Findings::Whole(WholeReason::Holds(contents.describe()), contents));
    }
    let holds = |what: &str| {
        Ok(Findings::Whole(WholeReason::Holds(format!("{}, {what}", contents.describe())), contents.clone()))
    };
    let bytes = || own.files.iter().map(|file| size(workspace, file)).sum::<u64>();
    if own.view.is_shallow {
        return holds("and a shallow history");
    }
    if own.view.store.packed > MAX_PACKED {
        return holds("and a history that is too large to copy");
    }
    if own.files.len() > MAX_CHANGED || bytes() > MAX_CHANGED_BYTES {
        return holds("which are too large to copy");
    }
    Ok(Findings::Bundle(Box::new(own)))
}

/// Finds what is in a repository and not in its source.
pub(super) fn own(view: View) -> Result<Unsaved> {
    if let Some(odd) = view.copied.odd.first() {
        return Err(Unreadable(format!("git did not write {odd}")).into());
    }
    let references = view.named()?;
    let (commits, tags, holes) = objects(&view)?;
    let files = view.changed_files(false)?;
    let safe: BTreeSet<_> = view.safe.iter().collect();
    let to_other = |reference: &&Reference| matches!(reference.kind.as_str(), "tree" | "blob");
    let others = references.iter().filter(to_other).map(|reference| &reference.object).chain(&tags);
    let others = others.filter(|object| !safe.contains(object)).collect::<BTreeSet<_>>().len();
    let named: BTreeSet<_> = references.iter().map(|reference| &reference.object).collect();
    let tags = tags.iter().filter(|tag| !safe.contains(tag) && !named.contains(tag)).cloned().collect();
    Ok(Unsaved { references, commits, others, tags, files, holes, view })
}

/// Returns what the workspace has, outside its own repository's history, that its source lacks.
fn holds_more(
    workspace: &Path,
    source: Option<&Source>,
    scratch: &Path,
    inventory: &Inventory,
    view: &View,
) -> Result<Option<String>> {
    if let Some(file) = lacking_in(source, workspace, &inventory.git_dir.large_files).next() {
        return Ok(Some(format!("large files that its source lacks, such as {}", shown_path(file))));
    }
    let like = &inventory.like_repositories;
    if !like.is_empty() && !view.has_all_of(like)? {
        return Ok(Some(format!("a repository in {}", shown_path(&like[0]))));
    }
    if let Some(many) = inventory.git_dir.too_many_modules() {
        return Ok(Some(many));
    }
    let mut links = Gitlinks::default();
    links.add(Path::new(""), view)?;
    for module in &inventory.git_dir.modules {
        let git_dir = Path::new(".git").join(module);
        let work_trees: Vec<_> = inventory.submodules.iter().filter(|(_, of)| *of == git_dir).collect();
        let ([] | [_]) = work_trees.as_slice() else {
            return Ok(Some(format!("two work trees of the submodule {}", shown_path(module))));
        };
        let work_tree = work_trees.first().map(|(tree, _)| tree.as_path());
        let source = source.and_then(|source| source.submodule(module, work_tree));
        // Objects that a submodule's source borrows from the workspace are not safe there. (Callers check the source itself.)
        let source = source.filter(|source| source.store_in(workspace).is_ok_and(|store| store.is_none()));
        let place = Place { workspace, git_dir: &git_dir, work_tree };
        let own = reader_of(source.as_ref(), scratch)
            .and_then(|reader| View::open(&place, reader.as_ref(), scratch, LONG))
            .and_then(|mut view| {
                // Only HEAD reaches the commit that a submodule has checked out.
                view.safe.extend(source.as_ref().and_then(Source::detached));
                own(view)
            });
        if let (Ok(own), Some(work_tree)) = (&own, work_tree) {
            links.add(work_tree, &own.view)?;
        }
        let why = match own {
            Ok(own) if own.view.borrows() => "which borrows objects".to_owned(),
            Ok(own) if own.is_empty() => continue,
            Ok(own) => own.contents().describe(),
            Err(error) if is_unreadable(&error) => format!("{error:#}"),
            Err(error) => return Err(error),
        };
        return Ok(Some(format!(
            "the submodule {} ({why})",
            shown_path(module.strip_prefix("modules").unwrap_or(module))
        )));
    }
    // A .git that points to no known submodule may hide a repository that was not examined.
    let known =
        |git_dir: &Path| inventory.git_dir.modules.iter().any(|module| git_dir == Path::new(".git").join(module));
    let unknown = inventory.submodules.iter().find(|(_, git_dir)| !known(git_dir));
    Ok(unknown.map(|(tree, _)| format!("a repository in {}", shown_path(tree))).or_else(|| links.hold(workspace)))
}

/// The submodules of all work trees, and the commit that each has checked out.
#[derive(Default)]
struct Gitlinks {
    wanted: BTreeMap<PathBuf, String>,
    there: BTreeMap<PathBuf, Option<String>>,
}

impl Gitlinks {
    fn add(&mut self, work_tree: &Path, view: &View) -> Result<()> {
        let path = |bytes: Vec<u8>| work_tree.join(std::ffi::OsString::from_vec(bytes));
        self.wanted.extend(view.gitlinks()?.into_iter().map(|(at, commit)| (path(at), commit)));
        self.there.insert(work_tree.to_owned(), view.head.commit.clone());
        Ok(())
    }

    /// Returns what no view shows: a submodule at another commit than in the index, or files at the path of a
    /// submodule.
    fn hold(&self, workspace: &Path) -> Option<String> {
        let is_empty = |path: &Path| open_root(workspace).is_ok_and(|root| is_empty(root, path));
        self.wanted.iter().find_map(|(path, commit)| match self.there.get(path) {
            Some(there) if there.as_ref() == Some(commit) => None,
            Some(_) => Some(format!("the submodule {} at another commit", shown_path(path))),
            None if is_empty(path) => None,
            None => Some(format!("files in the place of the submodule {}", shown_path(path))),
        })
    }
}

/// Returns the size of a file, in bytes; 0 if it cannot be read.
pub(super) fn size(workspace: &Path, file: &[u8]) -> u64 {
    let path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(file);
    workspace.join(path).symlink_metadata().map_or(0, |found| found.len())
}

/// The workspace's repository is on the machine's disk, which the host does not read.
#[derive(Debug)]
pub struct OnTheDisk(String);

impl std::fmt::Display for OnTheDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the workspace's repository is on the machine's own disk ({}) and not in the workspace; destroying the machine would lose its commits",
            self.0
        )
    }
}

impl std::error::Error for OnTheDisk {}

fn on_the_disk(places: &[String]) -> anyhow::Error {
    OnTheDisk(some(places)).into()
}

/// Returns a list with the first three items and the number of the others.
fn some(all: &[String]) -> String {
    match all {
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second}, {third} and {} more", rest.len())
        }
        all => all.join(", "),
    }
}
