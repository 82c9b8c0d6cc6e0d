//! Reading the workspace's repository, which the guest owns and may have made hostile.
//!
//! Git never runs with the workspace's own configuration, hooks, filters or fsmonitor: it runs with a git
//! directory of ours, made empty for the one call, that borrows the workspace's *objects*. What we need
//! beside objects (HEAD, branch tips, the index) is read here, without following a symbolic link.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::branch::BranchName;
use crate::error::Failure;
use crate::git::Source;
use crate::process::Invocation;

/// A hostile repository can make git busy: it gets this long.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// And so much address space, bytes.
const MEMORY_LIMIT: u64 = 4 << 30;
const MAX_REF_FILE: u64 = 4 << 20;
const MAX_INDEX: u64 = 512 << 20;
const MAX_REFS: usize = 10_000;
const STASH: &str = "refs/stash";

/// What status shows of the workspace.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct WorkspaceState {
    /// Branch that is checked out, if it has a name git would take.
    pub branch: Option<String>,
    /// Commit that is checked out.
    pub commit: Option<String>,
    /// Files that differ from it, new ones included.
    pub changed_files: usize,
    /// Commits that only the workspace has.
    pub new_commits: usize,
}

/// Our view of a workspace's repository; its temporary git directory goes with it.
pub struct View {
    git_dir: tempfile::TempDir,
    workspace: PathBuf,
    /// The machine's directory.
    scratch: PathBuf,
    /// Tips of branches and tags, and the stash, by full name.
    refs: BTreeMap<String, String>,
    head: Head,
    /// Commits that are safe elsewhere.
    safe: Vec<String>,
}

#[derive(Default)]
struct Head {
    branch: Option<BranchName>,
    commit: Option<String>,
}

impl View {
    /// Looks at `workspace`. `source` is the user's repository, None if it is gone. `scratch` is a directory
    /// on the host's side of the machine.
    ///
    /// # Errors
    /// There is no repository that can be read.
    pub fn open(workspace: &Path, source: Option<&Source>, scratch: &Path) -> Result<Self> {
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
        let view = Self {
            head: read_head(workspace, &refs),
            refs,
            safe: Vec::new(),
            git_dir,
            workspace: workspace.to_owned(),
            scratch: scratch.to_owned(),
        };
        view.git(None)
            .args(["init", "--quiet", "--bare", "--template="])
            .checked()
            .context("failed to make a view of the repository")?;
        let mut stores = format!("{}\n", quoted(&objects)?);
        if let Some(source) = source {
            let (source_objects, shallow) = source.stores()?;
            stores.push_str(&format!("{}\n", quoted(&source_objects)?));
            if shallow.is_file() {
                fs::copy(&shallow, view.git_dir.path().join("shallow"))
                    .context("failed to copy the list of shallow commits")?;
            }
        }
        let alternates = view.git_dir.path().join("objects/info");
        fs::create_dir_all(&alternates)
            .and_then(|()| fs::write(alternates.join("alternates"), stores))
            .context("failed to borrow objects")?;
        let safe = source.map(Source::tips).transpose()?.unwrap_or_default();
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
            new_commits: self.new_commits()?,
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
            self.git(None).args(["update-ref", "--no-deref", "HEAD", commit]).checked()?;
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
        let bundle =
            self.git(None).args(["bundle", "create", "--quiet"]).arg(file).args(["--all", "--stdin"]).stdin(excluded);
        bundle
            .checked()
            .with_context(|| format!("failed to bundle the workspace's commits into {}", file.display()))?;
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
        // What a hostile object store has it read is bounded, too.
        let git = Invocation::new("prlimit")
            .arg(format!("--as={MEMORY_LIMIT}"))
            .args(["--", "git", "-c", "core.packedGitLimit=1g"])
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
            .time_limit(TIME_LIMIT)
            .of_machine(&self.scratch)
            .cwd(self.git_dir.path());
        match work_tree {
            Some(dir) => git.env("GIT_WORK_TREE", dir).cwd(dir),
            None => git,
        }
    }
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

/// Opens a path below `root`; no component of it may be a symbolic link.
fn open_inside(root: &Path, relative: &Path, flags: OFlags) -> Result<File> {
    let root_dir = File::open(root).with_context(|| format!("failed to open {}", root.display()))?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // A fifo must not stop us. (O_PATH opens nothing, and refuses other flags.)
    let flags = if flags.contains(OFlags::PATH) { flags } else { flags | OFlags::NONBLOCK };
    let opened = openat2(&root_dir, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
    Ok(File::from(opened.with_context(|| format!("failed to open {} in the workspace", relative.display()))?))
}

/// Contents of a plain file below `root` of at most `limit` bytes; None if there is none.
fn read_inside(root: &Path, relative: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let Ok(file) = open_inside(root, relative, OFlags::RDONLY) else { return Ok(None) };
    let metadata = file.metadata().context("failed to look at a file of the workspace")?;
    ensure!(
        metadata.is_file() && metadata.size() <= limit,
        "{} in the workspace is no plain file, or too large",
        relative.display()
    );
    let mut bytes = Vec::new();
    file.take(limit)
        .read_to_end(&mut bytes)
        .with_context(|| format!("failed to read {} in the workspace", relative.display()))?;
    Ok(Some(bytes))
}

/// A line that is an object id and nothing else.
fn object_id(text: &str) -> Option<String> {
    let text = text.trim_end();
    let well_formed =
        matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (well_formed && text.bytes().any(|b| b != b'0')).then(|| text.to_owned())
}

/// What is checked out; `refs` are the tips of the workspace.
fn read_head(workspace: &Path, refs: &BTreeMap<String, String>) -> Head {
    let read = |path: &str| read_inside(workspace, &Path::new(".git").join(path), MAX_REF_FILE).ok().flatten();
    let Some(text) = read("HEAD").and_then(|bytes| String::from_utf8(bytes).ok()) else { return Head::default() };
    match text.strip_prefix("ref: refs/heads/") {
        None => Head { branch: None, commit: object_id(&text) },
        Some(name) => {
            let Ok(branch) = name.trim_end_matches('\n').parse::<BranchName>() else { return Head::default() };
            let commit = refs.get(&format!("refs/heads/{branch}")).cloned();
            Head { branch: Some(branch), commit }
        }
    }
}

/// Tips of the workspace's branches and tags, and its stash: loose ones win over packed ones. Anything odd is
/// left out.
fn read_refs(workspace: &Path) -> Result<BTreeMap<String, String>> {
    let is_wanted = |name: &str| {
        let short = name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/"));
        name == STASH || short.is_some_and(|short| short.parse::<BranchName>().is_ok())
    };
    let mut tips = BTreeMap::new();
    if let Some(packed) = read_inside(workspace, Path::new(".git/packed-refs"), MAX_REF_FILE)? {
        for line in String::from_utf8_lossy(&packed).lines().take(MAX_REFS) {
            if let Some((id, name)) = line.split_once(' ')
                && let (Some(id), true) = (object_id(id), is_wanted(name))
            {
                tips.insert(name.to_owned(), id);
            }
        }
    }
    let git_dir = workspace.join(".git");
    for root in ["refs/heads", "refs/tags", STASH] {
        let entries = walkdir::WalkDir::new(git_dir.join(root)).follow_links(false).max_depth(32);
        for entry in entries.into_iter().flatten().take(MAX_REFS) {
            let name = entry.path().strip_prefix(&git_dir).ok().and_then(Path::to_str);
            let Some(name) = name.filter(|name| entry.file_type().is_file() && is_wanted(name)) else { continue };
            let text = read_inside(workspace, &Path::new(".git").join(name), 256).ok().flatten();
            if let Some(id) = text.and_then(|bytes| object_id(&String::from_utf8_lossy(&bytes))) {
                tips.insert(name.to_owned(), id);
            }
        }
    }
    Ok(tips)
}
