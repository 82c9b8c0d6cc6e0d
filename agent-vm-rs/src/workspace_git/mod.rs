//! Reading the workspace's repository, which the guest owns and may have made hostile.
//!
//! Git never runs with the workspace's own configuration, hooks, filters or fsmonitor: it runs with a git
//! directory of ours, made empty for the one call, that borrows the workspace's *objects*, and sees, where this host
//! lets us see to it, no other files. What we need
//! beside objects (HEAD, branch tips, the index) is read by `guest_files`, without following a symbolic link.

mod guest_files;
mod put_away;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::OFlags;

use crate::confine::plan::Sight;
use crate::confine::{self, Confinement};
use crate::error::Failure;
use crate::git::{Source, Stores};
use crate::process::{Invocation, find};

use self::guest_files::{Head, STASH, open_inside, read_head, read_inside, read_refs};
pub use self::put_away::put_away;

/// A hostile repository can make git busy: it gets this long.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// And so much address space, bytes.
const MEMORY_LIMIT: u64 = 4 << 30;
/// Bytes.
const MAX_INDEX: u64 = 512 << 20;

/// What status shows of the workspace.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct WorkspaceState {
    /// Branch that is checked out, if it has a name git would take.
    pub branch: Option<String>,
    /// Commit that is checked out.
    pub commit: Option<String>,
    /// Files that differ from it, new ones included.
    pub changed_files: usize,
    /// Commits that only the workspace has; None where that cannot be told, because its source is missing.
    pub new_commits: Option<usize>,
}

/// Our view of a workspace's repository; its temporary git directory goes with it.
pub struct View {
    git_dir: tempfile::TempDir,
    /// Keeps it from being swept.
    _held: fs::File,
    /// The program.
    git: PathBuf,
    workspace: PathBuf,
    /// The machine's directory.
    scratch: PathBuf,
    /// Tips of branches and tags, and the stash, by full name.
    refs: BTreeMap<String, String>,
    head: Head,
    /// Commits that are safe elsewhere.
    safe: Vec<String>,
    /// What stands around git.
    confinement: Confinement,
    /// What git sees.
    sights: Vec<Sight>,
}

impl View {
    /// Looks at `workspace`. `source` is the user's repository, None if it is gone. `scratch` is a directory
    /// on the host's side of the machine.
    ///
    /// # Errors
    /// There is no repository that can be read.
    pub fn open(workspace: &Path, source: Option<&Source>, scratch: &Path) -> Result<Self> {
        let git = program()?;
        Self::open_behind(confine::choose_for_reading(&git), git, workspace, source, scratch)
    }

    fn open_behind(
        confinement: Confinement,
        git: PathBuf,
        workspace: &Path,
        source: Option<&Source>,
        scratch: &Path,
    ) -> Result<Self> {
        ensure!(crate::state::has_dir(workspace)?, "the workspace is missing");
        let dot_git = open_inside(workspace, Path::new(".git"), OFlags::DIRECTORY | OFlags::PATH)
            .context("the workspace has no .git directory")?;
        let objects = workspace.join(".git/objects");
        open_inside(workspace, Path::new(".git/objects"), OFlags::DIRECTORY | OFlags::PATH)
            .context("the workspace's object store is no plain directory")?;
        drop(dot_git);
        refuse_other_stores(&objects)?;
        let git_dir = tempfile::Builder::new()
            .prefix(".tmp-git-")
            .tempdir_in(scratch)
            .context("failed to make a scratch directory")?;
        let refs = read_refs(workspace)?;
        let stores = source.map(Source::stores);
        let borrowed = stores.iter().flat_map(|stores| stores.borrowed.iter().chain([&stores.objects]));
        let mut sights: Vec<_> = borrowed.map(|store| Sight::Read(store.clone())).collect();
        sights.extend([Sight::Read(workspace.to_owned()), Sight::Write(git_dir.path().to_owned())]);
        sights.extend(confine::plan::installation(&git));
        let view = Self {
            git,
            confinement,
            sights,
            head: read_head(workspace, &refs),
            refs,
            safe: Vec::new(),
            _held: crate::sweep::hold(git_dir.path())?,
            git_dir,
            workspace: workspace.to_owned(),
            scratch: scratch.to_owned(),
        };
        // Nothing of the guest's is in it yet.
        bounded(&view.unconfined_git(None))
            .args(["init", "--quiet", "--bare", "--template="])
            .checked()
            .context("failed to make a view of the repository")?;
        let mut alternates = format!("{}\n", quoted(&objects)?);
        if let Some(Stores { objects, shallow, .. }) = &stores {
            alternates.push_str(&format!("{}\n", quoted(objects)?));
            if shallow.is_file() {
                fs::copy(shallow, view.git_dir.path().join("shallow"))
                    .context("failed to copy the list of shallow commits")?;
            }
        }
        let info = view.git_dir.path().join("objects/info");
        fs::create_dir_all(&info)
            .and_then(|()| fs::write(info.join("alternates"), alternates))
            .context("failed to borrow objects")?;
        let safe = source.map(|source| source.tips(scratch)).transpose()?.unwrap_or_default();
        Ok(Self { safe, ..view })
    }

    /// What status shows.
    ///
    /// # Errors
    /// Git cannot make sense of the objects or the index, or takes too long.
    pub fn state(&self) -> Result<WorkspaceState> {
        Ok(WorkspaceState {
            branch: self.head.branch.as_ref().map(ToString::to_string),
            commit: self.head.commit.clone(),
            changed_files: self.changed_files()?,
            new_commits: Some(self.new_commits()?),
        })
    }

    /// Number of commits that only the workspace has.
    ///
    /// # Errors
    /// As [`Self::state`].
    pub fn new_commits(&self) -> Result<usize> {
        if self.tips().next().is_none() {
            return Ok(0);
        }
        let list = self.git(None).args(["rev-list", "--count", "--stdin"]).stdin(self.range());
        list.read().context("failed to count the workspace's commits")?.parse().context("git counted no number")
    }

    fn changed_files(&self) -> Result<usize> {
        let index = self.git_dir.path().join("index");
        if let Some(bytes) = read_inside(&self.workspace, Path::new(".git/index"), MAX_INDEX)? {
            fs::write(&index, bytes).context("failed to copy the index")?;
        }
        if let Some(commit) = &self.head.commit {
            fs::write(self.git_dir.path().join("HEAD"), format!("{commit}\n")).context("failed to name the commit")?;
        }
        let status = self.git(Some(&self.workspace)).args([
            "status",
            "--porcelain=v1",
            "-z",
            "--no-renames",
            "--ignore-submodules=all",
        ]);
        let output = status.checked().context("failed to compare the workspace with its commit")?;
        Ok(output.stdout.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()).count())
    }

    /// Writes a bundle of the commits that only the workspace has; false if there are none.
    ///
    /// # Errors
    /// The commits cannot be read, or the file cannot be written.
    pub fn bundle(&self, file: &Path) -> Result<bool> {
        if self.new_commits()? == 0 {
            return Ok(false);
        }
        let create = |(name, tip): (&String, &String)| match name.as_str() {
            STASH => format!("create refs/heads/agent-vm/stash {tip}\n"),
            name => format!("create {name} {tip}\n"),
        };
        let mut refs: Vec<_> = self.refs.iter().map(create).collect();
        if let (None, Some(commit)) = (&self.head.branch, &self.head.commit) {
            refs.push(format!("create refs/heads/agent-vm/detached {commit}\n"));
        }
        self.git(None)
            .args(["update-ref", "--stdin"])
            .stdin(refs.concat())
            .checked()
            .context("failed to name the workspace's commits")?;
        let excluded: String = self.safe.iter().map(|tip| format!("^{tip}\n")).collect();
        let failed = || format!("failed to bundle the workspace's commits into {}", file.display());
        // Git sees no other directory to write in.
        let made = self.git_dir.path().join("bundle");
        let bundle = self.git(None).args(["bundle", "create", "--quiet"]).arg(&made).args(["--all", "--stdin"]);
        bundle.stdin(excluded).checked().with_context(failed)?;
        fs::rename(&made, file).with_context(failed)?;
        Ok(true)
    }

    fn tips(&self) -> impl Iterator<Item = &String> {
        self.refs.values().chain(&self.head.commit)
    }

    fn range(&self) -> String {
        let tips: String = self.tips().map(|tip| format!("{tip}\n")).collect();
        let safe: String = self.safe.iter().map(|tip| format!("^{tip}\n")).collect();
        tips + &safe
    }

    fn git(&self, work_tree: Option<&Path>) -> Invocation {
        let as_root = rustix::process::geteuid().is_root();
        bounded(&confine::plan::reading(&self.unconfined_git(work_tree), &self.confinement, &self.sights, as_root))
    }

    fn unconfined_git(&self, work_tree: Option<&Path>) -> Invocation {
        let git = Invocation::new(&self.git)
            .args(["-c", "core.packedGitLimit=1g"])
            .args(["-c", "core.fsmonitor=false", "-c", "core.untrackedCache=false", "-c", "core.hooksPath=/dev/null"])
            // The guest's index has the owners that the guest sees: size and time are enough.
            .args(["-c", "core.checkStat=minimal"])
            .env("GIT_DIR", self.git_dir.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .of_machine(&self.scratch)
            .cwd(self.git_dir.path());
        match work_tree {
            Some(dir) => git.env("GIT_WORK_TREE", dir).cwd(dir),
            None => git,
        }
    }
}

/// Git where it is installed: a link to it need not be seen by whoever sees it.
fn program() -> Result<PathBuf> {
    let git = find("git".as_ref())?;
    fs::canonicalize(&git).with_context(|| format!("failed to find {}", git.display()))
}

/// What a hostile object store has git read is bounded, too.
fn bounded(git: &Invocation) -> Invocation {
    let limit = Invocation::new("prlimit").arg(format!("--as={MEMORY_LIMIT}")).arg("--");
    git.within(limit).time_limit(TIME_LIMIT)
}

/// Git would follow them to whatever the guest names on this host.
fn refuse_other_stores(objects: &Path) -> Result<()> {
    for part in ["info", "pack"] {
        let is_link = fs::symlink_metadata(objects.join(part)).is_ok_and(|part| part.is_symlink());
        ensure!(!is_link, "{part} of the workspace's object store is a link");
    }
    let alternates = objects.join("info/alternates");
    if fs::symlink_metadata(&alternates).is_ok() {
        return Err(Failure::new(
            "the workspace's repository borrows objects from elsewhere (.git/objects/info/alternates)",
        )
        .hint("in the machine: git repack -a -d && rm .git/objects/info/alternates")
        .into());
    }
    Ok(())
}

/// A line of `objects/info/alternates`: quoted as C, so that no path is taken for a comment.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("the path {} is no UTF-8", path.display()))?;
    ensure!(!text.contains('\n'), "the path {text:?} has a line feed");
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(dir: &Path, args: &[&str]) -> String {
        let git = Invocation::new("git").args(["-c", "user.name=me", "-c", "user.email=me@example.org"]);
        git.args(args).cwd(dir).env("GIT_CONFIG_GLOBAL", "/dev/null").read().unwrap()
    }

    fn repository(dir: &Path) -> String {
        fs::create_dir(dir).unwrap();
        run(dir, &["init", "--quiet", "--template="]);
        run(dir, &["commit", "--quiet", "--allow-empty", "--message", &dir.display().to_string()]);
        run(dir, &["rev-parse", "HEAD"])
    }

    /// The guest plants what names another repository between our look at it and git's.
    #[test]
    fn another_repository_is_out_of_sight() {
        let dir = tempfile::tempdir().unwrap();
        let (workspace, other) = (dir.path().join("workspace"), dir.path().join("other"));
        let own = repository(&workspace);
        let foreign = repository(&other);
        let git = program().unwrap();
        let confined = confine::choose_for_reading(&git);
        if confined.sandbox.is_none() {
            // Nothing to be seen but what the check before says.
            return;
        }
        let reads = |sandbox: bool| {
            let sandbox = confined.sandbox.clone().filter(|_| sandbox);
            let _ = fs::remove_file(workspace.join(".git/objects/info/alternates"));
            let confinement = Confinement { sandbox, landlock: None };
            let view = View::open_behind(confinement, git.clone(), &workspace, None, dir.path()).unwrap();
            fs::create_dir_all(workspace.join(".git/objects/info")).unwrap();
            fs::write(workspace.join(".git/objects/info/alternates"), format!("{}/.git/objects\n", other.display()))
                .unwrap();
            [&own, &foreign].map(|commit| view.git(None).args(["cat-file", "-e", commit]).checked().is_ok())
        };
        assert_eq!(reads(false), [true, true]);
        assert_eq!(reads(true), [true, false]);
    }
}
