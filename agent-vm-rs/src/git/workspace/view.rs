//! Views a repository of the workspace: a git directory that agent-vm makes, with the guest's objects and references.
//!
//! Git never runs with the guest's configuration, hooks, filters or fsmonitor. Where this host can confine it, it sees
//! no other files.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::fs::OFlags;

use super::git_failure::{Unreadable, ask};
use super::guest_files::{open_inside, open_root};
use super::head::Head;
use super::refs::{self, Copied};
use super::store::{self, Store, shallow_commits};
use crate::confine::mount::Mount;
use crate::confine::{self, Confinement};
use crate::git::origin_copy::ORIGIN_COPY;
use crate::git::{self, SourceReader, alternates};
use crate::host::process::{Invocation, find};
use crate::machine::sweep::Scratch;

/// Time limit of a git call while a user waits for `status` or `list`.
pub const SHORT: Duration = Duration::from_secs(10);
/// Time limit of a git call that reads a whole repository.
pub const LONG: Duration = Duration::from_secs(600);
/// Largest address space of git, in bytes. A hostile object store can make git allocate much.
const MEMORY_LIMIT: u64 = 4 << 30;
/// Largest output of git about a workspace, in bytes: one line for each of about ten million objects.
pub(super) const MAX_OUTPUT: usize = 1 << 30;

/// A repository in a workspace.
pub struct Place<'a> {
    /// Path of the workspace.
    pub workspace: &'a Path,
    /// The git directory, relative to the workspace.
    pub git_dir: &'a Path,
    /// The work tree, relative to the workspace; None if it has none.
    pub work_tree: Option<&'a Path>,
}

/// A view of a repository. Dropping it removes the temporary git directory.
pub struct View {
    /// The temporary git directory.
    pub(super) git_dir: Scratch,
    program: PathBuf,
    workspace: PathBuf,
    /// The guest's git directory.
    pub(super) guest: File,
    work_tree: Option<PathBuf>,
    /// What is checked out.
    pub head: Head,
    /// References.
    pub copied: Copied,
    /// Objects.
    pub store: Store,
    /// Commits that are safe in the source repository.
    pub safe: Vec<String>,
    source: Option<Rc<SourceReader>>,
    /// Whether the history is shallow: some commits lack their parents.
    pub is_shallow: bool,
    confinement: Confinement,
    mounts: Vec<Mount>,
    timeout: Duration,
}

impl View {
    /// Opens a view of a repository. `source` is the repository that it was made from, if that still exists. `scratch`
    /// is a directory of the host for the temporary git directory.
    ///
    /// # Errors
    /// [`Unreadable`] if git cannot read the repository; other errors are failures of the host.
    pub fn open(place: &Place, source: Option<&Rc<SourceReader>>, scratch: &Path, timeout: Duration) -> Result<Self> {
        let git = program()?;
        Self::open_behind(confine::choose_for_reading(&git), git, place, source, scratch, timeout)
    }

    pub(super) fn open_behind(
        confinement: Confinement,
        git: PathBuf,
        place: &Place,
        source: Option<&Rc<SourceReader>>,
        scratch: &Path,
        timeout: Duration,
    ) -> Result<Self> {
        Self::open_as(confinement, git, place, source, scratch, timeout, None)
    }

    /// Opens a view of a repository that has no object yet, of this object format.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub(super) fn open_empty(
        workspace: &Path,
        format: &'static str,
        source: Option<&Rc<SourceReader>>,
        scratch: &Path,
    ) -> Result<Self> {
        let git = program()?;
        let place = Place { workspace, git_dir: Path::new(".git"), work_tree: None };
        Self::open_as(confine::choose_for_reading(&git), git, &place, source, scratch, LONG, Some(format))
    }

    fn open_as(
        confinement: Confinement,
        git: PathBuf,
        place: &Place,
        source: Option<&Rc<SourceReader>>,
        scratch: &Path,
        timeout: Duration,
        format: Option<&'static str>,
    ) -> Result<Self> {
        let root = open_root(place.workspace)?;
        let guest = open_inside(&root, place.git_dir, OFlags::RDONLY | OFlags::DIRECTORY)?
            .ok_or_else(|| Unreadable(format!("the workspace has no {} directory", place.git_dir.display())))?;
        let git_dir = Scratch::new_in(scratch)?;
        let borrowed = git_dir.path().join("guest-objects");
        let real = place.workspace.join(place.git_dir);
        let mut store = store::link(&guest, &real.join("objects"), &borrowed)?;
        store.object_format = format.unwrap_or(store.object_format);
        let copy = open_inside(&guest, Path::new(ORIGIN_COPY), OFlags::RDONLY | OFlags::DIRECTORY)?;
        if let Some(copy) = &copy {
            store.add(copy, &real.join(ORIGIN_COPY).join("objects"), &borrowed)?;
        }
        // A source repository with another object format shares no object with the workspace.
        let length = if store.object_format == "sha256" { 64 } else { 40 };
        let source = source.filter(|source| source.tips.iter().all(|tip| tip.len() == length)).cloned();
        let others =
            source.iter().flat_map(|source| source.stores.all().cloned().chain([source.standin.path().to_owned()]));
        let mut mounts: Vec<_> = others.map(Mount::Read).collect();
        mounts.extend([Mount::Read(place.workspace.to_owned()), Mount::Write(git_dir.path().to_owned())]);
        mounts.extend(confine::mount::installation(&git));
        let mut view = Self {
            program: git,
            workspace: place.workspace.to_owned(),
            work_tree: place.work_tree.map(|dir| place.workspace.join(dir)),
            head: Head::default(),
            copied: Copied::default(),
            store,
            safe: source.as_ref().map(|source| source.tips.clone()).unwrap_or_default(),
            source,
            is_shallow: false,
            git_dir,
            guest,
            confinement,
            mounts,
            timeout,
        };
        view.initialize()?;
        view.borrow_objects(&borrowed, copy.as_ref())?;
        view.copied = refs::copy(&view.guest, view.git_dir.path())?;
        if let Some(copy) = &copy {
            view.copy_references_of(copy)?;
        }
        view.copy_stash_log()?;
        view.read_head()?;
        Ok(view)
    }

    /// Creates the temporary git directory, empty.
    fn initialize(&self) -> Result<()> {
        let formats = [
            format!("--object-format={}", self.store.object_format),
            format!("--ref-format={}", refs::format(&self.guest)?),
        ];
        let init = self.bounded(&self.unconfined_git(None)).args(["init", "--quiet", "--bare", "--template="]);
        // An older git knows only the files format and not this flag.
        let init =
            formats.iter().filter(|format| !format.ends_with("=files")).fold(init, |init, format| init.arg(format));
        ask(&init, MAX_OUTPUT).map(drop)
    }

    fn borrow_objects(&mut self, borrowed: &Path, copy: Option<&File>) -> Result<()> {
        let mut list = alternates::line(borrowed)?;
        let mut shallow = shallow_commits(&self.guest)?;
        if let Some(copy) = copy {
            shallow.extend(shallow_commits(copy)?);
        }
        if let Some(source) = &self.source {
            list.extend(alternates::line(&source.objects())?);
            let file = &source.stores.shallow;
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
            .and_then(|()| fs::write(info.join("alternates"), list))
            .context("failed to borrow objects")
    }

    /// Returns the number of commits that the workspace's references reach and the source repository lacks.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn new_commits(&self) -> Result<usize> {
        let safe: String = self.safe.iter().map(|tip| format!("^{tip}\n")).collect();
        let count = self.ask(&self.git(None).args(["rev-list", "--count", "--all", "--stdin"]).stdin(safe))?;
        String::from_utf8_lossy(&count).trim().parse().context("git printed no number")
    }

    /// Returns whether the guest's store borrows objects. They are never followed.
    #[must_use]
    pub fn borrows(&self) -> bool {
        !self.store.alternates.is_empty()
    }

    /// Returns a store with the objects of the source repository; None if its objects do not count.
    #[must_use]
    pub fn source_objects(&self) -> Option<PathBuf> {
        self.source.as_ref().map(|source| source.objects())
    }

    /// Lets git also read this file.
    pub(super) fn allow(&mut self, file: &Path) {
        self.mounts.push(Mount::Read(file.to_owned()));
    }

    /// Changes the time limit of each git call.
    pub(super) fn limit(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Returns the time limit of each git call.
    pub(super) fn time_limit(&self) -> Duration {
        self.timeout
    }

    /// Returns whether the view reads everything, which may take long.
    pub(super) fn is_thorough(&self) -> bool {
        self.timeout >= LONG
    }

    /// Returns the temporary git directory.
    #[must_use]
    pub fn git_dir(&self) -> &Path {
        self.git_dir.path()
    }

    /// Returns the work tree.
    #[must_use]
    pub fn work_tree(&self) -> Option<&Path> {
        self.work_tree.as_deref()
    }

    /// Returns the workspace.
    #[must_use]
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// Returns git's output.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn ask(&self, git: &Invocation) -> Result<Vec<u8>> {
        Ok(ask(git, MAX_OUTPUT)?.stdout)
    }

    /// Returns a confined git call on the temporary git directory, and on `work_tree` if there is one.
    pub fn git(&self, work_tree: Option<&Path>) -> Invocation {
        self.confined(&self.unconfined_git(work_tree))
    }

    /// Returns a confined git call on another git directory below the temporary one.
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
            // The guest's index has owner ids of the guest, so only size and time can match.
            .args(["-c", "core.packedGitLimit=1g", "-c", "core.checkStat=minimal", "-c", "core.commitGraph=false"])
            // Also compare files outside a sparse checkout, and files marked `--skip-worktree`.
            .args(["-c", "core.sparseCheckout=true", "-c", "sparse.expectFilesOutsideOfPatterns=false"])
            // Git's files here are temporary, or agent-vm syncs them itself.
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
        confine::bwrap::ending_with_us(&git.within(limit)).time_limit(self.timeout)
    }
}

/// Returns git's real path: inside the confinement, a link to it may be missing.
pub(super) fn program() -> Result<PathBuf> {
    let git = find("git".as_ref())?;
    fs::canonicalize(&git).with_context(|| format!("failed to find {}", git.display()))
}
