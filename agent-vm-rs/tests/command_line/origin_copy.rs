//! `origin` of a workspace is a copy that belongs to the machine: git's commands work with it, and what is pushed there is
//! fetched and kept like any other commit.

use std::fs;
use std::path::{Path, PathBuf};

use crate::kept_work::{Kept, fetched, keeps};
use crate::support::{Site, tree};

/// Runs git as the machine does, in which the workspace has another path.
fn inside(site: &Site, workspace: &Path, args: &[&str]) -> String {
    let path = format!("url.file://{}/.insteadOf=file:///workspace/", workspace.display());
    site.git_in(workspace, &[&["-c", &path], args].concat())
}

fn machine() -> (Site, PathBuf) {
    let site = Site::new();
    site.git(&["branch", "other"]);
    site.git(&["tag", "v1"]);
    site.create("main");
    let workspace = site.machine("app-main").join("workspace");
    (site, workspace)
}

#[test]
fn git_works_with_origin_inside() {
    let (site, workspace) = machine();
    let head = site.git(&["rev-parse", "main"]);
    let before = tree(&site.repo());
    assert_eq!(inside(&site, &workspace, &["status", "--short", "--branch"]), "## main...origin/main");
    assert!(inside(&site, &workspace, &["ls-remote", "origin"]).contains(&format!("{head}\trefs/heads/main")));
    inside(&site, &workspace, &["fetch", "--quiet"]);
    inside(&site, &workspace, &["pull", "--quiet"]);
    let commit = site.commit_in(&workspace, "work", "x");
    inside(&site, &workspace, &["push", "--quiet", "origin", "main"]);
    inside(&site, &workspace, &["checkout", "--quiet", "-b", "topic"]);
    // A new branch needs no option.
    inside(&site, &workspace, &["push", "--quiet"]);
    assert_eq!(inside(&site, &workspace, &["status", "--short", "--branch"]), "## topic...origin/topic");
    assert!(inside(&site, &workspace, &["ls-remote", "origin", "main"]).starts_with(&commit));
    assert_eq!(tree(&site.repo()), before, "the source repository did not change");
}

/// The copy has what the machine got, and shares the objects' files.
#[test]
fn the_copy_has_nothing_else_of_the_source() {
    let (site, workspace) = machine();
    let refs = site.git_in(workspace.join(".git/origin.git"), &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, "refs/heads/main\nrefs/tags/v1");
    use std::os::unix::fs::MetadataExt as _;
    let packs = fs::read_dir(workspace.join(".git/origin.git/objects/pack")).unwrap().flatten();
    assert!(packs.map(|pack| pack.metadata().unwrap().nlink()).all(|links| links == 2));
    site.run(&["create", "--branch", "all", "--all-branches"]).ok();
    let copy = site.machine("app-all").join("workspace/.git/origin.git");
    assert!(site.git_in(&copy, &["for-each-ref", "--format=%(refname)"]).contains("refs/heads/other"));
    site.git_in(&copy, &["fsck", "--strict"]);
}

#[test]
fn what_was_pushed_is_fetched() {
    let (site, workspace) = machine();
    let commit = site.commit_in(&workspace, "work", "x");
    inside(&site, &workspace, &["push", "--quiet"]);
    inside(&site, &workspace, &["reset", "--quiet", "--hard", "HEAD~1"]);
    assert_eq!(site.run(&["status", "--json"]).ok().json()["workspace"]["git"]["new_commits"], 1);
    site.run(&["fetch"]).ok().prints("refs/agent-vm/app-main/origin/heads/main");
    assert_eq!(site.git(&["rev-parse", "refs/agent-vm/app-main/origin/heads/main"]), commit);
    site.run(&["fetch"]).ok().prints("nothing new");
    site.run(&["log", "--json"]).ok().prints(&commit);
    site.run(&["merge", "--ref", "origin/heads/main"]).ok();
    assert_eq!(site.git(&["rev-parse", "HEAD"]), commit);
}

#[test]
fn what_was_pushed_is_kept() {
    // Pushed, and no longer in the workspace's own repository.
    let pushed = |site: &Site, workspace: &Path| {
        let commit = site.commit_in(workspace, "work", "x");
        inside(site, workspace, &["push", "--quiet", "origin", "main:pushed"]);
        inside(site, workspace, &["reset", "--quiet", "--hard", "HEAD~1"]);
        inside(site, workspace, &["update-ref", "-d", "refs/remotes/origin/pushed"]);
        inside(site, workspace, &["reflog", "expire", "--expire=now", "--all"]);
        inside(site, workspace, &["gc", "--quiet", "--prune=now"]);
        commit
    };
    keeps("pushed", Kept::Bundle, |shape| vec![pushed(shape.site, &shape.workspace)]);
    // No reference of the copy leads to it any more.
    keeps("pushed and deleted", Kept::Bundle, |shape| {
        let commit = pushed(shape.site, &shape.workspace);
        inside(shape.site, &shape.workspace, &["push", "--quiet", "origin", ":pushed"]);
        vec![commit]
    });
    // What git does not write there.
    keeps("hidden in the copy", Kept::Workspace, |shape| {
        let commit = shape.commit("x");
        shape.git(&["bundle", "create", "--quiet", ".git/origin.git/x.bundle", "main"]);
        vec![commit]
    });
    // Control: without new commits, nothing is kept.
    let (site, workspace) = machine();
    inside(&site, &workspace, &["push", "--quiet", "origin", "main:again"]);
    site.run(&["destroy", "--yes"]).ok();
    assert!(site.kept().is_empty());
}

/// A bundle has the name of what was pushed.
#[test]
fn a_bundle_names_what_was_pushed() {
    let (site, workspace) = machine();
    let commit = site.commit_in(&workspace, "work", "x");
    inside(&site, &workspace, &["push", "--quiet", "origin", "main:pushed"]);
    site.run(&["destroy", "--yes"]).ok();
    let kept = site.kept();
    let repository = fetched(&site, &kept[0]);
    let listed = site.git_in(repository, &["for-each-ref", "--format=%(refname) %(objectname)"]);
    assert!(listed.contains(&format!("refs/kept/agent-vm-origin/heads/pushed {commit}")), "{listed}");
}

/// The guest replaces the copy by something else.
#[test]
fn a_hostile_copy_is_not_followed() {
    let site = Site::new();
    if crate::support::which("bwrap").is_some() {
        site.restore("bwrap");
    }
    let (workspace, _) = site.create_with_work();
    let private = site.path("private");
    site.git(&["clone", "--quiet", "--bare", ".", private.to_str().unwrap()]);
    let secret = site
        .git_in(&private, &["-c", "user.name=x", "-c", "user.email=x@y", "commit-tree", "-m", "secret", "main^{tree}"]);
    site.git_in(&private, &["update-ref", "refs/heads/secret", &secret]);
    let copy = workspace.join(".git/origin.git");
    let alternates = copy.join("objects/info/alternates");
    fs::create_dir_all(alternates.parent().unwrap()).unwrap();
    fs::write(&alternates, format!("{}\n", private.join("objects").display())).unwrap();
    fs::write(copy.join("packed-refs"), format!("{secret} refs/heads/secret\n")).unwrap();
    // Control: git in the copy follows it.
    site.git_in(&copy, &["rev-list", "secret"]);
    site.run(&["fetch"]).exits(1).gives_one_error();
    fs::remove_dir_all(&copy).unwrap();
    std::os::unix::fs::symlink(&private, &copy).unwrap();
    site.run(&["fetch"]).exits(1).gives_one_error();
    let has = site.command("git").args(["cat-file", "-e", &secret]).status().unwrap();
    assert!(!has.success());
    site.run(&["destroy", "--yes"]).ok().says("is kept whole in");
}
