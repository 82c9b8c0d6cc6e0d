//! Clones a branch into a new workspace.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::call::{LONGEST_COPY, NO_SYNC, UPLOAD_PACK, git, git_in};
use super::examine::Look;
use super::partial::Partial;
use super::refs::{self, Ref, START, Start, UPSTREAM};
use super::standin::StandIn;
use super::url::{file_url, without_password};
use super::{alternates, lfs, origin_copy, submodules, user};
use crate::host::process::Invocation;
use crate::machine::branch::BranchName;
use crate::term::error::Failure;
use crate::term::progress::{self, note};
use crate::term::text::short_id;

impl Look<'_> {
    /// Clones the branch into `workspace`, which shares no files with the source repository. A branch that does not
    /// exist is created in the workspace, from its remote-tracking branch or from HEAD. The clone also gets the
    /// branch's upstream, the remote's default branch and the tags of their history; with `all`, every branch and tag.
    ///
    /// # Errors
    /// Git fails. The caller removes what the clone has written so far.
    pub fn clone_branch(&self, branch: &BranchName, all: bool, workspace: &Path) -> Result<()> {
        let start = self.start_of(branch)?;
        let offer = self.known().offer(branch, &start, all);
        let head = format!("ref: refs/heads/{branch}");
        let standin = StandIn::offering(&self.source.place, self.format, &offer, &head, self.scratch)?;
        let what = format!("cloning {branch} of {}", self.source.dir.display());
        self.fill(&standin, &offer, all)?;
        progress::step(&what, || self.fetch(&standin, all, workspace))?;
        let inside = || self.inside(workspace);
        let checkout = inside().args(["checkout", "--quiet"]);
        let checkout = match &start {
            Start::Local(_) => {
                checkout.args(["-B", branch.as_str(), "--track", &format!("refs/remotes/origin/{branch}")])
            }
            Start::Remote(commit) | Start::New(commit) => checkout.args(["--no-track", "-B", branch.as_str(), commit]),
        };
        progress::step("checking out files", || {
            checkout.checked().with_context(|| format!("failed to check out {branch}")).map(drop)
        })?;
        if let Start::New(commit) = &start {
            note(&format!("the branch {branch} is new: it begins at {} of HEAD", short_id(commit)));
        }
        if !matches!(start, Start::Local(_)) {
            inside().args(["update-ref", "-d", START]).checked()?;
        }
        self.set_up_remotes(branch, &offer, workspace)?;
        for (key, value) in user::identity(self.config, &self.of_user) {
            inside().args(["config", "--", key]).arg(value).checked()?;
        }
        if user::signs(self.config, &self.of_user) {
            note(
                "notice: your commits are signed (commit.gpgSign), those in the machine are not: it has no key. agent-vm apply --sign signs them",
            );
        }
        origin_copy::make(workspace, branch, self.scratch)?;
        lfs::check_out(&self.source.place, workspace, &workspace.join(".git"), self.scratch)?;
        submodules::fill(self, workspace)
    }

    /// Fetches the objects of the offered branches that a partial clone lacks; with `all`, those of tags, too.
    fn fill(&self, standin: &StandIn, offer: &[Ref], all: bool) -> Result<()> {
        let tips = offer.iter().filter(|offered| all || !offered.name.starts_with(b"refs/tags/"));
        let tips: String = tips.map(|offered| format!("{}\n", offered.id)).collect();
        let source = self.source;
        Partial { place: &source.place, config: self.config, standin, scratch: self.scratch }.fill(&tips)
    }

    /// Fetches every offered branch, and of the tags only those that point into the fetched history.
    fn fetch(&self, standin: &StandIn, all: bool, workspace: &Path) -> Result<()> {
        let clone = git()
            .args(NO_SYNC)
            // The user's hooks do not belong in the guest.
            .args(["clone", "--quiet", "--template=", "--no-checkout", "--origin", "origin"])
            .args(["-c", "remote.origin.fetch=+refs/remotes/*:refs/remotes/*"])
            .args(["-c", "remote.origin.fetch=+refs/agent-vm/*:refs/agent-vm/*"])
            .args((!all).then_some("--no-tags"))
            .args(UPLOAD_PACK)
            .arg("--")
            .arg(file_url(standin.path()))
            .arg(workspace)
            .of_machine(self.scratch)
            .time_limit(LONGEST_COPY);
        let failed = |error: anyhow::Error| {
            let source = &self.source.dir;
            match alternates::lost(&self.source.place.common_dir.join("objects")) {
                None => error.context(format!("failed to clone {}", source.display())),
                Some(lost) => error.context(
                    Failure::new(format!(
                        "{} borrows objects from {}, which does not exist",
                        source.display(),
                        lost.display()
                    ))
                    .with_hint("bring that directory back, or use a complete clone of the repository"),
                ),
            }
        };
        clone.checked().map_err(failed)?;
        let inside = || self.inside(workspace);
        if !all {
            inside().args(["config", "--unset", "remote.origin.tagOpt"]).checked()?;
            let tags = ["fetch", "--quiet", "--no-write-fetch-head", "--no-recurse-submodules"];
            let tags = &[&tags[..], &UPLOAD_PACK, &["origin"]].concat();
            inside().args(tags).time_limit(LONGEST_COPY).checked().map_err(failed)?;
        }
        // The refspec of an ordinary clone; the ones above served only this fetch.
        let fetch = ["config", "--replace-all", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"];
        inside().args(fetch).checked().map(drop)
    }

    fn set_up_remotes(&self, branch: &BranchName, offer: &[Ref], workspace: &Path) -> Result<()> {
        let inside = || self.inside(workspace);
        let known = self.known();
        let is_taken = |name: &str| {
            let name = format!("refs/heads/{name}");
            offer.iter().any(|offered| refs::collide(&offered.name, name.as_bytes()))
        };
        for (name, commits) in known.to_compare_with(branch) {
            if is_taken(&name) {
                continue;
            }
            for commit in commits {
                // The commit exists only if it is part of what was cloned.
                let has = inside().args(["cat-file", "-e", &format!("{commit}^{{commit}}")]).output()?;
                if has.status.success() {
                    inside().args(["update-ref", &format!("refs/remotes/origin/{name}"), commit]).checked()?;
                    break;
                }
            }
        }
        let url = known.remote(branch).and_then(|remote| self.config.get(&format!("remote.{remote}.url")));
        if let Some(url) = url {
            inside()
                .args(["remote", "add", "--", UPSTREAM])
                .arg(without_password(url))
                .checked()
                .context("failed to add the remote upstream")?;
        }
        Ok(())
    }

    fn inside(&self, workspace: &Path) -> Invocation {
        git_in(workspace).args(NO_SYNC).of_machine(self.scratch)
    }
}
