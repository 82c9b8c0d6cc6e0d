//! Lists the contents of a git directory: gitrepository-layout(5). An unknown file may hold commits that git would not
//! list.

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{FileType, Mode};

use super::guest_files::{is_empty, open_root};
use super::refs::shown;
use super::store::is_fan_out;
use crate::git::origin_copy::ORIGIN_COPY;
use crate::host::files::tree::{Visit, descend, entries};
use crate::host::interrupt;

/// The contents of a git directory, including the git directories of its submodules.
#[derive(Default)]
pub struct Layout {
    /// The first unknown entries.
    pub odd: Vec<String>,
    /// Paths of submodules' git directories: `modules/NAME`, `modules/NAME/modules/NAME`.
    pub modules: Vec<PathBuf>,
    /// Paths of files in git-lfs's store.
    pub large_files: Vec<PathBuf>,
}

impl Layout {
    /// Returns what to say if there are more submodules than are looked at.
    #[must_use]
    pub fn too_many_modules(&self) -> Option<String> {
        let all = self.modules.len();
        (all > MOST_MODULES).then(|| format!("{all} submodules; at most {MOST_MODULES} are looked at"))
    }
}

/// Largest number of listed unknown entries; more are not needed for a message.
pub(super) const MAX_ODD: usize = 8;
const MAX_LARGE_FILES: usize = 100_000;
/// Largest number of submodules that are looked at. Git is started several times for each.
const MOST_MODULES: usize = 1000;

/// Files of a git directory that name only objects of its own store.
const FILES: [&str; 16] = [
    "HEAD",
    "config",
    "config.worktree",
    "description",
    "packed-refs",
    "index",
    "shallow",
    "gc.log",
    "gc.pid",
    "git-daemon-export-ok",
    "opencode",
    "addp-hunk-edit.diff",
    "packed-refs.new",
    "fsmonitor--daemon.ipc",
    "maintenance.lock",
    "objects.lock",
];
/// Files of a git directory in which git notes an object id or a message. Another file with a name in capitals may be of any
/// kind, such as a bundle.
const NOTES: [&str; 26] = [
    "ADD_EDIT.patch",
    "AUTO_MERGE",
    "BISECT_ANCESTORS_OK",
    "BISECT_EXPECTED_REV",
    "BISECT_FIRST_PARENT",
    "BISECT_HEAD",
    "BISECT_LOG",
    "BISECT_NAMES",
    "BISECT_RUN",
    "BISECT_START",
    "BISECT_TERMS",
    "CHERRY_PICK_HEAD",
    "COMMIT_EDITMSG",
    "EDIT_DESCRIPTION",
    "FETCH_HEAD",
    "MERGE_AUTOSTASH",
    "MERGE_HEAD",
    "MERGE_MODE",
    "MERGE_MSG",
    "MERGE_RR",
    "NOTES_EDITMSG",
    "ORIG_HEAD",
    "REBASE_HEAD",
    "REVERT_HEAD",
    "SQUASH_MSG",
    "TAG_EDITMSG",
];
/// Files of the copy that `origin` leads to. Git writes no others there.
const COPYS_FILES: [&str; 8] =
    ["HEAD", "config", "description", "packed-refs", "packed-refs.new", "shallow", "FETCH_HEAD", "gc.log"];
/// Its directories, apart from the object store.
const COPYS_DIRECTORIES: [&str; 5] = ["branches", "hooks", "info", "logs", "refs"];
/// Directories of such files, at any depth. Not in the list: `rebase-apply`, whose patches, and
/// `NOTES_MERGE_WORKTREE`, whose notes, may exist nowhere else.
const DIRECTORIES: [&str; 11] = [
    "branches",
    // codemcp keeps the number of its chats there.
    "codemcp",
    "hooks",
    "info",
    "logs",
    "refs",
    "reftable",
    "remotes",
    "rr-cache",
    "rebase-merge",
    "sequencer",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    GitDir,
    /// The copy that `origin` leads to.
    OriginCopy,
    /// `modules`, or a directory in it that is not a git directory.
    Modules,
    Objects,
    FanOut,
    Pack,
    /// `info` of the object store.
    ObjectInfo,
    LargeFiles,
    Plain,
}

impl Place {
    /// Returns whether a directory may have entries of any name.
    fn may_hide_a_store(self) -> bool {
        matches!(self, Self::ObjectInfo | Self::LargeFiles | Self::Plain)
    }
}

/// Returns whether an entry of directory `dir`, which has the entries `found`, marks a repository or an object store.
fn is_of_a_store(dir: Option<&CString>, name: &[u8], found: &[(CString, FileType)]) -> bool {
    let has = |name: &[u8]| found.iter().any(|(found, _)| found.to_bytes() == name);
    let is_packed = name.ends_with(b".pack") || name.ends_with(b".bundle");
    let is_loose = dir.is_some_and(|dir| is_fan_out(dir.to_bytes()))
        && matches!(name.len(), 38 | 62)
        && name.iter().all(u8::is_ascii_hexdigit);
    name == b".git" || is_packed || is_loose || (name == b"HEAD" && has(b"objects"))
}

/// Lists the git directory at `path`, which the guest cannot change.
///
/// # Errors
/// It cannot be read.
pub fn look(path: &Path) -> Result<Layout> {
    let mut look = Look { layout: Layout::default(), places: vec![Place::GitDir] };
    let failed = || format!("failed to read {}", path.display());
    descend(open_root(path)?.into(), &mut look).with_context(failed)?;
    Ok(look.layout)
}

struct Look {
    layout: Layout,
    /// The kinds of the directories from the top down to the current one, which is last.
    places: Vec<Place>,
}

impl Visit for Look {
    const RIGHTS: Mode = Mode::RUSR.union(Mode::XUSR);

    fn enter(&mut self, dir: &OwnedFd, path: &[CString]) -> Result<Vec<CString>> {
        interrupt::check()?;
        let found = entries(dir)?.collect::<std::io::Result<Vec<_>>>()?;
        let place = self.place(path, &found);
        self.places.truncate(path.len());
        self.places.push(place);
        if place == Place::GitDir && !path.is_empty() {
            self.layout.modules.push(joined(path));
        }
        let packs =
            |name: &[u8], kind: &str| found.iter().any(|(file, _)| file.to_bytes() == [name, kind.as_bytes()].concat());
        let mut directories = Vec::new();
        for (name, kind) in &found {
            let bytes = name.to_bytes();
            let known = match kind {
                FileType::Directory => {
                    let is_copy = path.is_empty() && bytes == ORIGIN_COPY.as_bytes();
                    is_copy || self.knows_directory(place, bytes, || is_empty(dir, Path::new(OsStr::from_bytes(bytes))))
                }
                FileType::RegularFile => match (place, bytes.strip_suffix(b".pack")) {
                    // Git ignores a pack without an index.
                    (Place::Pack, Some(stem)) => stem.starts_with(b"tmp_") || packs(stem, ".idx"),
                    _ => knows_file(place, bytes),
                },
                // The socket of git's own fsmonitor daemon.
                FileType::Socket => place == Place::GitDir && bytes == b"fsmonitor--daemon.ipc",
                _ => place == Place::Plain && path.first().is_some_and(|top| top.to_bytes() == b"hooks"),
            };
            let known = known && !(place.may_hide_a_store() && is_of_a_store(path.last(), bytes, &found));
            let whole: Vec<_> = path.iter().cloned().chain([name.clone()]).collect();
            if !known && self.layout.odd.len() < MAX_ODD {
                self.layout.odd.push(format!(".git/{}", shown(joined(&whole).as_os_str().as_encoded_bytes())));
            }
            if place == Place::LargeFiles && *kind == FileType::RegularFile {
                if self.layout.large_files.len() >= MAX_LARGE_FILES {
                    self.layout.odd.push("more large files than agent-vm compares".to_owned());
                    return Ok(Vec::new());
                }
                self.layout.large_files.push(joined(&whole));
            }
            if *kind == FileType::Directory && known {
                directories.push(name.clone());
            }
        }
        // Enough entries for a message: stop descending.
        Ok(if self.layout.odd.len() < MAX_ODD { directories } else { Vec::new() })
    }
}

impl Look {
    /// Returns the kind of the directory at `path`, from its entries and the kind of its parent.
    fn place(&self, path: &[CString], found: &[(CString, FileType)]) -> Place {
        let Some((name, above)) = path.split_last() else { return Place::GitDir };
        let (name, above) = (name.to_bytes(), self.places.get(above.len()).unwrap_or(&Place::GitDir));
        match above {
            Place::GitDir | Place::OriginCopy if name == b"objects" => Place::Objects,
            Place::GitDir if name == ORIGIN_COPY.as_bytes() && path.len() == 1 => Place::OriginCopy,
            Place::GitDir if name == b"modules" => Place::Modules,
            // Git LFS also stores contents in the copy: it is a remote on the same file system.
            Place::GitDir | Place::OriginCopy if name == b"lfs" => Place::LargeFiles,
            Place::Modules if found.iter().any(|(name, _)| name.to_bytes() == b"HEAD") => Place::GitDir,
            Place::Objects if name == b"pack" => Place::Pack,
            Place::Objects if name == b"info" => Place::ObjectInfo,
            Place::Objects => Place::FanOut,
            Place::GitDir | Place::OriginCopy => Place::Plain,
            other => *other,
        }
    }

    fn knows_directory(&self, place: Place, name: &[u8], is_empty: impl FnOnce() -> bool) -> bool {
        let is = |names: &[&str]| names.iter().any(|known| known.as_bytes() == name);
        match place {
            Place::GitDir => {
                is(&DIRECTORIES)
                    || is(&["objects", "modules", "lfs"])
                    // Only an empty one is sure to hold no commit.
                    || (is(&["worktrees"]) && is_empty())
            }
            Place::OriginCopy => is(&COPYS_DIRECTORIES) || is(&["objects", "lfs"]),
            Place::Objects => is(&["pack", "info"]) || is_fan_out(name),
            Place::ObjectInfo => is(&["commit-graphs"]),
            Place::Pack => is(&["multi-pack-index.d"]),
            Place::FanOut => false,
            Place::Modules | Place::LargeFiles | Place::Plain => true,
        }
    }
}

fn knows_file(place: Place, name: &[u8]) -> bool {
    match place {
        Place::GitDir => {
            let is_temporary = name.starts_with(b"sharedindex.") || name.starts_with(b"tmp-");
            // The lock of a file has its new contents; another one may be anything.
            let file = name.strip_suffix(b".lock").unwrap_or(name);
            is_temporary || FILES.iter().chain(&NOTES).any(|known| [file, name].contains(&known.as_bytes()))
        }
        Place::OriginCopy => name.ends_with(b".lock") || COPYS_FILES.iter().any(|known| known.as_bytes() == name),
        // A partial clone's pack lacks objects.
        Place::Pack => !name.ends_with(b".promisor"),
        Place::Modules | Place::Objects => false,
        Place::FanOut => name.iter().all(u8::is_ascii_hexdigit) || name.starts_with(b"tmp_obj_"),
        Place::ObjectInfo | Place::LargeFiles | Place::Plain => true,
    }
}

/// Joins path components.
pub fn joined(path: &[CString]) -> PathBuf {
    path.iter().map(|part| OsStr::from_bytes(part.to_bytes())).collect()
}
