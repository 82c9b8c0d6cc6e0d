//! Finds the repository that contains a directory, without git: git would read the configuration of any repository it
//! finds.
//!
//! A downloaded directory can contain anything. So a pointer in it (a `.git` file or link) is followed only to a
//! repository that points back; see [`Place`].

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::config::Config;
use crate::host::files::plain;
use crate::term::error::Failure;

/// Largest accepted HEAD, `.git`, `commondir` and `gitdir`, in bytes. Each holds one line.
const MAX_LINE: u64 = 16 << 10;

/// The directories of a repository, as canonical paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The git directory, with HEAD and the index.
    pub git_dir: PathBuf,
    /// The directory of objects, references and configuration. It differs from `git_dir` only in a linked work tree.
    pub common_dir: PathBuf,
    /// The directory that has `.git`; None if the search found the git directory itself.
    pub work_tree: Option<PathBuf>,
}

impl Place {
    /// Returns whether `git worktree` made this work tree.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.git_dir != self.common_dir
    }

    /// Returns the main work tree, or the git directory of a bare repository. It identifies the repository.
    #[must_use]
    pub fn source_dir(&self) -> PathBuf {
        match self.common_dir.parent() {
            Some(parent) if self.common_dir.file_name().is_some_and(|name| name == ".git") => parent.to_owned(),
            _ => self.common_dir.clone(),
        }
    }
}

/// Returns the repository that contains `cwd`; None if there is none.
///
/// # Errors
/// The directory points to a repository that does not point back, or looks like a bare repository inside another one.
pub fn discover(cwd: &Path) -> Result<Option<Place>> {
    let start = real(cwd)?;
    let device = |dir: &Path| fs::metadata(dir).map(|metadata| metadata.dev()).ok();
    // Like git, search one file system only.
    let home = device(&start);
    for dir in start.ancestors().take_while(|dir| device(dir) == home) {
        if let Some(place) = by_dot_git(dir)? {
            return Ok(Some(place));
        }
        if is_git_dir(dir) {
            return by_git_dir(dir).map(Some);
        }
    }
    Ok(None)
}

/// Returns the repository whose `.git` is directly in `dir`; None if there is none.
///
/// # Errors
/// See [`discover`].
pub fn by_dot_git(dir: &Path) -> Result<Option<Place>> {
    let dot_git = dir.join(".git");
    let Ok(kind) = fs::symlink_metadata(&dot_git) else { return Ok(None) };
    if kind.is_dir() {
        // Only the git directory of a linked work tree has a `commondir`, and that one is never called `.git`.
        let common = dot_git.join("commondir");
        if common.symlink_metadata().is_ok() {
            return Err(foreign(&dot_git, &common));
        }
        if !is_git_dir(&dot_git) {
            return Ok(None);
        }
        return Ok(Some(Place { common_dir: dot_git.clone(), git_dir: dot_git, work_tree: Some(dir.to_owned()) }));
    }
    let git_dir = if kind.is_symlink() { dot_git.clone() } else { pointed_to(&dot_git)? };
    let Some(git_dir) = real(&git_dir).ok().filter(|dir| is_git_dir(dir)) else {
        return Err(Failure::new(format!(
            "{} points to {}, which is not a git directory",
            dot_git.display(),
            git_dir.display()
        ))
        .with_hint("if the repository was moved: git worktree repair, in its main work tree")
        .into());
    };
    let common_dir = common_dir(&git_dir)?;
    let place = Place { git_dir, common_dir, work_tree: Some(dir.to_owned()) };
    if belongs(&place, dir, &dot_git)? { Ok(Some(place)) } else { Err(foreign(&dot_git, &place.git_dir)) }
}

/// Returns the repository whose git directory is `dir`.
fn by_git_dir(dir: &Path) -> Result<Place> {
    let own = Place { git_dir: dir.to_owned(), common_dir: common_dir(dir)?, work_tree: None };
    let outer = dir.parent().map(discover).transpose()?.flatten();
    match outer {
        None => Ok(own),
        Some(outer) if outer.git_dir == own.git_dir => Ok(outer),
        // The git directory of a submodule or of a linked work tree.
        Some(outer) if own.git_dir.starts_with(&outer.common_dir) => Ok(own),
        Some(outer) => {
            let of = outer.work_tree.unwrap_or(outer.common_dir);
            let (own, of) = (own.git_dir.display(), of.display());
            Err(Failure::new(format!("{own} looks like a bare repository, but it lies in the repository {of}"))
                .with_hint(format!(
                    "cd {of}; or, if you know {own}, give it a work tree of its own: git --git-dir={own} worktree add DIRECTORY"
                ))
                .into())
        }
    }
}

/// Checks that a git directory belongs to `dir`: it is inside `dir`, or points back to it.
fn belongs(place: &Place, dir: &Path, dot_git: &Path) -> Result<bool> {
    let git_dir = &place.git_dir;
    if place.is_linked() {
        // git-worktree(1): `gitdir` holds the path of the work tree's `.git`.
        let line = plain::read(&git_dir.join("gitdir"), MAX_LINE)?.unwrap_or_default();
        return Ok(real(&plain::path_in(&line, git_dir)).is_ok_and(|back| real(dot_git).is_ok_and(|own| own == back)));
    }
    if git_dir.starts_with(dir) {
        return Ok(true);
    }
    let config = Config::read(&git_dir.join("config"))?;
    if let Some(back) = config.get("core.worktree") {
        return Ok(real(&git_dir.join(back)).is_ok_and(|back| back == dir));
    }
    // `git init --separate-git-dir` leaves no pointer back. A bare repository has no work tree, and a git directory
    // called `.git` belongs to its parent directory.
    Ok(!config.is_true("core.bare") && git_dir.file_name() != Some(OsStr::new(".git")))
}

fn foreign(dot_git: &Path, leads_to: &Path) -> anyhow::Error {
    let dir = dot_git.parent().unwrap_or(dot_git);
    Failure::new(format!(
        "{} leads to the repository {}, which does not name this directory as its work tree",
        dot_git.display(),
        leads_to.display()
    ))
    .with_hint(format!(
        "if {0} is its work tree: git worktree repair {0}, in the main work tree; if git init --separate-git-dir made it: \
         git --git-dir={1} config core.worktree {0}",
        dir.display(),
        leads_to.display()
    ))
    .into()
}

/// Returns the target of a `.git` file: gitrepository-layout(5), a line `gitdir: PATH`.
fn pointed_to(dot_git: &Path) -> Result<PathBuf> {
    let line = plain::read(dot_git, MAX_LINE)?.unwrap_or_default();
    let path = line.strip_prefix(b"gitdir: ").with_context(|| {
        Failure::new(format!("{} is neither a git directory nor a pointer to one", dot_git.display()))
            .with_hint("remove it, or clone the repository again")
    })?;
    Ok(plain::path_in(path, dot_git.parent().unwrap_or(dot_git)))
}

/// Returns the common directory of a git directory. Only `worktrees/NAME` of a common directory may name one.
fn common_dir(git_dir: &Path) -> Result<PathBuf> {
    let Some(line) = plain::read(&git_dir.join("commondir"), MAX_LINE)? else { return Ok(git_dir.to_owned()) };
    let common = real(&plain::path_in(&line, git_dir))?;
    if git_dir.parent() == Some(&common.join("worktrees")) { Ok(common) } else { Err(foreign(git_dir, &common)) }
}

/// Applies git's own test: HEAD holds a reference or an object id, and `objects` and `refs` exist.
fn is_git_dir(dir: &Path) -> bool {
    let head = dir.join("HEAD");
    let is_head = match fs::read_link(&head) {
        Ok(target) => target.as_os_str().as_bytes().starts_with(b"refs/"),
        Err(_) => plain::read(&head, MAX_LINE).ok().flatten().is_some_and(|text| {
            text.starts_with(b"ref: refs/") || text.iter().take_while(|byte| byte.is_ascii_hexdigit()).count() >= 40
        }),
    };
    let common = || common_dir(dir).unwrap_or_else(|_| dir.to_owned());
    is_head && {
        let common = common();
        common.join("objects").is_dir() && common.join("refs").is_dir()
    }
}

fn real(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).with_context(|| format!("failed to find {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::process::Invocation;

    struct Dir(tempfile::TempDir);

    impl Dir {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, relative: &str) -> PathBuf {
            fs::canonicalize(self.0.path()).unwrap().join(relative)
        }

        fn git(&self, args: &[&str]) {
            let git = Invocation::new("git").args(["-c", "user.name=me", "-c", "user.email=me@example.invalid"]);
            git.args(args).env("GIT_CONFIG_GLOBAL", "/dev/null").cwd(self.path("")).checked().unwrap();
        }

        fn repository(&self, name: &str) {
            self.git(&["init", "--quiet", name]);
            self.git(&["-C", name, "commit", "--quiet", "--allow-empty", "--message", "x"]);
        }

        fn found(&self, dir: &str) -> Place {
            discover(&self.path(dir)).unwrap().unwrap()
        }

        fn refused(&self, dir: &str) -> String {
            discover(&self.path(dir)).unwrap_err().to_string()
        }

        /// Returns the common directory that plain git finds.
        fn git_finds(&self, dir: &str) -> PathBuf {
            let git = Invocation::new("git").args(["rev-parse", "--path-format=absolute", "--git-common-dir"]);
            git.cwd(self.path(dir)).read().unwrap().into()
        }
    }

    #[test]
    fn every_legitimate_layout_is_found() {
        let dir = Dir::new();
        assert_eq!(discover(&dir.path("")).unwrap(), None);
        dir.repository("main");
        fs::create_dir_all(dir.path("main/a/b")).unwrap();
        let common = dir.path("main/.git");
        let main = Place { git_dir: common.clone(), common_dir: common.clone(), work_tree: Some(dir.path("main")) };
        for below in ["main", "main/a/b", "main/.git", "main/.git/refs"] {
            assert_eq!(dir.found(below), main, "{below}");
        }
        dir.git(&["-C", "main", "worktree", "add", "--quiet", "../linked"]);
        let linked = dir.found("linked");
        assert_eq!((&linked.git_dir, &linked.common_dir), (&common.join("worktrees/linked"), &common));
        assert_eq!(dir.found("main/.git/worktrees/linked").common_dir, common);

        dir.git(&["clone", "--quiet", "--bare", "main", "store.git"]);
        assert_eq!(dir.found("store.git/objects").git_dir, dir.path("store.git"));
        dir.git(&["clone", "--quiet", "--bare", "main", "project/.bare"]);
        fs::write(dir.path("project/.git"), "gitdir: ./.bare\n").unwrap();
        dir.git(&["-C", "project", "worktree", "add", "--quiet", "tree"]);
        for below in ["project", "project/.bare", "project/tree"] {
            assert_eq!(dir.found(below).common_dir, dir.path("project/.bare"), "{below}");
        }
        dir.git(&["init", "--quiet", "--separate-git-dir", "kept", "separate"]);
        assert_eq!(dir.found("separate").git_dir, dir.path("kept"));
        dir.git(&[
            "-c",
            "protocol.file.allow=always",
            "-C",
            "main",
            "submodule",
            "--quiet",
            "add",
            "../store.git",
            "sub",
        ]);
        assert_eq!(dir.found("main/sub").git_dir, common.join("modules/sub"));
        assert_eq!(dir.found("main/.git/modules/sub").git_dir, common.join("modules/sub"));
    }

    #[test]
    fn a_repository_elsewhere_is_refused() {
        let dir = Dir::new();
        dir.repository("private");
        dir.git(&["-C", "private", "worktree", "add", "--quiet", "../linked"]);
        dir.git(&["clone", "--quiet", "--bare", "private", "private.git"]);
        fs::create_dir(dir.path("hostile")).unwrap();
        let dot_git = dir.path("hostile/.git");
        for pointer in ["../private/.git", "../private/.git/worktrees/linked", "../private.git"] {
            fs::write(&dot_git, format!("gitdir: {pointer}\n")).unwrap();
            assert!(dir.git_finds("hostile").starts_with(dir.path("")), "control");
            assert!(dir.refused("hostile").contains("does not name this directory"), "{pointer}");
        }
        fs::remove_file(&dot_git).unwrap();
        symlink("../private/.git", &dot_git).unwrap();
        assert!(dir.refused("hostile").contains("does not name this directory"));
        fs::remove_file(&dot_git).unwrap();
        dir.git(&["init", "--quiet", "hostile"]);
        fs::write(dot_git.join("commondir"), "../../private/.git\n").unwrap();
        assert_eq!(dir.git_finds("hostile"), dir.path("private/.git"), "control");
        assert!(dir.refused("hostile").contains("does not name this directory"));
    }

    #[test]
    fn a_bare_repository_in_a_checkout_is_refused() {
        let dir = Dir::new();
        dir.repository("app");
        dir.git(&["clone", "--quiet", "--bare", "app", "app/docs"]);
        assert_eq!(dir.git_finds("app/docs"), dir.path("app/docs"), "control");
        assert!(dir.refused("app/docs").contains("looks like a bare repository"));
        assert!(dir.refused("app/docs/refs").contains("looks like a bare repository"));
    }

    #[test]
    fn fifos_do_not_block() {
        let dir = Dir::new();
        for name in ["a/.git", "b/HEAD"] {
            let path = dir.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        }
        assert!(discover(&dir.path("a")).is_err());
        assert_eq!(discover(&dir.path("b")).unwrap(), None);
    }
}
