//! Files of a work tree, compared with the commit that is checked out.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::guest_files::read_inside;
use super::view::View;

/// Bytes.
const MAX_INDEX: u64 = 512 << 20;

impl View {
    /// Paths of files that differ from the commit that is checked out, new ones included. With `directories` a new directory
    /// counts as one.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn changed_files(&self, directories: bool) -> Result<Vec<Vec<u8>>> {
        let Some(work_tree) = self.work_tree() else { return Ok(Vec::new()) };
        self.copy_index()?;
        let untracked = if directories { "--untracked-files=normal" } else { "--untracked-files=all" };
        let status = self.git(Some(work_tree)).args(["status", "--porcelain=v1", "-z", "--no-renames", untracked]);
        let listed = self.ask(&status.arg("--ignore-submodules=all"))?;
        let entries = listed.split(|byte| *byte == 0).filter(|entry| entry.len() > 3);
        Ok(entries.map(|entry| entry[3..].to_vec()).collect())
    }

    /// Whether the files below these paths are all of the commit that is checked out, and as they are there.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn has_all_of(&self, paths: &[PathBuf]) -> Result<bool> {
        let Some(work_tree) = self.work_tree() else { return Ok(false) };
        self.copy_index()?;
        let all = ["--untracked-files=all", "--ignored=matching", "--no-renames", "--"];
        let status = self.git(Some(work_tree)).args(["status", "--porcelain=v1", "-z"]).args(all);
        let differing = self.ask(&paths.iter().fold(status, |status, path| status.arg(or_dot(path))))?;
        // A path that nothing is listed of may be one that git does not look into.
        let lists = |path: &PathBuf| -> Result<bool> {
            let list = self.git(Some(work_tree)).args(["ls-files", "-z", "--"]).arg(or_dot(path));
            Ok(!self.ask(&list)?.is_empty())
        };
        Ok(differing.is_empty()
            && paths.iter().map(lists).collect::<Result<Vec<_>>>()?.into_iter().all(|listed| listed))
    }

    fn copy_index(&self) -> Result<()> {
        let to = self.git_dir.path();
        if to.join("index").exists() {
            return Ok(());
        }
        if let Some(bytes) = read_inside(&self.guest, Path::new("index"), MAX_INDEX)? {
            fs::write(to.join("index"), bytes).context("failed to copy the index")?;
        }
        // Parts of a split index.
        let list = std::os::fd::OwnedFd::from(self.guest.try_clone().context("failed to look at the git directory")?);
        for entry in crate::state::tree::entries(&list).context("failed to list the git directory")? {
            let (name, _) = entry.context("failed to list the git directory")?;
            if name.to_bytes().starts_with(b"sharedindex.") {
                let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(name.to_bytes());
                let bytes = read_inside(&self.guest, Path::new(name), MAX_INDEX)?.unwrap_or_default();
                fs::write(to.join(name), bytes).context("failed to copy the index")?;
            }
        }
        Ok(())
    }
}

fn or_dot(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}
