//! Examines a machine's workspace: its size, and the state of its repository.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::git::workspace::{self, WorkspaceState, is_unreadable};
use crate::git::{Origin, Source};
use crate::machine::Machine;
use crate::term::error::on_one_line;

/// Time limit for counting the workspace's files.
const LONGEST_COUNT: Duration = Duration::from_secs(2);

/// What is known of a workspace.
#[derive(Serialize)]
pub(super) struct Workspace {
    pub(super) path: PathBuf,
    pub(super) bytes: Option<u64>,
    pub(super) git: Option<WorkspaceState>,
    /// Whether the other fields were looked for.
    #[serde(skip)]
    pub(super) examined: bool,
}

impl Workspace {
    /// Returns a workspace that was not looked into.
    pub(super) fn unexamined(machine: &Machine) -> Self {
        Self { path: machine.workspace(), bytes: None, git: None, examined: false }
    }
}

/// Returns the disk usage of a directory in bytes; None if it has too many files to count before `end`.
fn used_bytes(dir: &Path, end: Instant) -> Option<u64> {
    let files = walkdir::WalkDir::new(dir).follow_links(false).into_iter().flatten();
    let blocks = files.map(|file| (Instant::now() < end).then(|| file.metadata().map_or(0, |file| file.blocks())));
    Some(blocks.sum::<Option<u64>>()? * 512)
}

/// Returns the state of a machine's workspace, and its problems.
pub(super) fn look(machine: &Machine) -> (Workspace, Vec<String>) {
    let path = machine.workspace();
    let mut troubles = Vec::new();
    let (bytes, git) = std::thread::scope(|scope| {
        let bytes = scope.spawn(|| used_bytes(&path, Instant::now() + LONGEST_COUNT));
        let source = source(machine, &mut troubles);
        let git = workspace::state(&path, source.as_ref(), &machine.dir);
        // Without the source repository, every commit would count as new.
        let git = git.map(|git| WorkspaceState { new_commits: git.new_commits.filter(|_| source.is_some()), ..git });
        (bytes.join().ok().flatten(), git)
    });
    let git = git.map_err(|error| {
        // Other errors do not mean that the repository is damaged.
        let what = if is_unreadable(&error) { "the workspace's repository" } else { "failed to examine the workspace" };
        troubles.push(format!("{what}: {error:#}"));
    });
    let git = git.ok();
    (Workspace { path, bytes, git, examined: true }, troubles)
}

fn source(machine: &Machine, problems: &mut Vec<String>) -> Option<Source> {
    let settings = machine.settings().ok()?;
    match Origin::of(machine, &settings) {
        Origin::Here(source) => return Some(source),
        Origin::Missing => {
            let lost = machine.lost_source(&settings);
            problems.push(format!("{lost}; {}", on_one_line(lost.hint().unwrap_or_default())));
        }
        Origin::Unusable(error) => problems.push(format!("cannot use its source repository: {error:#}")),
    }
    None
}
