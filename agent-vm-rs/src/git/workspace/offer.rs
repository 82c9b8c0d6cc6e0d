//! Lists what the repositories of a workspace offer to `fetch`, under the names that the source repository gives them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;

use super::edited_large_files::{Edited, Large};
use super::findings::{MAX_CHANGED, MAX_CHANGED_BYTES, size};
use super::git_failure::{Unreadable, is_no_memory, is_unreadable};
use super::layout;
use super::listed_refs::Reference;
use super::refs::{OF_COPY, shown};
use super::view::{Place, View};
use super::work_trees::detached_heads;
use crate::git::{Source, SourceReader};
use crate::term::error::{EXIT_TIMEOUT, Failure, exit_code};
use crate::term::text::{bytes, count};

/// Largest number of references that a machine may offer.
pub const MOST: usize = 10_000;
/// Largest number of repositories in the work tree that notices name.
const MOST_NAMED: usize = 10;
/// Time limit of each git call.
const LIMIT: Duration = Duration::from_secs(300);
/// Time limit of each git call that compares the work tree, in which files can be pipes.
const WORK_TREE_LIMIT: Duration = Duration::from_secs(20);
/// Name of the commit of uncommitted changes.
pub const UNCOMMITTED: &[u8] = b"uncommitted";

/// An object and its name below the machine's references in the source repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Such as `heads/main`.
    pub name: Vec<u8>,
    /// Its id.
    pub object: String,
}

/// A repository of a workspace and what it offers.
pub struct Repository {
    /// Its view.
    pub view: View,
    /// What it offers.
    pub offers: Vec<Offer>,
    /// Git LFS files of the work tree whose pointers it offers.
    pub edited: Vec<Edited>,
}

/// Everything that a workspace offers.
#[derive(Default)]
pub struct Offering {
    /// The workspace's repository and its submodules with new commits.
    pub repositories: Vec<Repository>,
    /// What is left out, for notices.
    pub left_out: Vec<String>,
    /// Whether the uncommitted changes were looked at, and are offered if there are any.
    pub has_looked_at_files: bool,
}

/// What to look for.
pub struct Wanted<'a> {
    /// The source repository.
    pub source: &'a Source,
    /// The same, opened.
    pub reader: &'a Rc<SourceReader>,
    /// Its references: full names and object ids.
    pub known: &'a BTreeMap<Vec<u8>, String>,
    /// Whether to offer uncommitted changes.
    pub uncommitted: bool,
    /// A directory of the machine for temporary files.
    pub scratch: &'a Path,
}

/// Lists everything that a workspace offers. Remote-tracking references and tags that the source repository has are left
/// out.
///
/// # Errors
/// [`Unreadable`] if git cannot read the workspace's repository; other errors are failures of the host.
pub fn offering(workspace: &Path, wanted: &Wanted<'_>) -> Result<Offering> {
    let mut offering = Offering::default();
    let place = Place { workspace, git_dir: Path::new(".git"), work_tree: Some(Path::new("")) };
    let mut view = View::open(&place, Some(wanted.reader), wanted.scratch, LIMIT)?;
    require_same_format(&view, wanted)?;
    let mut offers = Vec::new();
    offering.left_out.extend(view.copied.odd.iter().map(|odd| format!("{odd}, which git did not write")));
    let references = view.named()?;
    let is_own = |(name, _): &(&Vec<u8>, &String)| !name.starts_with(b"refs/agent-vm/");
    let safe: BTreeSet<_> = wanted.known.iter().filter(is_own).map(|(_, object)| object).collect();
    for reference in &references {
        let is_known = match reference.name.starts_with(OF_COPY) {
            true => safe.contains(&reference.object),
            false => wanted.known.get(&reference.name) == Some(&reference.object),
        };
        if let Some(name) = name_of(&reference.name)
            && (name.starts_with(b"heads/") || !is_known)
        {
            offers.push(Offer { name, object: reference.object.clone() });
        }
    }
    offers.extend(stashes(&view, &references)?);
    if let (None, Some(commit)) = (&view.head.branch, &view.head.commit) {
        offers.push(Offer { name: b"detached".to_vec(), object: commit.clone() });
    }
    let detached = detached_heads(&view.guest)?.into_iter();
    offers.extend(
        detached.map(|(name, object)| Offer { name: valid(&[b"worktrees/", name.as_slice()].concat()), object }),
    );
    let mut edited = Vec::new();
    if wanted.uncommitted {
        view.limit(WORK_TREE_LIMIT);
        let found = uncommitted(&view, workspace, &mut offering.left_out, &mut edited);
        view.limit(LIMIT);
        match found {
            Ok(found) => {
                offering.has_looked_at_files = true;
                offers.extend(found);
            }
            Err(error) if is_unreadable(&error) || is_no_memory(&error) || exit_code(&error) == EXIT_TIMEOUT => {
                offering.left_out.push(format!("uncommitted changes: {error:#}"));
            }
            Err(error) => return Err(error),
        }
    }
    offering.repositories.push(Repository { view, offers, edited });
    let layout = layout::look(&workspace.join(".git"))?;
    let too_many = layout.too_many_modules();
    let modules = if too_many.is_some() { Vec::new() } else { layout.modules };
    offering.left_out.extend(too_many);
    for module in modules {
        match submodule(workspace, &module, wanted) {
            Ok(found) => offering.repositories.extend(found),
            Err(error) if is_unreadable(&error) => {
                offering.left_out.push(format!("the submodule {}: {error:#}", shown(module.as_os_str().as_bytes())));
            }
            Err(error) => return Err(error),
        }
    }
    let all: usize = offering.repositories.iter().map(|repository| repository.offers.len()).sum();
    if all > MOST {
        return Err(Failure::new(format!("the machine has {all} references; at most {MOST} are fetched"))
            .with_hint("delete some in the machine: agent-vm exec -- git branch -D BRANCH")
            .into());
    }
    Ok(offering)
}

fn require_same_format(view: &View, wanted: &Wanted<'_>) -> Result<()> {
    let length = if view.store.object_format == "sha256" { 64 } else { 40 };
    if wanted.known.values().any(|id| id.len() != length) {
        return Err(Unreadable(format!("it has {} objects, unlike its source", view.store.object_format)).into());
    }
    Ok(())
}

/// Returns the name that a reference gets; None for a remote-tracking one.
pub(super) fn name_of(reference: &[u8]) -> Option<Vec<u8>> {
    if let Some(rest) = reference.strip_prefix(OF_COPY) {
        return Some([b"origin/", rest].concat());
    }
    let rest = reference.strip_prefix(b"refs/").filter(|rest| !rest.starts_with(b"remotes/"))?;
    let is_plain = rest == b"stash" || [&b"heads/"[..], b"tags/", b"notes/"].iter().any(|kind| rest.starts_with(kind));
    Some(if is_plain { rest.to_vec() } else { [b"other/", rest].concat() })
}

/// Offers the older stash entries, which no reference names.
fn stashes(view: &View, references: &[Reference]) -> Result<Vec<Offer>> {
    if !references.iter().any(|reference| reference.name == b"refs/stash") {
        return Ok(Vec::new());
    }
    let name = |number: usize| format!("stashes/{}", number + 1).into_bytes();
    let older = view.older_stashes()?.into_iter().enumerate();
    Ok(older.map(|(number, object)| Offer { name: name(number), object }).collect())
}

/// Returns a name that is valid in a reference: other characters become dashes.
pub(super) fn valid(name: &[u8]) -> Vec<u8> {
    gix_validate::reference::name_partial_or_sanitize(name.into()).into()
}

/// Commits the uncommitted changes in the view, without what git cannot save. The commit has HEAD's time, so that the same
/// changes have the same id.
fn uncommitted(
    view: &View,
    workspace: &Path,
    left_out: &mut Vec<String>,
    edited: &mut Vec<Edited>,
) -> Result<Option<Offer>> {
    let files = view.changed_files(false)?;
    if files.is_empty() {
        return Ok(None);
    }
    let all: u64 = files.iter().map(|file| size(workspace, file)).sum();
    if files.len() > MAX_CHANGED || all > MAX_CHANGED_BYTES {
        let many = count(files.len(), "changed file");
        return Err(Unreadable(format!("{many} of {} are too large to copy", bytes(all))).into());
    }
    let (repositories, files): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.ends_with(b"/"));
    let listed = repositories.iter().take(MOST_NAMED).map(|path| format!("{}, a repository", shown(path)));
    left_out.extend(listed);
    let saved = view.commit_what_git_saves(&files, Some(&view.date_of_head()?), Large::Pointers)?;
    edited.extend(saved.edited);
    let left: Vec<_> = saved.left.iter().filter(|path| !repositories.contains(path)).collect();
    if let [first, ..] = left.as_slice() {
        left_out.push(format!("{} that git does not save, such as {}", count(left.len(), "file"), shown(first)));
    }
    let is_all = files.iter().all(|file| left.contains(&file));
    Ok((!is_all).then(|| Offer { name: UNCOMMITTED.to_vec(), object: saved.commit }))
}

/// Returns a submodule with the references to commits that its own source lacks; None without such commits.
fn submodule(workspace: &Path, module: &Path, wanted: &Wanted<'_>) -> Result<Option<Repository>> {
    let git_dir = Path::new(".git").join(module);
    let place = Place { workspace, git_dir: &git_dir, work_tree: None };
    let view = View::open(&place, Some(wanted.reader), wanted.scratch, LIMIT)?;
    require_same_format(&view, wanted)?;
    let mut safe = Vec::new();
    if let Some(source) = wanted.source.submodule(module, Some(&plain(module))) {
        safe = SourceReader::open(&source, wanted.scratch)?.tips;
        safe.extend(source.detached());
    }
    let mut references = view.named()?;
    let head = view.head.commit.iter().filter(|_| view.head.branch.is_none());
    references.extend(head.map(|commit| Reference {
        object: commit.clone(),
        kind: "commit".to_owned(),
        name: b"refs/detached".to_vec(),
    }));
    let is_head = |reference: &&Reference| reference.kind == "commit" && !reference.name.starts_with(b"refs/remotes/");
    let tips = references.iter().filter(is_head).map(|reference| format!("{}\n", reference.object));
    let tips: String = tips.chain(safe.iter().map(|tip| format!("^{tip}\n"))).collect();
    let new = view.ask(&view.git(None).args(["rev-list", "--ignore-missing", "--stdin"]).stdin(tips))?;
    let new = String::from_utf8_lossy(&new);
    let new: BTreeSet<_> = new.lines().collect();
    let name = plain(module);
    let prefix = [b"submodules/", name.as_os_str().as_bytes(), b"/"].concat();
    let offer = |reference: &Reference| {
        let below = name_of(&reference.name)?;
        let below = below.strip_prefix(b"other/detached").map_or(below.clone(), |_| b"detached".to_vec());
        let name = valid(&[prefix.as_slice(), &below].concat());
        new.contains(reference.object.as_str()).then(|| Offer { name, object: reference.object.clone() })
    };
    let offers: Vec<_> = references.iter().filter_map(offer).collect();
    Ok((!offers.is_empty()).then_some(Repository { view, offers, edited: Vec::new() }))
}

/// Returns a submodule's name: `modules/NAME/modules/INNER` is `NAME/INNER`.
pub(super) fn plain(module: &Path) -> PathBuf {
    let mut parts = module.components();
    let mut name = PathBuf::new();
    while let Some(part) = parts.next() {
        match part.as_os_str() == "modules" {
            true => name.extend(parts.next()),
            false => name.push(part),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_keep_their_kind() {
        let named = |name: &str| name_of(name.as_bytes()).map(|name| String::from_utf8(name).unwrap());
        for (reference, name) in [
            ("refs/heads/a/b", Some("heads/a/b")),
            ("refs/tags/v1", Some("tags/v1")),
            ("refs/notes/commits", Some("notes/commits")),
            ("refs/stash", Some("stash")),
            ("refs/agent-vm-origin/heads/x", Some("origin/heads/x")),
            ("refs/former/x", Some("other/former/x")),
            ("refs/bisect/bad", Some("other/bisect/bad")),
            ("refs/remotes/origin/main", None),
            ("HEAD", None),
        ] {
            assert_eq!(named(reference).as_deref(), name, "{reference}");
        }
    }

    #[test]
    fn submodules_have_their_names() {
        assert_eq!(plain(Path::new("modules/libs/a")), Path::new("libs/a"));
        assert_eq!(plain(Path::new("modules/a/modules/b")), Path::new("a/b"));
    }

    #[test]
    fn names_become_valid() {
        for (name, made) in [
            ("worktrees/fix", "worktrees/fix"),
            ("submodules/libs/the sub/detached", "submodules/libs/the-sub/detached"),
        ] {
            assert_eq!(String::from_utf8(valid(name.as_bytes())).unwrap(), made);
        }
        for name in [&b"worktrees/.."[..], b"worktrees/a.lock", b"submodules/-x/\x1b[1m", b"worktrees/"] {
            let made = [b"refs/", valid(name).as_slice()].concat();
            assert!(gix_validate::reference::name(made.as_slice().into()).is_ok(), "{made:?}");
        }
    }
}
