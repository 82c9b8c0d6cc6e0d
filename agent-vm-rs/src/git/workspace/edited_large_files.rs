//! Git LFS files that were edited and not committed. Git with Git LFS would store their contents and commit pointers.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result};

use super::guest_files::open_root;
use super::view::View;
use crate::git::lfs::{MAX_POINTER, Pointer};
use crate::host::files::beneath;
use crate::host::interrupt::{self, Deadline};

/// What a commit of changed files has in the place of an edited Git LFS file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Large {
    /// Its contents.
    Whole,
    /// A pointer to them.
    Pointers,
}

/// An edited file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// Its path in the work tree.
    pub path: Vec<u8>,
    /// The pointer to its contents.
    pub pointer: Pointer,
    is_program: bool,
}

impl View {
    /// Returns those of the changed files in `paths` that Git LFS would store: they have the attribute `filter=lfs`, and are
    /// neither empty nor pointers.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub(super) fn edited_large_files(&self, paths: &[&[u8]]) -> Result<Vec<Edited>> {
        let Some(work_tree) = self.work_tree().filter(|_| !paths.is_empty()) else { return Ok(Vec::new()) };
        let list: Vec<u8> = paths.iter().flat_map(|path| [path, &b"\0"[..]].concat()).collect();
        let check = self.git(Some(work_tree)).args(["check-attr", "-z", "--stdin", "filter"]).stdin(list);
        let printed = self.ask(&check)?;
        // Each entry has a path, the attribute and its value.
        let fields: Vec<_> = printed.split(|byte| *byte == 0).collect();
        let large = fields.chunks_exact(3).filter(|entry| entry[2] == b"lfs").map(|entry| entry[0]);
        let large: BTreeSet<_> = large.collect();
        let tree = open_root(work_tree)?;
        // Files that are not read in time are committed as they are.
        let deadline = Deadline::after(self.time_limit() / 5);
        let in_time = || if deadline.passed() { Err(io::Error::from(io::ErrorKind::TimedOut).into()) } else { Ok(()) };
        let mut found = Vec::new();
        for path in paths.iter().filter(|path| large.contains(*path)) {
            let Some(mut file) = beneath::open_file(&tree, OsStr::from_bytes(path).as_ref()) else { continue };
            let failed = || "failed to look at a file of the workspace";
            let metadata = file.metadata().with_context(failed)?;
            let mut start = Vec::new();
            if metadata.len() <= MAX_POINTER {
                (&file).take(MAX_POINTER).read_to_end(&mut start).with_context(failed)?;
                file.rewind().with_context(failed)?;
            }
            if metadata.len() == 0 || Pointer::parse_any(&start).is_some() {
                continue;
            }
            let Ok(pointer) = Pointer::to(&file, in_time) else { continue };
            interrupt::check()?;
            found.push(Edited { path: path.to_vec(), pointer, is_program: metadata.mode() & 0o100 != 0 });
        }
        Ok(found)
    }

    /// Writes the pointers of edited files into the copied index.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub(super) fn stage_pointers(&self, edited: &[Edited]) -> Result<()> {
        if edited.is_empty() {
            return Ok(());
        }
        let dir = self.git_dir().join("pointers");
        fs::create_dir(&dir).context("failed to make a directory for pointers")?;
        let mut paths = String::new();
        for (number, file) in edited.iter().enumerate() {
            let path = dir.join(number.to_string());
            fs::write(&path, file.pointer.text()).context("failed to write a pointer")?;
            paths += &format!("pointers/{number}\n");
        }
        let hash = self.git(None).args(["hash-object", "-w", "--no-filters", "--stdin-paths"]).stdin(paths);
        let ids = self.ask(&hash)?;
        let ids = String::from_utf8_lossy(&ids);
        let line = |(file, id): (&Edited, &str)| {
            let mode = if file.is_program { "100755" } else { "100644" };
            [format!("{mode} {id}\t").as_bytes(), &file.path, b"\0"].concat()
        };
        let lines: Vec<u8> = edited.iter().zip(ids.lines()).flat_map(line).collect();
        self.ask(&self.git(None).args(["update-index", "-z", "--index-info"]).stdin(lines)).map(drop)
    }
}
