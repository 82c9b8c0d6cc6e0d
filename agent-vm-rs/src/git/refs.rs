//! Lists the references of a repository and selects those that a machine gets.

use std::collections::BTreeSet;

use super::config::Config;
use crate::machine::branch::BranchName;

/// Name of the workspace's remote that replaces the source repository's own remote.
pub const UPSTREAM: &str = "upstream";
/// The workspace's temporary reference to the commit that a new branch starts at.
pub const START: &str = "refs/agent-vm/start";
/// Names that a default branch usually has, for a remote whose HEAD is unknown.
const USUAL_DEFAULTS: [&str; 3] = ["main", "master", "trunk"];

/// A reference. Its name need not be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ref {
    /// Object id.
    pub id: String,
    /// Full name.
    pub name: Vec<u8>,
    /// Full name of the target, if it is a symbolic reference.
    pub symbolic: Option<Vec<u8>>,
}

/// The format that [`parse`] reads, for `git for-each-ref`.
pub const FORMAT: &str = "--format=%(objectname) %(refname) %(symref)";

/// Parses the output of `git for-each-ref` in [`FORMAT`].
#[must_use]
pub fn parse(printed: &[u8]) -> Vec<Ref> {
    let line = |line: &[u8]| {
        let mut words = line.split(|byte| *byte == b' ');
        let id = String::from_utf8(words.next()?.to_vec()).ok()?;
        let name = words.next()?.to_vec();
        let symbolic = words.next().filter(|target| !target.is_empty()).map(<[u8]>::to_vec);
        Some(Ref { id, name, symbolic })
    };
    printed.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// Returns whether a reference leads to a snapshot of a machine's uncommitted changes, which the next fetch replaces.
#[must_use]
pub fn is_snapshot(name: &[u8]) -> bool {
    let below = name.strip_prefix(b"refs/agent-vm/").and_then(|below| below.strip_suffix(b"/uncommitted"));
    below.is_some_and(|machine| !machine.contains(&b'/'))
}

/// Returns whether git cannot have references of both names: one would be a directory of the other.
#[must_use]
pub fn collide(one: &[u8], other: &[u8]) -> bool {
    let is_below = |name: &[u8], of: &[u8]| name.strip_prefix(of).is_some_and(|rest| rest.starts_with(b"/"));
    is_below(one, other) || is_below(other, one)
}

/// The commit that a branch starts at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// The local branch exists.
    Local(String),
    /// Only a remote-tracking branch exists.
    Remote(String),
    /// The branch is new and starts at HEAD.
    New(String),
}

impl Start {
    /// Returns the commit id.
    #[must_use]
    pub fn commit(&self) -> &str {
        match self {
            Self::Local(commit) | Self::Remote(commit) | Self::New(commit) => commit,
        }
    }
}

/// The facts that decide what a machine gets of a repository.
pub struct Known<'a> {
    /// Every reference.
    pub refs: &'a [Ref],
    /// The repository's configuration.
    pub config: &'a Config,
}

impl<'a> Known<'a> {
    fn find(&self, name: &str) -> Option<&'a Ref> {
        self.refs.iter().find(|reference| reference.name == name.as_bytes())
    }

    /// Returns the commit of a reference.
    #[must_use]
    pub fn commit(&self, name: &str) -> Option<&'a str> {
        self.find(name).map(|reference| reference.id.as_str())
    }

    /// Returns the commit of a branch, or that of its remote-tracking branch.
    #[must_use]
    pub fn start(&self, branch: &BranchName) -> Option<Start> {
        if let Some(commit) = self.commit(&format!("refs/heads/{branch}")) {
            return Some(Start::Local(commit.to_owned()));
        }
        let remote = self.remote(branch).unwrap_or("origin");
        self.commit(&format!("refs/remotes/{remote}/{branch}")).map(|commit| Start::Remote(commit.to_owned()))
    }

    /// Returns a local branch that rules out a new branch of this name, since one name would be a directory of the
    /// other.
    #[must_use]
    pub fn in_the_way_of(&self, branch: &BranchName) -> Option<String> {
        let new = format!("refs/heads/{branch}");
        let names = self.refs.iter().map(|reference| &reference.name);
        let other = names.filter(|name| name.starts_with(b"refs/heads/")).find(|name| collide(name, new.as_bytes()));
        other.map(|name| String::from_utf8_lossy(name).into_owned())
    }

    /// Returns the remote that the source repository was cloned from: `origin`, else the branch's remote, else the
    /// first one.
    #[must_use]
    pub fn remote(&self, branch: &BranchName) -> Option<&'a str> {
        let remotes = self.config.subsections("remote", "url");
        let named = |name: &str| remotes.iter().find(|remote| **remote == name).copied();
        let of_branch = || named(self.config.get(&format!("branch.{branch}.remote"))?);
        named("origin").or_else(of_branch).or_else(|| remotes.first().copied())
    }

    /// Returns the name of a remote's default branch.
    fn default_branch(&self, remote: &str) -> Option<String> {
        let prefix = format!("refs/remotes/{remote}/");
        let head = self.find(&format!("{prefix}HEAD")).and_then(|head| head.symbolic.clone());
        let named = head.and_then(|target| String::from_utf8(target).ok()?.strip_prefix(&prefix).map(str::to_owned));
        named.filter(|name| self.find(&format!("{prefix}{name}")).is_some()).or_else(|| {
            let usual = USUAL_DEFAULTS.iter().find(|name| self.find(&format!("{prefix}{name}")).is_some());
            usual.map(|name| (*name).to_owned())
        })
    }

    /// Returns the full name of the branch's upstream (remote-tracking) branch.
    fn upstream(&self, branch: &BranchName) -> Option<String> {
        let remote = self.config.get(&format!("branch.{branch}.remote"))?;
        let followed = self.config.get(&format!("branch.{branch}.merge"))?.strip_prefix("refs/heads/")?;
        let name = format!("refs/remotes/{remote}/{followed}");
        self.find(&name).map(|_| name)
    }

    /// Returns the branches to compare work with: their names, and for each the commits that it may have in the machine. The
    /// first commit that is part of the clone counts: the local branch's, else that of the remote's default branch.
    #[must_use]
    pub fn to_compare_with(&self, branch: &BranchName) -> Vec<(String, Vec<&'a str>)> {
        let remote = self.remote(branch);
        let default = remote.and_then(|remote| self.default_branch(remote));
        let local = self.config.get(&format!("branch.{branch}.remote")) == Some(".");
        let followed = self.config.get(&format!("branch.{branch}.merge")).filter(|_| local);
        let followed = followed.and_then(|name| name.strip_prefix("refs/heads/")).map(str::to_owned);
        let names: BTreeSet<_> = default.into_iter().chain(followed).filter(|name| name != branch.as_str()).collect();
        let with_commits = |name: String| {
            let of_remote = remote.and_then(|remote| self.commit(&format!("refs/remotes/{remote}/{name}")));
            let commits = self.commit(&format!("refs/heads/{name}")).into_iter().chain(of_remote);
            let commits = commits.collect();
            (name, commits)
        };
        names.into_iter().map(with_commits).collect()
    }

    /// Returns what a clone for the branch offers: the branch, its upstream and the remote's default branch; with
    /// `all`, every branch. Tags are always offered, since git fetches only those that point into the history.
    #[must_use]
    pub fn offer(&self, branch: &BranchName, start: &Start, all: bool) -> Vec<Ref> {
        let mut offer: Vec<Ref> = Vec::new();
        let mut add = |id: &str, name: Vec<u8>| {
            if !offer.iter().any(|there| there.name == name) {
                offer.push(Ref { id: id.to_owned(), name, symbolic: None });
            }
        };
        match start {
            Start::Local(commit) => add(commit, format!("refs/heads/{branch}").into_bytes()),
            Start::Remote(commit) | Start::New(commit) => add(commit, START.as_bytes().to_vec()),
        }
        let remote = self.remote(branch);
        let ours = |name: &str| match remote.and_then(|remote| name.strip_prefix(&format!("refs/remotes/{remote}/"))) {
            Some(short) => format!("refs/remotes/{UPSTREAM}/{short}"),
            // A branch of another remote that is also called `upstream`.
            None => name.replace(&format!("refs/remotes/{UPSTREAM}/"), &format!("refs/remotes/source-{UPSTREAM}/")),
        };
        let default = remote.and_then(|remote| Some(format!("refs/remotes/{remote}/{}", self.default_branch(remote)?)));
        let of_start = remote.map(|remote| format!("refs/remotes/{remote}/{branch}"));
        let of_start = of_start.filter(|_| matches!(start, Start::Remote(_)));
        for name in [self.upstream(branch), of_start, default].into_iter().flatten() {
            if let Some(commit) = self.commit(&name) {
                add(commit, ours(&name).into_bytes());
            }
        }
        // A set, since there may be very many references.
        let taken: BTreeSet<Vec<u8>> = offer.iter().map(|there| there.name.clone()).collect();
        let prefix = remote.map(|remote| format!("refs/remotes/{remote}/"));
        let rest = self.refs.iter().filter(|reference| reference.symbolic.is_none()).filter_map(|reference| {
            let name = &reference.name;
            let is_branch = name.starts_with(b"refs/heads/");
            let of_remote = prefix.as_ref().and_then(|prefix| name.strip_prefix(prefix.as_bytes()));
            let name = match of_remote {
                Some(short) if all => [format!("refs/remotes/{UPSTREAM}/").as_bytes(), short].concat(),
                None if all && name.starts_with(b"refs/remotes/") => ours(std::str::from_utf8(name).ok()?).into_bytes(),
                _ if name.starts_with(b"refs/tags/") || (all && is_branch) => name.clone(),
                _ => return None,
            };
            (!taken.contains(&name)).then(|| Ref { id: reference.id.clone(), name, symbolic: None })
        });
        offer.extend(rest);
        offer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(offer: &[Ref]) -> Vec<String> {
        let mut names: Vec<_> = offer.iter().map(|r| String::from_utf8_lossy(&r.name).into_owned()).collect();
        names.sort();
        names
    }

    fn config(entries: &[(&str, &str)]) -> Config {
        let printed: String = entries.iter().map(|(key, value)| format!("{key}\n{value}\0")).collect();
        Config::parse(printed.as_bytes())
    }

    const PRINTED: &[u8] = b"1 refs/heads/feature \n2 refs/heads/main \n3 refs/heads/secret \n4 refs/remotes/fork/feature \n\
        5 refs/remotes/origin/HEAD refs/remotes/origin/trunk-2\n6 refs/remotes/origin/main \n5 refs/remotes/origin/trunk-2 \n\
        7 refs/tags/v1 \n8 refs/stash \n9 refs/notes/commits \n";

    #[test]
    fn a_machine_gets_its_branch_its_upstream_and_the_default_branch() {
        let config = config(&[
            ("remote.origin.url", "x"),
            ("remote.fork.url", "y"),
            ("branch.feature.remote", "fork"),
            ("branch.feature.merge", "refs/heads/feature"),
        ]);
        let refs = parse(PRINTED);
        let known = Known { refs: &refs, config: &config };
        let branch = "feature".parse().unwrap();
        let own = ["refs/heads/feature", "refs/remotes/fork/feature", "refs/remotes/upstream/trunk-2", "refs/tags/v1"];
        assert_eq!(names(&known.offer(&branch, &Start::Local("1".into()), false)), own);
        let all = names(&known.offer(&branch, &Start::Local("1".into()), true));
        for name in own.iter().chain(&["refs/heads/main", "refs/heads/secret", "refs/remotes/upstream/main"]) {
            assert!(all.iter().any(|found| found == name), "{name} in {all:?}");
        }
        assert!(!all.iter().any(|name| name.contains("stash") || name.contains("notes") || name.ends_with("HEAD")));
        let new = names(&known.offer(&"new".parse().unwrap(), &Start::New("1".into()), false));
        assert_eq!(new, ["refs/agent-vm/start", "refs/remotes/upstream/trunk-2", "refs/tags/v1"]);
    }

    #[test]
    fn the_default_branch_of_the_remote_is_compared_with() {
        let config = config(&[("remote.company.url", "x"), ("remote.fork.url", "y")]);
        let refs = parse(b"1 refs/heads/feature \n2 refs/remotes/company/main \n3 refs/remotes/fork/main \n");
        let known = Known { refs: &refs, config: &config };
        assert_eq!(known.to_compare_with(&"feature".parse().unwrap()), [("main".to_owned(), vec!["2"])]);
        let all = names(&known.offer(&"feature".parse().unwrap(), &Start::Local("1".into()), true));
        assert_eq!(all, ["refs/heads/feature", "refs/remotes/fork/main", "refs/remotes/upstream/main"]);
    }

    #[test]
    fn without_a_remote_there_is_only_the_branch() {
        let config = config(&[("branch.feature.remote", "."), ("branch.feature.merge", "refs/heads/main")]);
        let refs = parse(b"1 refs/heads/feature \n2 refs/heads/main \n");
        let known = Known { refs: &refs, config: &config };
        let branch = "feature".parse().unwrap();
        assert_eq!(names(&known.offer(&branch, &Start::Local("1".into()), false)), ["refs/heads/feature"]);
        assert_eq!(known.to_compare_with(&branch), [("main".to_owned(), vec!["2"])]);
        assert!(known.to_compare_with(&"main".parse().unwrap()).is_empty());
    }

    #[test]
    fn snapshots_are_told_from_branches() {
        assert!(is_snapshot(b"refs/agent-vm/app-main/uncommitted"));
        for other in [&b"refs/agent-vm/app-main/heads/uncommitted"[..], b"refs/heads/uncommitted", b"refs/agent-vm/x"] {
            assert!(!is_snapshot(other));
        }
    }

    #[test]
    fn names_need_not_be_utf_8() {
        let found = parse(b"1 refs/heads/\xff \n");
        assert_eq!(found[0].name, b"refs/heads/\xff");
    }
}
