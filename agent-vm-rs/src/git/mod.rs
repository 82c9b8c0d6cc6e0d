//! Git on the user's own repository, which is trusted: finding it, and cloning a branch of it.

mod alternates;
mod call;
mod submodules;

pub use self::call::{git, git_in};

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::branch::BranchName;
use crate::error::Failure;
use crate::process::Invocation;
use crate::progress::note;

/// What is percent-encoded in the path of a URL.
pub const URL_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where a repository keeps its objects.
#[derive(Clone, Debug)]
pub struct Stores {
    /// Its own store.
    pub objects: PathBuf,
    /// Those that it borrows from.
    pub borrowed: Vec<PathBuf>,
    /// The file that names its shallow commits, if there are any.
    pub shallow: PathBuf,
}

/// A repository of the user's, as seen from one of its work trees.
#[derive(Clone, Debug)]
pub struct Source {
    /// What identifies it: the main work tree, or the git directory of a bare repository.
    pub dir: PathBuf,
    /// The directory we look from; its HEAD counts.
    cwd: PathBuf,
}

impl Source {
    /// The repository that `cwd` is in; None outside of one.
    ///
    /// # Errors
    /// Git is missing or refuses the repository.
    pub fn discover(cwd: &Path) -> Result<Option<Self>> {
        let rev_parse = plain_git(cwd).args(["rev-parse", "--path-format=absolute", "--git-common-dir"]);
        let output = rev_parse.output()?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            if stderr.contains("not a git repository") {
                return Ok(None);
            }
            return Err(Failure::new(format!(
                "git cannot use the repository of {}:\n{}",
                cwd.display(),
                stderr.trim()
            ))
            .hint("do what git says, then try again")
            .into());
        }
        let common = String::from_utf8(output.stdout).context("the repository's path is no UTF-8")?;
        let common = PathBuf::from(common.trim_end_matches('\n'));
        let dir = match common.parent() {
            Some(parent) if common.file_name().is_some_and(|name| name == ".git") => parent.to_owned(),
            _ => common,
        };
        let dir = std::fs::canonicalize(&dir).with_context(|| format!("failed to find {}", dir.display()))?;
        Ok(Some(Self { dir, cwd: cwd.to_owned() }))
    }

    /// The branch that is checked out; None when HEAD is detached.
    ///
    /// # Errors
    /// Git fails, or the branch has a name we refuse.
    pub fn current_branch(&self) -> Result<Option<BranchName>> {
        let output = plain_git(&self.cwd).args(["symbolic-ref", "--quiet", "HEAD"]).output()?;
        if !output.status.success() {
            return Ok(None);
        }
        let name = String::from_utf8(output.stdout).context("the current branch's name is no UTF-8")?;
        // Not --short: that is another name where a tag has the branch's.
        let name = name.trim_end_matches('\n').strip_prefix("refs/heads/");
        name.map(str::parse::<BranchName>).transpose().map_err(Into::into)
    }

    /// The commit a branch starts at: its own, its remote-tracking one's, or HEAD's for a new branch.
    fn start_of(&self, branch: &BranchName) -> Result<Start> {
        for (kind, name) in
            [(Kind::Local, format!("refs/heads/{branch}")), (Kind::Remote, format!("refs/remotes/origin/{branch}"))]
        {
            if let Some(commit) = self.commit(&name)? {
                return Ok(Start { kind, commit });
            }
        }
        let commit = self.commit("HEAD")?.ok_or_else(|| {
            Failure::new(format!("the repository {} has no commit yet", self.dir.display()))
                .hint("make one first: git commit --allow-empty -m 'first commit'")
        })?;
        Ok(Start { kind: Kind::New, commit })
    }

    fn commit(&self, reference: &str) -> Result<Option<String>> {
        let output = plain_git(&self.cwd)
            .args(["rev-parse", "--verify", "--quiet", "--end-of-options"])
            .arg(format!("{reference}^{{commit}}"))
            .output()?;
        let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok((output.status.success() && !id.is_empty()).then_some(id))
    }

    fn config(&self, key: &str) -> Result<Option<String>> {
        let output = plain_git(&self.cwd).args(["config", "--get", key]).output()?;
        let value = String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned();
        Ok((output.status.success() && !value.is_empty()).then_some(value))
    }

    /// Number of changes in the work tree that no commit has, so that no clone has them.
    ///
    /// # Errors
    /// Git fails.
    pub fn uncommitted(&self) -> Result<usize> {
        let output = plain_git(&self.cwd).args(["--no-optional-locks", "status", "--porcelain"]).output()?;
        // A bare repository has no work tree.
        Ok(if output.status.success() {
            output.stdout.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count()
        } else {
            0
        })
    }

    /// Tips of every reference: what is safe in this repository.
    ///
    /// # Errors
    /// Git fails.
    pub fn tips(&self) -> Result<Vec<String>> {
        let text = plain_git(&self.dir).args(["for-each-ref", "--format=%(objectname)"]).read()?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Its object store, those it borrows from in turn, and the file that names its shallow commits.
    ///
    /// # Errors
    /// Git fails.
    pub fn stores(&self) -> Result<Stores> {
        let path = |name| {
            plain_git(&self.dir)
                .args(["rev-parse", "--path-format=absolute", "--git-path", name])
                .read()
                .map(PathBuf::from)
        };
        let objects = path("objects")?;
        Ok(Stores { borrowed: alternates::of(&objects), objects, shallow: path("shallow")? })
    }

    /// Clones the branch into `workspace`: a copy of its own, nothing shared with this repository. A branch
    /// that does not exist yet is made there, from its remote-tracking branch or from HEAD.
    ///
    /// # Errors
    /// Git fails; what it has made so far is left for the caller to remove.
    pub fn clone_branch(&self, branch: &BranchName, workspace: &Path, marker: &Path) -> Result<()> {
        let start = self.start_of(branch)?;
        // No template: the user's own hooks are not for the guest.
        let clone = plain_git(&self.cwd)
            .args(["clone", "--quiet", "--template=", "--no-checkout", "--origin", "origin", "--"])
            .arg(file_url(&self.dir)?)
            .arg(workspace)
            .of_machine(marker);
        clone.checked().with_context(|| format!("failed to clone {}", self.dir.display()))?;
        let inside = || git_in(workspace).of_machine(marker);
        let checkout = match start.kind {
            Kind::Local => inside().args([
                "checkout",
                "--quiet",
                "-B",
                branch.as_str(),
                "--track",
                &format!("refs/remotes/origin/{branch}"),
            ]),
            Kind::Remote | Kind::New => {
                // The commit need not be on a branch that the clone brought along.
                let to = format!("{}:refs/agent-vm/start", start.commit);
                plain_git(&self.cwd)
                    .args(["push", "--quiet", "--no-verify"])
                    .arg(workspace)
                    .arg(to)
                    .of_machine(marker)
                    .checked()?;
                inside().args(["checkout", "--quiet", "--no-track", "-B", branch.as_str(), &start.commit])
            }
        };
        checkout.checked().with_context(|| format!("failed to check out {branch}"))?;
        if start.kind != Kind::Local {
            inside().args(["update-ref", "-d", "refs/agent-vm/start"]).checked()?;
        }
        self.set_up_remotes_and_identity(workspace, marker)?;
        submodules::fill(&self.work_tree()?, workspace, marker)
    }

    fn work_tree(&self) -> Result<PathBuf> {
        let output = plain_git(&self.cwd).args(["rev-parse", "--show-toplevel"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned();
        Ok(if output.status.success() { text.into() } else { self.dir.clone() })
    }

    fn set_up_remotes_and_identity(&self, workspace: &Path, marker: &Path) -> Result<()> {
        let inside = || git_in(workspace).of_machine(marker);
        if let Some(url) = self.config("remote.origin.url")? {
            let url = without_password(&url);
            inside()
                .args(["remote", "add", "upstream"])
                .arg(url)
                .checked()
                .context("failed to add the remote upstream")?;
        }
        for key in ["user.name", "user.email"] {
            if let Some(value) = self.config(key)? {
                inside().args(["config", key]).arg(value).checked()?;
            }
        }
        Ok(())
    }
}

struct Start {
    kind: Kind,
    commit: String,
}

#[derive(PartialEq, Eq)]
enum Kind {
    Local,
    Remote,
    New,
}

fn plain_git(dir: &Path) -> Invocation {
    // What git says is compared with its own words, not with their translation.
    Invocation::new("git").arg("-C").arg(dir).env("LC_ALL", "C")
}

/// `file://` URL of a directory: makes git copy through its transport instead of linking files.
fn file_url(dir: &Path) -> Result<String> {
    let path = dir.to_str().with_context(|| format!("the path {} is no UTF-8", dir.display()))?;
    Ok(format!("file://{}", utf8_percent_encode(path, URL_PATH)))
}

/// A remote's URL without the user name and password it may carry: the guest must not learn them.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    match authority.rsplit_once('@') {
        // In ssh URLs the user name is part of the address, and no secret.
        Some((user, host)) if scheme.contains("ssh") => {
            let user = user.split(':').next().unwrap_or(user);
            format!("{scheme}://{user}@{host}{path}")
        }
        Some((_, host)) => {
            note("the password or user name in the URL of origin stays out of the machine");
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_stay_at_home() {
        assert_eq!(without_password("https://me:secret@host.example/r.git"), "https://host.example/r.git");
        assert_eq!(without_password("https://token@host.example/a@b"), "https://host.example/a@b");
        assert_eq!(without_password("ssh://git:pw@host.example:22/r"), "ssh://git@host.example:22/r");
        assert_eq!(without_password("git@host.example:o/r.git"), "git@host.example:o/r.git");
        assert_eq!(without_password("/srv/r.git"), "/srv/r.git");
    }

    #[test]
    fn paths_become_urls_that_git_reads_back() {
        assert_eq!(file_url(Path::new("/a b/100%/ü")).unwrap(), "file:///a%20b/100%25/%C3%BC");
    }
}
