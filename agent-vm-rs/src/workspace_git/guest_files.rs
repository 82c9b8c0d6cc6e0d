//! Files of the guest's `.git`: opened without following a link, read up to a limit, taken for nothing they are not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::branch::BranchName;

/// The stash's name.
pub const STASH: &str = "refs/stash";
/// Bytes.
const MAX_REF_FILE: u64 = 4 << 20;
const MAX_REFS: usize = 10_000;

/// What is checked out.
#[derive(Default)]
pub struct Head {
    pub branch: Option<BranchName>,
    pub commit: Option<String>,
}

/// Opens a path below `root`; no component of it may be a symbolic link.
pub fn open_inside(root: &Path, relative: &Path, flags: OFlags) -> Result<File> {
    let root_dir = File::open(root).with_context(|| format!("failed to open {}", root.display()))?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // A fifo must not stop us. (O_PATH opens nothing, and refuses other flags.)
    let flags = if flags.contains(OFlags::PATH) { flags } else { flags | OFlags::NONBLOCK };
    let opened = openat2(&root_dir, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
    Ok(File::from(opened.with_context(|| format!("failed to open {} in the workspace", relative.display()))?))
}

/// Contents of a plain file below `root` of at most `limit` bytes; None if there is none.
pub fn read_inside(root: &Path, relative: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
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
pub fn read_head(workspace: &Path, refs: &BTreeMap<String, String>) -> Head {
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
pub fn read_refs(workspace: &Path) -> Result<BTreeMap<String, String>> {
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
