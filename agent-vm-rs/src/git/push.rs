//! Bundles the source repository's newer commits for the copy that `origin` of a workspace leads to. The guest may create any
//! branch there, so a branch is sent only if the user gave it to the machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::partial::Partial;
use super::refs::{Known, Ref};
use super::standin::StandIn;
use super::{Source, examine, lfs, links};
use crate::host::files::{beneath, quoted};
use crate::host::process::Invocation;
use crate::machine::branch::BranchName;
use crate::term::error::Failure;

/// Largest bundle, in bytes.
const MAX_BUNDLE: usize = 1 << 30;
/// Largest list of new objects, and of those as small as pointers, in bytes.
const MAX_LIST: usize = 1 << 30;

/// A branch that the source repository has newer commits of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Sent {
    /// Its name.
    pub branch: String,
    /// Its commit in the copy before; None for a new branch.
    pub old: Option<String>,
    /// Its commit in the source repository.
    pub new: String,
}

/// The branches that a machine gets.
pub struct Scope<'a> {
    /// The machine's branch.
    pub branch: &'a BranchName,
    /// Whether the machine was created with all branches.
    pub all: bool,
    /// The start of the names of the machine's references in the source repository.
    pub prefix: &'a str,
    /// Branches that the user names.
    pub also: &'a [BranchName],
}

impl Scope<'_> {
    /// Returns whether a branch of the source is the machine's with all its commits; `has` has the branches of the copy.
    fn includes(&self, source: &Source, name: &str, has: &BTreeMap<String, String>) -> bool {
        // `checkout` makes such branches.
        let is_of_machine = || {
            let tracked = name.parse().ok().and_then(|name| source.tracked_here(&name).map(str::to_owned));
            tracked.is_some_and(|tracked| tracked.starts_with(self.prefix))
        };
        name == self.branch.as_str()
            || self.also.iter().any(|also| also.as_str() == name)
            || (has.contains_key(name) && (self.all || is_of_machine()))
    }
}

/// What the copy can get.
pub struct Offer {
    /// A bundle; None if the copy has everything.
    pub bundle: Option<Bundle>,
    /// Branches that the copy has, too, and of which only the source has commits.
    pub withheld: Vec<String>,
}

/// A bundle and the branches in it.
pub struct Bundle {
    /// The branches.
    pub sent: Vec<Sent>,
    /// The bundle.
    pub bytes: Vec<u8>,
    /// The contents of the LFS files in the new commits.
    pub large_files: LargeFiles,
}

/// Contents of LFS files that the source has.
pub struct LargeFiles {
    git_dir: File,
    paths: Vec<PathBuf>,
}

impl LargeFiles {
    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Opens one after the other and returns it with its path in a git directory.
    pub fn open(&self) -> impl Iterator<Item = (&Path, File)> {
        self.paths.iter().filter_map(|path| Some((path.as_path(), beneath::open_file(&self.git_dir, path)?)))
    }
}

/// Bundles the commits that the copy lacks of the branches in `scope`. The copy `has` branches (names and ids). Of the branch
/// to compare with, it gets what a new machine would. `scratch` is a directory of the machine.
///
/// # Errors
/// The source repository cannot be read, or has no branch that the user names.
pub fn bundle(source: &Source, scope: &Scope<'_>, has: &BTreeMap<String, String>, scratch: &Path) -> Result<Offer> {
    links::check(&source.place)?;
    let refs = examine::list(&source.place, &source.format, scratch)?;
    let known = Known { refs: &refs, config: &source.config };
    if let Some(missing) = scope.also.iter().find(|name| known.commit(&format!("refs/heads/{name}")).is_none()) {
        return Err(Failure::usage(format!("{} has no branch {missing}", source.dir.display()))
            .with_hint(format!("to list its branches: git -C {} branch", quoted(&source.dir)))
            .into());
    }
    let heads = refs.iter().filter_map(|reference| {
        let name = std::str::from_utf8(&reference.name).ok()?.strip_prefix("refs/heads/")?;
        (has.get(name) != Some(&reference.id)).then(|| (name.to_owned(), reference.clone()))
    });
    let (wanted, others): (Vec<_>, Vec<_>) = heads.partition(|(name, _)| scope.includes(source, name, has));
    let others: BTreeMap<_, _> = others.into_iter().filter(|(name, _)| has.contains_key(name)).collect();
    let to_compare = known.to_compare_with(scope.branch).into_iter();
    let to_compare: Vec<_> =
        to_compare.filter(|(name, _)| has.contains_key(name) && !names_one(&wanted, name)).collect();
    let own = known.start(scope.branch).map_or_else(Vec::new, |start| known.offer(scope.branch, &start, false));
    let look = StandIn::offering(&source.place, &source.format, &[], "ref: refs/heads/none", scratch)?;
    let ask = || look.git().of_machine(scratch);
    // The guest chooses these ids; only commits that the source has count.
    let ids: String = has.values().map(|id| format!("{id}\n")).collect();
    let there = ask().args(["cat-file", "--batch-check=%(objectname) %(objecttype)"]).stdin(ids).read()?;
    let there: Vec<_> = there.lines().filter_map(|line| line.strip_suffix(" commit")).collect();
    let below: String = there.iter().map(|id| format!("^{id}\n")).collect();
    let has_none = |id: &str, without: &str| -> Result<bool> {
        let list = ask().args(["rev-list", "--max-count=1", "--stdin"]).stdin(format!("{id}\n{without}"));
        Ok(list.read()?.is_empty())
    };
    let mut offer = Vec::new();
    for (name, reference) in wanted {
        if !has_none(&reference.id, &below)? {
            offer.push((name, reference));
        }
    }
    let own = own.iter().filter(|one| !one.name.starts_with(b"refs/tags/"));
    let shared: String = own.map(|one| format!("^{}\n", one.id)).collect();
    for (name, commits) in to_compare {
        let mut allowed = None;
        for commit in commits {
            if has_none(commit, &shared)? {
                allowed = Some(commit);
                break;
            }
        }
        // The copy's own commits stay.
        let before = has.get(&name).filter(|id| there.contains(&id.as_str()));
        if let (Some(commit), Some(before)) = (allowed, before)
            && !has_none(commit, &below)?
            && has_none(before, &format!("^{commit}\n"))?
        {
            offer.push((name.clone(), head(&name, commit)));
        }
    }
    let mut withheld = Vec::new();
    for (name, reference) in others {
        let sent = offer.iter().find(|(sent, _)| *sent == name).is_some_and(|(_, sent)| sent.id == reference.id);
        if !sent && !has_none(&reference.id, &below)? {
            withheld.push(name);
        }
    }
    let bundle = if offer.is_empty() { None } else { Some(pack(source, offer, has, &below, scratch)?) };
    Ok(Offer { bundle, withheld })
}

fn names_one(branches: &[(String, Ref)], name: &str) -> bool {
    branches.iter().any(|(there, _)| there == name)
}

fn head(name: &str, commit: &str) -> Ref {
    Ref { id: commit.to_owned(), name: format!("refs/heads/{name}").into_bytes(), symbolic: None }
}

/// Bundles branches without what is `below`: lines for `git rev-list --stdin`.
fn pack(
    source: &Source,
    offer: Vec<(String, Ref)>,
    has: &BTreeMap<String, String>,
    below: &str,
    scratch: &Path,
) -> Result<Bundle> {
    let refs: Vec<_> = offer.iter().map(|(_, reference)| reference.clone()).collect();
    let standin = StandIn::offering(&source.place, &source.format, &refs, "ref: refs/heads/none", scratch)?;
    let git = || standin.git().of_machine(scratch);
    let names: String = offer.iter().map(|(name, _)| format!("refs/heads/{name}\n")).collect();
    let sent = offer.into_iter().map(|(name, one)| Sent { old: has.get(&name).cloned(), branch: name, new: one.id });
    let sent: Vec<_> = sent.collect();
    let tips: String = sent.iter().map(|one| format!("{}\n", one.new)).collect();
    Partial { place: &source.place, config: &source.config, standin: &standin, scratch }
        .fill(&(tips.clone() + below))?;
    let large_files = large_files(&source.place.common_dir, &git, &tips, below)?;
    let create = git().args(["bundle", "create", "--quiet", "-", "--stdin"]).stdin(names + below);
    let bytes = create.checked_within(MAX_BUNDLE).context("failed to bundle the new commits")?.stdout;
    Ok(Bundle { sent, bytes, large_files })
}

/// Lists the contents of the LFS files in new commits. What is missing in the source is missing in the machine, too.
fn large_files(common_dir: &Path, git: &impl Fn() -> Invocation, tips: &str, below: &str) -> Result<LargeFiles> {
    let git_dir = File::open(common_dir).with_context(|| format!("failed to open {}", common_dir.display()))?;
    if !beneath::is_directory(&git_dir, lfs::DIRECTORY.as_ref()) {
        return Ok(LargeFiles { git_dir, paths: Vec::new() });
    }
    let ask = |git: &Invocation| Ok(git.checked_within(MAX_LIST)?.stdout);
    let list = git().args(["rev-list", "--objects", "--no-object-names", "--stdin"]).stdin(format!("{tips}{below}"));
    let pointers = lfs::pointers(&ask(&list)?, git, ask).context("failed to list Git LFS files")?;
    let there = pointers.values().filter(|pointer| lfs::has(&git_dir, pointer));
    let paths = there.map(lfs::Pointer::path).collect();
    Ok(LargeFiles { git_dir, paths })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Repository(tempfile::TempDir);

    impl Repository {
        fn git(&self, args: &[&str]) -> String {
            let git = Invocation::new("git").args(["-c", "user.name=me", "-c", "user.email=me@example.invalid"]);
            git.args(args).env("GIT_CONFIG_GLOBAL", "/dev/null").cwd(self.0.path()).read().unwrap()
        }

        /// Makes `feature`, `main` with a published and an unpublished commit, and `secret`; all start at the same commit.
        fn new() -> Self {
            let repository = Self(tempfile::tempdir().unwrap());
            repository.git(&["init", "--quiet", "--initial-branch=feature"]);
            repository.commit("first");
            for branch in ["secret", "main"] {
                repository.git(&["checkout", "--quiet", "-b", branch, "feature"]);
                repository.commit(branch);
            }
            repository.git(&["remote", "add", "origin", "https://host.invalid/r"]);
            repository.git(&["update-ref", "refs/remotes/origin/main", "main"]);
            repository.commit("unpublished");
            repository
        }

        fn commit(&self, message: &str) {
            self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        }

        fn offer(&self, has: &[(&str, &str)], all: bool, also: &[&str]) -> (Vec<(String, String)>, Vec<String>) {
            let source = Source::discover(self.0.path()).unwrap().unwrap();
            let scratch = tempfile::tempdir().unwrap();
            let has = has.iter().map(|(name, commit)| ((*name).to_owned(), self.git(&["rev-parse", commit])));
            let also: Vec<BranchName> = also.iter().map(|name| name.parse().unwrap()).collect();
            let branch = "feature".parse().unwrap();
            let scope = Scope { branch: &branch, all, prefix: "refs/agent-vm/app-feature/", also: &also };
            let Offer { bundle, withheld } = bundle(&source, &scope, &has.collect(), scratch.path()).unwrap();
            let file = scratch.path().join("bundle");
            let listed = bundle.map_or_else(String::new, |bundle| {
                std::fs::write(&file, bundle.bytes).unwrap();
                self.git(&["bundle", "list-heads", file.to_str().unwrap()])
            });
            let heads = listed.lines().filter_map(|line| line.split_once(" refs/heads/"));
            (heads.map(|(id, name)| (name.to_owned(), self.git(&["log", "-1", "--format=%s", id]))).collect(), withheld)
        }
    }

    fn sent(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(name, subject)| ((*name).to_owned(), (*subject).to_owned())).collect()
    }

    /// The guest creates a branch with the name of another one of the repository.
    #[test]
    fn a_branch_that_the_guest_names_is_not_sent() {
        let repository = Repository::new();
        let first = [("feature", "feature"), ("secret", "feature"), ("main", "feature"), ("other", "feature")];
        let both = ["main".to_owned(), "secret".to_owned()];
        // Of the default branch, the machine gets what is published, as a new one would.
        assert_eq!(repository.offer(&first, false, &[]), (sent(&[("main", "main")]), both.to_vec()));
        repository.git(&["checkout", "--quiet", "feature"]);
        repository.commit("newer");
        let published = [("feature", "feature~1"), ("secret", "feature~1"), ("main", "main~1")];
        assert_eq!(repository.offer(&published, false, &[]), (sent(&[("feature", "newer")]), both.to_vec()));
        // Control: the user's choice.
        let with_secret = sent(&[("feature", "newer"), ("secret", "secret")]);
        assert_eq!(repository.offer(&published, false, &["secret"]), (with_secret.clone(), vec!["main".to_owned()]));
        let all = sent(&[("feature", "newer"), ("main", "unpublished"), ("secret", "secret")]);
        assert_eq!(repository.offer(&published, true, &[]), (all, Vec::new()));
        repository.git(&["config", "branch.secret.remote", "."]);
        repository.git(&["config", "branch.secret.merge", "refs/agent-vm/app-feature/heads/secret"]);
        assert_eq!(repository.offer(&published, false, &[]), (with_secret, vec!["main".to_owned()]));
    }

    #[test]
    fn nothing_new_is_no_bundle() {
        let repository = Repository::new();
        let has = [("feature", "feature"), ("secret", "secret"), ("main", "main")];
        assert_eq!(repository.offer(&has, true, &[]), (Vec::new(), Vec::new()));
        // A commit of the machine's own default branch stays.
        assert_eq!(repository.offer(&[("feature", "feature"), ("main", "secret")], false, &[]).0, Vec::new());
    }
}
