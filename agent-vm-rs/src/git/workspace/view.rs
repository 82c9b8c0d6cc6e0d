//! A repository of the workspace as git of ours sees it: its objects and references, in a git directory that we have made.
//!
//! Git never runs with the guest's configuration, hooks, filters or fsmonitor, and sees, where this host lets us see to it, no
//! other files.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::fs::OFlags;

use super::guest_files::{is_object_id, open_inside, open_root, read_inside};
use super::named::Head;
use super::refs::{self, Copied};
use super::store::{self, Store};
use super::trouble::{Unreadable, ask};
use crate::confine::mount::Mount;
use crate::confine::{self, Confinement};
use crate::git::{self, Source, Stores};
use crate::host::process::{Invocation, find};
use crate::machine::sweep::Scratch;

/// For git to look at a workspace, when somebody waits for a report.
pub const SHORT: Duration = Duration::from_secs(10);
/// For git to make something of a whole repository.
pub const LONG: Duration = Duration::from_secs(600);
/// Address space of git, bytes: a hostile object store can make it take much.
const MEMORY_LIMIT: u64 = 4 << 30;
/// Bytes of the list of shallow commits.
const MAX_SHALLOW: u64 = 16 << 20;
/// Bytes that git may say of a workspace: one line for each of some ten million objects.
pub(super) const MAX_OUTPUT: usize = 1 << 30;

/// Which repository of a workspace.
pub struct Place<'a> {
    /// The workspace.
    pub workspace: &'a Path,
    /// Its git directory, from there.
    pub git_dir: &'a Path,
    /// Its work tree, from there; None if it has none.
    pub work_tree: Option<&'a Path>,
}

/// Our view of a repository; its temporary git directory goes with it.
pub struct View {
    /// Ours.
    pub(super) git_dir: Scratch,
    program: PathBuf,
    workspace: PathBuf,
    /// The guest's.
    pub(super) guest: File,
    work_tree: Option<PathBuf>,
    /// What is checked out.
    pub head: Head,
    /// References.
    pub copied: Copied,
    /// Objects.
    pub store: Store,
    /// Tips of what is safe elsewhere.
    pub safe: Vec<String>,
    /// Whether commits have no parents here because somebody has cut the history.
    pub is_shallow: bool,
    confinement: Confinement,
    mounts: Vec<Mount>,
    patience: Duration,
}

impl View {
    /// Looks at a repository. `source` is the one that it was made from, None if that is gone. `scratch` is a directory
    /// of the host's for ours.
    ///
    /// # Errors
    /// [`Unreadable`] if there is no repository that git can make sense of; else something failed on the host.
    pub fn open(place: &Place, source: Option<&Source>, scratch: &Path, patience: Duration) -> Result<Self> {
        let git = program()?;
        Self::open_behind(confine::choose_for_reading(&git), git, place, source, scratch, patience)
    }

    pub(super) fn open_behind(
        confinement: Confinement,
        git: PathBuf,
        place: &Place,
        source: Option<&Source>,
        scratch: &Path,
        patience: Duration,
    ) -> Result<Self> {
        let root = open_root(place.workspace)?;
        let guest = open_inside(&root, place.git_dir, OFlags::RDONLY | OFlags::DIRECTORY)?
            .ok_or_else(|| Unreadable(format!("the workspace has no {} directory", place.git_dir.display())))?;
        let git_dir = Scratch::new_in(scratch)?;
        let borrowed = git_dir.path().join("guest-objects");
        let store = store::link(&guest, &place.workspace.join(place.git_dir).join("objects"), &borrowed)?;
        // One that names objects otherwise has none of these.
        let length = if store.object_format == "sha256" { 64 } else { 40 };
        let safe = source.map(|source| source.tips(scratch)).transpose()?.unwrap_or_default();
        let source = source.filter(|_| safe.iter().all(|tip| tip.len() == length));
        let safe: Vec<_> = safe.into_iter().filter(|tip| tip.len() == length).collect();
        let stores = source.map(Source::stores);
        let others = stores.iter().flat_map(|stores| stores.borrowed.iter().chain([&stores.objects]));
        let mut mounts: Vec<_> = others.map(|store| Mount::Read(store.clone())).collect();
        mounts.extend([Mount::Read(place.workspace.to_owned()), Mount::Write(git_dir.path().to_owned())]);
        mounts.extend(confine::mount::installation(&git));
        let mut view = Self {
            program: git,
            workspace: place.workspace.to_owned(),
            work_tree: place.work_tree.map(|dir| place.workspace.join(dir)),
            head: Head::default(),
            copied: Copied::default(),
            store,
            safe,
            is_shallow: false,
            git_dir,
            guest,
            confinement,
            mounts,
            patience,
        };
        view.initialize()?;
        view.borrow_objects(&borrowed, stores.as_ref())?;
        view.copied = refs::copy(&view.guest, view.git_dir.path())?;
        view.copy_stash_log()?;
        view.read_head()?;
        Ok(view)
    }

    /// Makes our git directory. Nothing of the guest's is in it yet.
    fn initialize(&self) -> Result<()> {
        let formats = [
            format!("--object-format={}", self.store.object_format),
            format!("--ref-format={}", refs::format(&self.guest)?),
        ];
        let init = self.bounded(&self.unconfined_git(None)).args(["init", "--quiet", "--bare", "--template="]);
        // A git that knows only one format does not know the flag.
        let init =
            formats.iter().filter(|format| !format.ends_with("=files")).fold(init, |init, format| init.arg(format));
        ask(&init, MAX_OUTPUT).map(drop)
    }

    fn borrow_objects(&mut self, borrowed: &Path, stores: Option<&Stores>) -> Result<()> {
        let mut alternates = format!("{}\n", quoted(borrowed)?);
        let mut shallow = match read_inside(&self.guest, Path::new("shallow"), MAX_SHALLOW)? {
            Some(lines) if lines.split(|byte| *byte == b'\n').all(|line| line.is_empty() || is_object_id(line)) => {
                lines
            }
            Some(_) => return Err(Unreadable("its list of shallow commits is damaged".to_owned()).into()),
            None => Vec::new(),
        };
        if let Some(Stores { objects, shallow: file, .. }) = stores {
            alternates.push_str(&format!("{}\n", quoted(objects)?));
            if file.is_file() {
                shallow.extend(fs::read(file).context("failed to copy the list of shallow commits")?);
            }
        }
        self.is_shallow = !shallow.is_empty();
        if self.is_shallow {
            fs::write(self.git_dir.path().join("shallow"), shallow)
                .context("failed to copy the list of shallow commits")?;
        }
        let info = self.git_dir.path().join("objects/info");
        fs::create_dir_all(&info)
            .and_then(|()| fs::write(info.join("alternates"), alternates))
            .context("failed to borrow objects")
    }

    /// Number of commits that references of the workspace lead to and that nobody else has.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn new_commits(&self) -> Result<usize> {
        let safe: String = self.safe.iter().map(|tip| format!("^{tip}\n")).collect();
        let count = self.ask(&self.git(None).args(["rev-list", "--count", "--all", "--stdin"]).stdin(safe))?;
        String::from_utf8_lossy(&count).trim().parse().context("git counted no number")
    }

    /// Whether the guest has its store borrow objects from another, which is never followed.
    #[must_use]
    pub fn borrows(&self) -> bool {
        !self.store.alternates.is_empty()
    }

    /// Whether something is to be made of all of it, which may take its time.
    pub(super) fn is_thorough(&self) -> bool {
        self.patience >= LONG
    }

    /// Where our git directory is.
    #[must_use]
    pub fn git_dir(&self) -> &Path {
        self.git_dir.path()
    }

    /// The work tree.
    #[must_use]
    pub fn work_tree(&self) -> Option<&Path> {
        self.work_tree.as_deref()
    }

    /// The workspace.
    #[must_use]
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// What git says.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn ask(&self, git: &Invocation) -> Result<Vec<u8>> {
        Ok(ask(git, MAX_OUTPUT)?.stdout)
    }

    /// Git on our git directory, behind its walls; with a work tree, on that.
    pub fn git(&self, work_tree: Option<&Path>) -> Invocation {
        self.confined(&self.unconfined_git(work_tree))
    }

    /// Git on another git directory, below ours.
    pub fn git_in(&self, git_dir: &Path) -> Invocation {
        let mut git = self.unconfined_git(None);
        git.env.retain(|(name, _)| name != "GIT_DIR");
        self.confined(&git.env("GIT_DIR", git_dir))
    }

    pub(super) fn confined(&self, git: &Invocation) -> Invocation {
        let as_root = rustix::process::geteuid().is_root();
        self.bounded(&confine::bwrap::reading(git, &self.confinement, &self.mounts, as_root))
    }

    pub(super) fn unconfined_git(&self, work_tree: Option<&Path>) -> Invocation {
        let mut git = git::git();
        git.program = self.program.clone().into();
        let git = git
            // The guest's index has the owners that the guest sees: size and time are enough.
            .args(["-c", "core.packedGitLimit=1g", "-c", "core.checkStat=minimal", "-c", "core.commitGraph=false"])
            // A file outside of a sparse checkout, or marked `--skip-worktree`, is compared if it is there.
            .args(["-c", "core.sparseCheckout=true", "-c", "sparse.expectFilesOutsideOfPatterns=false"])
            // What it writes is removed again, or synced by us.
            .args(["-c", "core.fsync=none"])
            .env("GIT_DIR", self.git_dir.path())
            .cwd(self.git_dir.path());
        match work_tree {
            Some(dir) => git.env("GIT_WORK_TREE", dir).cwd(dir),
            None => git,
        }
    }

    fn bounded(&self, git: &Invocation) -> Invocation {
        let limit = Invocation::new("prlimit").arg(format!("--as={MEMORY_LIMIT}")).arg("--");
        confine::bwrap::ending_with_us(&git.within(limit)).time_limit(self.patience)
    }
}

/// Git where it is installed: a link to it need not be seen by whoever sees it.
pub(super) fn program() -> Result<PathBuf> {
    let git = find("git".as_ref())?;
    fs::canonicalize(&git).with_context(|| format!("failed to find {}", git.display()))
}

/// A line of `objects/info/alternates`: quoted as C, so that no path is taken for a comment.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("the path {} is no UTF-8", path.display()))?;
    anyhow::ensure!(!text.contains('\n'), "the path {text:?} has a line feed");
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}
