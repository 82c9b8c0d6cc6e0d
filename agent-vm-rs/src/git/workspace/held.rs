//! Lists everything that a kept bundle or workspace holds. The guest wrote both.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Result;
use rustix::fs::OFlags;

use super::contents::Contents;
use super::findings::{MAX_CHANGED, MAX_CHANGED_BYTES, own, reader_of, size, view_of};
use super::git_failure::is_unreadable;
use super::guest_files::{open_inside, open_root};
use super::inventory;
use super::large_files::left_out;
use super::layout::MAX_ODD;
use super::listed_refs::Reference;
use super::objects::is_damaged_in_source;
use super::offer::{Offer, Repository, name_of, plain, valid};
use super::refs::shown;
use super::store::shallow_commits;
use super::unbundle::{self, Unbundled};
use super::unsaved::Unsaved;
use super::view::{LONG, Place, View};
use crate::git::{Source, SourceReader};
use crate::machine::sweep::Scratch;
use crate::term::text::{bytes, count};

/// A pointer to a git directory, as `destroy` renames it.
const POINTER: &[u8] = b".git.of-the-guest";
/// Other files that `destroy` renames: the guest's configuration and hooks, which are no work.
const DISABLED: [&str; 7] =
    ["config", "config.worktree", "hooks", "commondir", "gitdir", "alternates", "http-alternates"];
/// Largest number of commits and files that are listed.
const MOST_LISTED: usize = 100;

/// Everything that a kept bundle or workspace holds.
#[derive(Default)]
pub struct Held {
    /// Its repository and those of its submodules, with everything that they offer.
    pub repositories: Vec<Repository>,
    /// What no repository offers, with the reason.
    left_out: Vec<String>,
    /// A workspace, and the files of its LFS stores.
    large_files: Option<(PathBuf, Vec<PathBuf>)>,
    /// What the source repository lacks.
    pub contents: Contents,
    /// The first changed files.
    pub files: Vec<String>,
    _workspace: Option<Scratch>,
}

impl Held {
    /// Returns what no repository offers and `source` does not have, with the reasons.
    #[must_use]
    pub fn left_out(&self, source: Option<&Source>) -> Vec<String> {
        let large = self.large_files.as_ref().and_then(|(workspace, files)| left_out(source, workspace, files));
        self.left_out.iter().cloned().chain(large).collect()
    }

    /// Returns the ids of everything offered.
    #[must_use]
    pub fn tips(&self) -> BTreeSet<String> {
        self.repositories.iter().flat_map(|one| &one.offers).map(|offer| offer.object.clone()).collect()
    }

    /// Returns whether the source repository has a damaged object of this. Git reads as many as a short time allows.
    ///
    /// # Errors
    /// Git fails.
    pub fn is_damaged_in_source(&self) -> Result<bool> {
        for Repository { view, offers, .. } in &self.repositories {
            let tips: Vec<_> = offers.iter().map(|offer| offer.object.as_str()).collect();
            if is_damaged_in_source(view, &tips)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the ids of its shallow commits, which lack their parents.
    ///
    /// # Errors
    /// [`super::Unreadable`] if git did not write a list of them.
    pub fn shallow_commits(&self) -> Result<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        for Repository { view, .. } in &self.repositories {
            all.extend(String::from_utf8_lossy(&shallow_commits(&view.guest)?).lines().map(str::to_owned));
        }
        Ok(all)
    }

    /// Returns the first commits that the source repository lacks, newest first: id and subject.
    ///
    /// # Errors
    /// [`super::Unreadable`] if git cannot read one.
    pub fn commits(&self) -> Result<Vec<(String, String)>> {
        let mut commits = Vec::new();
        for Repository { view, offers, .. } in &self.repositories {
            let range = new_since(view, offers);
            let log = view.git(None).args(["log", "--no-decorate", "--format=%H %s", "--ignore-missing", "--stdin"]);
            let listed = view.ask(&log.arg(format!("--max-count={MOST_LISTED}")).stdin(range))?;
            let listed = String::from_utf8_lossy(&listed);
            let line = |line: &str| line.split_once(' ').map(|(id, subject)| (id.to_owned(), subject.to_owned()));
            commits.extend(listed.lines().filter_map(line));
        }
        commits.truncate(MOST_LISTED);
        Ok(commits)
    }
}

/// Returns whether an unknown file of a git directory has a name that `destroy` gives.
fn is_disabled(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    // A killed `destroy` is completed by another one, which adds a number.
    let is_number =
        |rest: &str| rest.is_empty() || rest.strip_prefix('-').is_some_and(|rest| rest.parse::<u32>().is_ok());
    let rest = |disabled| name.strip_prefix(disabled)?.strip_prefix(".of-the-guest");
    DISABLED.iter().any(|disabled| rest(*disabled).is_some_and(is_number))
}

/// Returns a range of what is new in the source repository, without the commits of uncommitted files.
fn new_since(view: &View, offers: &[Offer]) -> String {
    let is_file = |name: &[u8]| name.starts_with(b"heads/agent-vm") && name.ends_with(b"/uncommitted");
    let tips = offers.iter().filter(|offer| !is_file(&offer.name)).map(|offer| format!("{}\n", offer.object));
    tips.chain(view.safe.iter().map(|tip| format!("^{tip}\n"))).collect()
}

/// Lists what a kept bundle holds. `source` is a repository that may have some of it.
///
/// # Errors
/// [`super::Unreadable`] if git cannot read the bundle; other errors are failures of the host.
pub fn of_bundle(bundle: &Path, source: Option<&Source>, scratch: &Path) -> Result<Held> {
    let Unbundled { view, references, workspace } = unbundle::open(bundle, source, scratch)?;
    let mut held = Held { _workspace: Some(workspace), ..Held::default() };
    if let Some(uncommitted) = references.iter().find(|one| one.name.ends_with(b"/uncommitted")) {
        let diff = ["diff-tree", "--root", "-r", "-z", "--name-only", "--no-commit-id", "--no-renames", "-m"];
        let range = format!("{}^1", uncommitted.object);
        let parent = view.ask(&view.git(None).args(["rev-parse", "--verify", "--quiet"]).arg(&range)).is_ok();
        let of = if parent { vec![range, uncommitted.object.clone()] } else { vec![uncommitted.object.clone()] };
        let listed = view.ask(&view.git(None).args(diff).args(of).arg("--"))?;
        let files: Vec<_> = listed.split(|byte| *byte == 0).filter(|path| !path.is_empty()).collect();
        held.contents.changed_files = files.len();
        held.files = files.iter().take(MOST_LISTED).map(|path| shown(path)).collect();
    }
    let offers = offers_of(&references, b"");
    let new = view.git(None).args(["rev-list", "--count", "--ignore-missing", "--stdin"]);
    let new = view.ask(&new.stdin(new_since(&view, &offers)))?;
    held.contents.commits = String::from_utf8_lossy(&new).trim().parse().unwrap_or(0);
    held.repositories.push(Repository { view, offers, edited: Vec::new() });
    Ok(held)
}

/// Lists what a kept workspace holds. `source` is a repository that may have some of it.
///
/// # Errors
/// [`super::Unreadable`] if git cannot read the repository at its top; other errors are failures of the host.
pub fn of_workspace(workspace: &Path, source: Option<&Source>, scratch: &Path) -> Result<Held> {
    let inventory = inventory::take(workspace)?;
    let mut held = Held::default();
    let odd = &inventory.git_dir.odd;
    held.left_out.extend(inventory.odd.iter().chain(odd.iter().filter(|odd| !is_disabled(odd))).cloned());
    if odd.len() >= MAX_ODD {
        held.left_out.push("other files in .git".to_owned());
    }
    let too_many = inventory.git_dir.too_many_modules();
    let modules = if too_many.is_some() { &[][..] } else { &inventory.git_dir.modules };
    held.left_out.extend(too_many);
    held.large_files = Some((workspace.to_owned(), inventory.git_dir.large_files));
    let reader = reader_of(source, scratch)?;
    let mut top = own(view_of(workspace, source, scratch)?)?;
    if !inventory.like_repositories.is_empty() && !top.view.has_all_of(&inventory.like_repositories)? {
        let places = inventory.like_repositories.iter().map(|path| format!("a repository in {}", path.display()));
        held.left_out.extend(places.map(|place| shown(place.as_bytes())));
    }
    held.contents = top.contents();
    held.files = top.files.iter().take(MOST_LISTED).map(|path| shown(path)).collect();
    let ignored = top.view.ignored_files()?;
    if ignored > 0 {
        held.left_out.push(count(ignored, "ignored file"));
    }
    let references = everything(&mut top, workspace, "", &mut held.left_out)?;
    held.repositories.push(Repository { offers: offers_of(&references, b""), view: top.view, edited: Vec::new() });
    for module in modules {
        let sources = source.zip(reader.as_ref());
        match of_submodule(workspace, module, sources, scratch, &mut held.left_out) {
            Ok(repository) => held.repositories.push(repository),
            Err(error) if is_unreadable(&error) => {
                let name = shown(module.as_os_str().as_bytes());
                held.left_out.push(format!("the submodule {name}: {error:#}"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(held)
}

/// Lists what a submodule of a kept workspace holds. Commits go to the source repository, which lacks those of the user's own
/// submodule: all that a new commit needs are offered.
fn of_submodule(
    workspace: &Path,
    module: &Path,
    source: Option<(&Source, &Rc<SourceReader>)>,
    scratch: &Path,
    left_out: &mut Vec<String>,
) -> Result<Repository> {
    let name = plain(module);
    // A submodule usually has the name of its directory; a kept one no longer points to its git directory.
    let is_directory = open_inside(open_root(workspace)?, &name, OFlags::PATH | OFlags::DIRECTORY);
    let work_tree = is_directory.is_ok_and(|found| found.is_some()).then_some(name.as_path());
    let git_dir = Path::new(".git").join(module);
    let place = Place { workspace, git_dir: &git_dir, work_tree };
    let mut own = own(View::open(&place, source.map(|(_, reader)| reader), scratch, LONG)?)?;
    own.files.retain(|file| file != POINTER);
    if work_tree.is_none() {
        own.files.clear();
    }
    let tree = workspace.join(&name);
    let what = format!(" of the submodule {}", shown(name.as_os_str().as_bytes()));
    let references = everything(&mut own, &tree, &what, left_out)?;
    let prefix = [b"submodules/", name.as_os_str().as_bytes(), b"/"].concat();
    let mut offers = offers_of(&references, &prefix);
    if let (None, Some(commit)) = (&own.view.head.branch, &own.view.head.commit) {
        offers.push(Offer { name: valid(&[prefix.as_slice(), b"detached"].concat()), object: commit.clone() });
    }
    if let Some(users) = source.and_then(|(source, _)| source.submodule(module, Some(&name))) {
        let known = known_to_submodule(&own.view, &offers, &users, scratch)?;
        offers.retain(|offer| !known.contains(&offer.object));
    }
    Ok(Repository { offers, view: own.view, edited: Vec::new() })
}

/// Returns those of the offered objects that the user's own submodule has.
fn known_to_submodule(view: &View, offers: &[Offer], users: &Source, scratch: &Path) -> Result<BTreeSet<String>> {
    let mut safe = SourceReader::open(users, scratch)?.tips;
    safe.extend(users.detached());
    let range = offers.iter().map(|offer| format!("{}\n", offer.object));
    let range: String = range.chain(safe.iter().map(|tip| format!("^{tip}\n"))).collect();
    let new = view.ask(
        &view
            .git(None)
            .args(["rev-list", "--objects", "--no-object-names", "--ignore-missing", "--stdin"])
            .stdin(range),
    )?;
    let new = String::from_utf8_lossy(&new);
    let new: BTreeSet<_> = new.lines().collect();
    Ok(offers.iter().map(|offer| &offer.object).filter(|object| !new.contains(object.as_str())).cloned().collect())
}

/// Returns references to everything in a repository. Changed files that cannot be copied are left out.
fn everything(own: &mut Unsaved, work_tree: &Path, of: &str, left_out: &mut Vec<String>) -> Result<Vec<Reference>> {
    let all: u64 = own.files.iter().map(|file| size(work_tree, file)).sum();
    let many = |own: &Unsaved| format!("{}{of}", count(own.files.len(), "changed file"));
    if own.files.len() > MAX_CHANGED || all > MAX_CHANGED_BYTES {
        left_out.push(format!("{} of {}", many(own), bytes(all)));
        own.files.clear();
    }
    let date = own.view.date_of_head()?;
    let rest = match own.name_the_rest(Some(&date)) {
        Err(error) if is_unreadable(&error) && !own.files.is_empty() => {
            left_out.push(format!("{}: {error:#}", many(own)));
            own.files.clear();
            own.name_the_rest(Some(&date))?
        }
        rest => rest?,
    };
    Ok(own.worth_keeping().into_iter().chain(rest).collect())
}

fn offers_of(references: &[Reference], prefix: &[u8]) -> Vec<Offer> {
    let below = |reference: &[u8]| {
        let rest = || reference.strip_prefix(b"refs/").unwrap_or(reference);
        name_of(reference).unwrap_or_else(|| [b"other/", rest()].concat())
    };
    let offer = |one: &Reference| {
        let name = valid(&[prefix, below(&one.name).as_slice()].concat());
        Offer { name, object: one.object.clone() }
    };
    references.iter().map(offer).collect()
}
