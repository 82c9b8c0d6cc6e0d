//! Bundles the source repository's newer commits for the copy that `origin` of a workspace leads to.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::partial::Partial;
use super::refs::Ref;
use super::standin::StandIn;
use super::{Source, examine, lfs, links};
use crate::host::files::beneath;
use crate::host::process::Invocation;
use crate::machine::branch::BranchName;

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

/// Bundles the source's commits of the machine's branch, and of the branches that the copy `has` (names and ids), which
/// the copy lacks; None if it lacks none. `scratch` is a directory of the machine.
///
/// # Errors
/// The source repository cannot be read.
pub fn bundle(
    source: &Source,
    branch: &BranchName,
    has: &BTreeMap<String, String>,
    scratch: &Path,
) -> Result<Option<Bundle>> {
    links::check(&source.place)?;
    let refs = examine::list(&source.place, &source.format, scratch)?;
    let own = |reference: &Ref| {
        let name = std::str::from_utf8(&reference.name).ok()?.strip_prefix("refs/heads/")?;
        let is_wanted = name == branch.as_str() || has.contains_key(name);
        (is_wanted && has.get(name) != Some(&reference.id)).then(|| (name.to_owned(), reference.clone()))
    };
    let wanted: Vec<_> = refs.iter().filter_map(own).collect();
    let offer: Vec<_> = wanted.iter().map(|(_, reference)| reference.clone()).collect();
    let standin = StandIn::offering(&source.place, &source.format, &offer, "ref: refs/heads/none", scratch)?;
    let git = || standin.git().of_machine(scratch);
    // The guest chooses these ids; only commits that the source has count.
    let ids: String = has.values().map(|id| format!("{id}\n")).collect();
    let known = git().args(["cat-file", "--batch-check=%(objectname) %(objecttype)"]).stdin(ids).read()?;
    let known: Vec<_> = known.lines().filter_map(|line| line.strip_suffix(" commit")).collect();
    let below: String = known.iter().map(|id| format!("^{id}\n")).collect();
    let is_new = |reference: &Ref| -> Result<bool> {
        let list = git().args(["rev-list", "--max-count=1", "--stdin"]).stdin(format!("{}\n{below}", reference.id));
        Ok(!list.read()?.is_empty())
    };
    let (mut sent, mut names) = (Vec::new(), String::new());
    for (name, reference) in wanted {
        if is_new(&reference)? {
            names += &format!("refs/heads/{name}\n");
            sent.push(Sent { old: has.get(&name).cloned(), branch: name, new: reference.id });
        }
    }
    if sent.is_empty() {
        return Ok(None);
    }
    let tips: String = sent.iter().map(|one| format!("{}\n", one.new)).collect();
    Partial { place: &source.place, config: &source.config, standin: &standin, scratch }
        .fill(&(tips.clone() + &below))?;
    let large_files = large_files(&source.place.common_dir, &git, &tips, &below)?;
    let create = git().args(["bundle", "create", "--quiet", "-", "--stdin"]).stdin(names + &below);
    let bytes = create.checked_within(MAX_BUNDLE).context("failed to bundle the new commits")?.stdout;
    Ok(Some(Bundle { sent, bytes, large_files }))
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
