//! A guest's git directory that is kept as it is, without what would have git run or read what the guest says.

use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, OFlags, renameat, statat};

use super::guest_files::open_inside;

/// Directories, and what in them git follows: gitrepository-layout(5).
const FOLLOWED: [(&str, &[&str]); 2] = [
    (".", &["config", "config.worktree", "hooks", "commondir", "gitdir"]),
    ("objects/info", &["alternates", "http-alternates"]),
];

/// Renames what git would follow in a git directory that nobody changes any more. What is behind links in it is left alone.
///
/// # Errors
/// Something cannot be renamed.
pub fn put_away(git_dir: &Path) -> Result<()> {
    for (place, names) in FOLLOWED {
        let Ok(dir) = open_inside(git_dir, Path::new(place), OFlags::DIRECTORY | OFlags::PATH) else { continue };
        for name in names {
            if statat(&dir, *name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                renameat(&dir, *name, &dir, format!("{name}.of-the-guest"))
                    .with_context(|| format!("failed to put {name} of the guest's repository away"))?;
            }
        }
    }
    Ok(())
}
