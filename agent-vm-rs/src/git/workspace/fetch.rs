//! The command that fetches what was kept of a workspace into the user's repository.

use std::path::Path;

use rustix::fs::OFlags;

use super::guest_files::{is_object_id, open_inside, open_root, read_inside};
use crate::host::files::quoted;

/// Largest HEAD that is read, in bytes.
const MAX_HEAD: u64 = 4096;

/// Returns the command that fetches the branches and tags of a bundle or a kept workspace. `others` adds its other
/// references, `head` its detached HEAD.
#[must_use]
pub fn fetch(kept: &Path, others: bool, head: bool) -> String {
    // A name of its own, so that what was fetched before is not in the way.
    let name = kept.file_stem().unwrap_or_default().to_string_lossy();
    let refspec = |from: &str, to: &str| format!(" {}", quoted(format!("{from}:{to}/rescued/{name}/*").as_ref()));
    let (branches, tags) = (refspec("refs/heads/*", "refs/heads"), refspec("refs/tags/*", "refs/tags"));
    let others = if others { refspec("refs/*", "refs") } else { String::new() };
    let head = if head { format!(" HEAD:refs/heads/rescued/{name}/agent-vm/detached") } else { String::new() };
    format!("git fetch --no-tags {}{branches}{tags}{others}{head}", quoted(kept))
}

/// Returns the command that fetches from a kept workspace; None if git finds no repository at its top. Git then reads
/// the configuration that agent-vm wrote: see [`super::keep_whole`].
#[must_use]
pub fn fetch_from_kept(kept: &Path) -> Option<String> {
    let root = open_root(kept).ok()?;
    let git_dir = open_inside(&root, Path::new(".git"), OFlags::RDONLY | OFlags::DIRECTORY).ok()??;
    let head = read_inside(&git_dir, Path::new("HEAD"), MAX_HEAD).ok()??;
    Some(fetch(kept, true, is_object_id(head.trim_ascii_end())))
}
