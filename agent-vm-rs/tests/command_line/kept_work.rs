//! Makes work in a workspace, destroys the machine, and checks that everything was kept.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Site, which};

/// A workspace, with ways to make commits in it.
pub struct Shape<'a> {
    pub site: &'a Site,
    pub workspace: PathBuf,
}

impl Shape<'_> {
    pub fn git(&self, args: &[&str]) -> String {
        self.site.git_in(&self.workspace, args)
    }

    pub fn commit(&self, what: &str) -> String {
        self.site.commit_in(&self.workspace, "work", what)
    }

    /// Makes a commit that no reference leads to.
    pub fn loose(&self, what: &str) -> String {
        let tree = self.git(&["rev-parse", "HEAD^{tree}"]);
        self.git(&["commit-tree", "-p", "HEAD", "-m", what, &tree])
    }

    pub fn write(&self, relative: &str, contents: &str) {
        let path = self.workspace.join(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    /// Makes a repository with one commit somewhere in the workspace; returns the commit.
    pub fn nested(&self, relative: &str, init: &[&str]) -> String {
        let dir = self.workspace.join(relative);
        fs::create_dir_all(&dir).unwrap();
        self.site.git_in(&dir, &[&["init", "--quiet", "--initial-branch=main"], init].concat());
        self.site.git_in(&dir, &["config", "user.name", "Test"]);
        self.site.git_in(&dir, &["config", "user.email", "test@example.invalid"]);
        let tree = self.site.git_in(&dir, &["hash-object", "-t", "tree", "-w", "/dev/null"]);
        let commit = self.site.git_in(&dir, &["commit-tree", "-m", "nested", &tree]);
        self.site.git_in(&dir, &["update-ref", "refs/heads/main", &commit]);
        commit
    }
}

/// What `destroy` keeps of a machine.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    Bundle,
    Workspace,
}

/// Runs `make` in a workspace, destroys the machine, and checks that every commit that `make` returned was kept.
#[track_caller]
pub fn keeps(name: &str, how: Kept, make: impl FnOnce(&Shape) -> Vec<String>) {
    let site = Site::new();
    site.create("main");
    let workspace = site.machine("app-main").join("workspace");
    let commits = make(&Shape { site: &site, workspace });
    assert!(!commits.is_empty(), "{name}");
    check_kept(&site, name, how, &commits);
}

/// Destroys the machine and checks that it keeps every commit, in a bundle or as a whole workspace.
#[track_caller]
pub fn check_kept(site: &Site, name: &str, how: Kept, commits: &[String]) {
    let done = site.run(&["destroy", "--yes"]).ok().says("removed app-main");
    assert!(site.names().is_empty(), "{name}");
    site.assert_nothing_left();
    let kept = site.kept();
    let [kept] = kept.as_slice() else { panic!("{name}: {kept:?}\n{}", done.stderr) };
    assert!(
        done.stderr.contains(&*kept.to_string_lossy()),
        "{name}: the message does not name the kept path: {}",
        done.stderr
    );
    // What is kept must not depend on the source.
    fs::remove_dir_all(site.repo().join(".git")).unwrap();
    let is_bundle = kept.extension() == Some(OsStr::new("bundle"));
    assert_eq!(if is_bundle { Kept::Bundle } else { Kept::Workspace }, how, "{name}: {}", done.stderr);
    // Fetching many references takes long; one of them leads to all commits.
    let what = if name == "many" { "refs/heads/zzz:refs/heads/zzz" } else { "refs/*:refs/kept/*" };
    let places = if is_bundle { vec![fetched_as(site, kept, what)] } else { repositories(kept) };
    let has = |commit: &String| places.iter().any(|place| has_commit(site, place, commit));
    let lost: Vec<_> = commits.iter().filter(|commit| !has(commit)).collect();
    assert!(lost.is_empty(), "{name}: lost {lost:?} of {commits:?}\n{}", done.stderr);
    // Control: an unknown commit is not found.
    assert!(!has(&"5".repeat(commits[0].len())), "{name}");
}

/// Fetches all references of a bundle into an empty repository; returns its path.
pub fn fetched(site: &Site, bundle: &Path) -> PathBuf {
    fetched_as(site, bundle, "refs/*:refs/kept/*")
}

fn fetched_as(site: &Site, bundle: &Path, what: &str) -> PathBuf {
    let empty = site.path("empty");
    fs::create_dir(&empty).unwrap();
    let format = fs::read(bundle).unwrap().windows(20).take(200).any(|bytes| bytes == b"object-format=sha256");
    let format = if format { "--object-format=sha256" } else { "--object-format=sha1" };
    site.git_in(&empty, &["init", "--quiet", "--bare", format]);
    site.git_in(&empty, &["bundle", "verify", "--quiet", bundle.to_str().unwrap()]);
    site.git_in(&empty, &["-c", "core.fsync=none", "fetch", "--quiet", bundle.to_str().unwrap(), what]);
    site.git_in(&empty, &["fsck", "--full", "--connectivity-only"]);
    empty
}

/// Returns every git directory in a kept workspace.
fn repositories(kept: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(kept).into_iter().flatten();
    entries.filter(|entry| entry.file_name() == "HEAD").map(|entry| entry.path().parent().unwrap().to_owned()).collect()
}

/// Returns whether a repository has a commit and everything that the commit leads to.
fn has_commit(site: &Site, git_dir: &Path, commit: &str) -> bool {
    let mut git = site.command(which("git").unwrap());
    git.arg("--git-dir").arg(git_dir).args(["rev-list", "--objects", "--quiet", commit]);
    git.output().unwrap().status.success()
}
