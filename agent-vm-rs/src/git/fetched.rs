//! Reads what was fetched from a machine: its references in the source repository. The workspace is not read.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::namespace::namespace;
use super::standin::StandIn;
use super::{Source, examine, links};
use crate::host::process::Invocation;
use crate::machine::Machine;
use crate::machine::branch::BranchName;
use crate::term::error::Failure;

/// The references of a machine in its source repository.
pub struct FetchedRefs {
    /// Their full names and objects, sorted by name.
    refs: Vec<(String, String)>,
    /// The source's other references, with full names, and their objects. Those of machines are left out.
    others: BTreeMap<String, String>,
    prefix: String,
    standin: StandIn,
}

/// A commit and the full name of the reference to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Full name of the reference.
    pub reference: String,
    /// Its commit.
    pub commit: String,
}

/// A branch of the machine beside the source's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The machine's branch.
    pub tip: Tip,
    /// What it is compared with; None if they have nothing in common.
    pub base: Option<String>,
    /// The snapshot of uncommitted changes on top of it.
    pub uncommitted: Option<Tip>,
}

impl Tip {
    /// Returns the name of the machine's branch, if it is one.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        self.reference.split_once("/heads/").map(|(_, branch)| branch)
    }
}

impl FetchedRefs {
    /// Reads the references of a machine. There may be none. `scratch` is a directory of the machine.
    ///
    /// # Errors
    /// The source repository cannot be read.
    pub fn of(source: &Source, machine: &Machine) -> Result<Self> {
        links::check(&source.place)?;
        let standin = StandIn::for_showing(&source.place, &source.format, &machine.dir)?;
        let prefix = namespace(source, &machine.state, &machine.name)?;
        let (listed, _) = examine::list_in(&standin, &machine.dir)?;
        // The user may have committed since the links were made.
        standin.link_new_objects()?;
        let valid = listed.into_iter().map(|one| (String::from_utf8_lossy(&one.name).into_owned(), one.id));
        let (refs, others): (Vec<_>, Vec<_>) = valid.partition(|(name, _)| name.starts_with(&prefix));
        let others = others.into_iter().filter(|(name, _)| !name.starts_with("refs/agent-vm/")).collect();
        Ok(Self { refs, others, prefix, standin })
    }

    /// Returns whether nothing was fetched from the machine yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.refs.is_empty()
    }

    /// Returns a git call on the source's objects and references, with none of its configuration.
    #[must_use]
    pub fn git(&self) -> Invocation {
        self.standin.git()
    }

    /// Returns input for `git rev-list --stdin`: commits, without what the source's other references reach.
    #[must_use]
    pub fn new_since_others(&self, commits: &[&str]) -> String {
        let others = self.others.values().map(|id| format!("^{id}\n"));
        commits.iter().map(|commit| format!("{commit}\n")).chain(others).collect()
    }

    /// Returns a reference by its name below the machine's, such as `heads/main`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Tip> {
        let full = format!("{}{name}", self.prefix);
        let found = self.refs.iter().find(|(name, _)| *name == full)?;
        Some(Tip { reference: found.0.clone(), commit: found.1.clone() })
    }

    /// Returns the commit that a reference or an id leads to; None if it leads to something else.
    fn commit_at(&self, name: &str) -> Result<Option<String>> {
        self.answer(&["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")])
    }

    /// Returns the line that git prints; None if it fails or prints nothing.
    fn answer(&self, words: &[&str]) -> Result<Option<String>> {
        let output = self.git().args(words).output()?;
        let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok((output.status.success() && !line.is_empty()).then_some(line))
    }

    /// Returns a branch of the machine, or any of its references by its name below the machine's.
    ///
    /// # Errors
    /// The machine has no such reference.
    pub fn require(&self, name: &str) -> Result<Tip> {
        let found = self.find(&format!("heads/{name}")).or_else(|| self.find(name));
        let commit = found.as_ref().map(|tip| self.commit_at(&tip.commit)).transpose()?.flatten();
        if let (Some(tip), None) = (&found, &commit) {
            return Err(Failure::new(format!("{} of {} is no commit, or is missing", tip.commit, tip.reference))
                .with_hint("to fetch what is missing from the machine: agent-vm fetch")
                .into());
        }
        found.zip(commit).map(|(tip, commit)| Tip { commit, ..tip }).ok_or_else(|| {
            let heads =
                self.refs.iter().filter_map(|(full, _)| full.strip_prefix(&self.prefix)?.strip_prefix("heads/"));
            let heads: Vec<_> = heads.take(10).collect();
            let there = if heads.is_empty() {
                "it has no branch".to_owned()
            } else {
                format!("its branches: {}", heads.join(", "))
            };
            Failure::new(format!("nothing was fetched from the machine as {name}; {there}"))
                .with_hint("choose one of its branches: --ref NAME")
                .into()
        })
    }

    /// Compares a reference of the machine ([`Self::require`]) with the source's branch ([`Self::base`]).
    ///
    /// # Errors
    /// The machine has no such reference, or git fails.
    pub fn compared(&self, name: &str, branch: &BranchName) -> Result<Compared> {
        if let Some(compared) = self.compared_at_once(name, branch)? {
            return Ok(compared);
        }
        let tip = self.require(name)?;
        let base = self.base(branch, &tip.commit)?;
        let uncommitted = self.uncommitted_on(&tip.commit)?;
        Ok(Compared { tip, base, uncommitted })
    }

    /// Compares them by one call; None if that does not answer everything.
    fn compared_at_once(&self, name: &str, branch: &BranchName) -> Result<Option<Compared>> {
        let Some(tip) = self.find(&format!("heads/{name}")).or_else(|| self.find(name)) else { return Ok(None) };
        let with = self.others.get(&format!("refs/heads/{branch}")).map_or("HEAD", String::as_str);
        let commit = format!("{}^{{commit}}", tip.commit);
        let uncommitted = self.find("uncommitted");
        let parents = uncommitted.iter().map(|one| format!("{}^@", one.commit));
        // gitrevisions(7): the two commits, and their merge bases with "^".
        let words = [commit.clone()].into_iter().chain(parents).chain([format!("{with}...{commit}")]);
        let output = self.git().arg("rev-parse").args(words).output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let (bases, ids): (Vec<_>, Vec<_>) = printed.lines().partition(|line| line.starts_with('^'));
        let (true, [commit, parents @ .., _, _]) = (output.status.success(), ids.as_slice()) else { return Ok(None) };
        let base = bases.first().and_then(|line| line.strip_prefix('^')).map(str::to_owned);
        let uncommitted = uncommitted.filter(|_| parents.contains(commit));
        Ok(Some(Compared { tip: Tip { commit: (*commit).to_owned(), ..tip }, base, uncommitted }))
    }

    /// Returns the machine's branches, and the detached commits of its work trees.
    #[must_use]
    pub fn tips(&self) -> Vec<Tip> {
        let is_tip = |name: &str| {
            let below = name.strip_prefix(&self.prefix).unwrap_or(name);
            below == "detached" || ["heads/", "worktrees/", "origin/"].iter().any(|kind| below.starts_with(kind))
        };
        let tips = self.refs.iter().filter(|(name, _)| is_tip(name));
        tips.map(|(reference, commit)| Tip { reference: reference.clone(), commit: commit.clone() }).collect()
    }

    /// Returns the objects of the source's own references.
    pub fn own_objects(&self) -> impl Iterator<Item = &String> {
        self.others.values()
    }

    /// Returns the snapshot of uncommitted changes on top of a commit.
    ///
    /// # Errors
    /// Git fails.
    pub fn uncommitted_on(&self, commit: &str) -> Result<Option<Tip>> {
        let Some(tip) = self.find("uncommitted") else { return Ok(None) };
        let parents = self.git().args(["rev-list", "--parents", "--max-count=1"]).arg(&tip.commit).read()?;
        Ok(parents.split(' ').skip(1).any(|parent| parent == commit).then_some(tip))
    }

    /// Returns the snapshot of uncommitted changes and the commit that they are changes of; None in its place if they are
    /// changes of a branch without commits.
    ///
    /// # Errors
    /// Git fails.
    pub fn uncommitted(&self) -> Result<Option<(Option<String>, String)>> {
        let Some(Tip { commit, .. }) = self.find("uncommitted") else { return Ok(None) };
        let parents = self.git().args(["rev-list", "--parents", "--max-count=1"]).arg(&commit).read()?;
        // The others hold what is staged, and have no other parent if there is no commit.
        let parents: Vec<_> = parents.split(' ').skip(1).map(str::to_owned).collect();
        let base = if parents.len() > 1 { parents.into_iter().next() } else { None };
        Ok(Some((base, commit)))
    }

    /// Returns the commit that a machine's branch is compared with: the common ancestor with the source's branch of the
    /// same name, else with its HEAD; None if there is none.
    ///
    /// # Errors
    /// Git fails.
    pub fn base(&self, branch: &BranchName, tip: &str) -> Result<Option<String>> {
        let own = self.others.get(&format!("refs/heads/{branch}")).cloned();
        let Some(with) = own.map_or_else(|| self.commit_at("HEAD"), |own| Ok(Some(own)))? else { return Ok(None) };
        self.answer(&["merge-base", &with, tip])
    }

    /// Returns the id of a commit that a user names: an id or the start of one. Only commits that were fetched from the
    /// machine count.
    ///
    /// # Errors
    /// There is no such commit.
    pub fn commit(&self, word: &str) -> Result<String> {
        let unknown = || {
            Failure::usage(format!("{word:?} is not a commit of the machine"))
                .with_hint("to list its new commits: agent-vm log --oneline")
        };
        if word.len() < 4 || !word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(unknown().into());
        }
        // A branch may have the same name.
        let ids = self.git().args(["rev-parse", &format!("--disambiguate={word}")]).output()?.stdout;
        let ids = String::from_utf8_lossy(&ids).into_owned();
        let is_commit = |id: &&str| {
            let ask = self.git().args(["cat-file", "-e", &format!("{id}^{{commit}}")]).output();
            ask.is_ok_and(|output| output.status.success())
        };
        let [id] = ids.lines().filter(is_commit).collect::<Vec<_>>()[..] else { return Err(unknown().into()) };
        let id = id.to_owned();
        let tips: String = self.refs.iter().map(|(_, id)| format!("^{id}\n")).collect();
        let is_reached = || -> Result<bool> {
            let list = self.git().args(["rev-list", "--max-count=1", "--stdin"]).stdin(format!("{id}\n{tips}"));
            Ok(list.read()?.is_empty())
        };
        if !is_reached()? { Err(unknown().into()) } else { Ok(id) }
    }

    /// Returns the commits that a machine's tip adds to a work tree's commit, oldest first, without merges and without those
    /// whose changes were applied before.
    ///
    /// # Errors
    /// Git fails.
    pub fn new_commits(&self, onto: &str, tip: &str) -> Result<Vec<String>> {
        let list = self.git().args(["rev-list", "--reverse", "--no-merges", "--cherry-pick", "--right-only"]);
        let list = list.arg(format!("{onto}...{tip}")).read()?;
        Ok(list.lines().map(str::to_owned).collect())
    }
}

/// Returns the work tree of a source repository that contains `cwd`, or its main one.
///
/// # Errors
/// The repository has no work tree.
pub fn work_tree(source: &Source, cwd: &Path) -> Result<std::path::PathBuf> {
    let here = Source::discover(cwd).ok().flatten().filter(|here| here.dir == source.dir);
    let tree = here.as_ref().and_then(Source::work_tree).or_else(|| source.work_tree());
    tree.map(Path::to_owned).ok_or_else(|| {
        Failure::new(format!("{} has no work tree", source.dir.display()))
            .with_hint("make one, and repeat the command in it: git worktree add DIRECTORY BRANCH")
            .into()
    })
}
