//! `create` from repositories in every form that git supports.

use std::fs;

use crate::support::{Done, Site, which};

/// Runs `create` in a directory and checks that the workspace is complete and clean.
fn creates(site: &Site, dir: &str, machine: &str, args: &[&str]) -> Done {
    let done = site.run_in(site.path(dir), &[&["create"], args].concat()).ok();
    let workspace = site.machine(machine).join("workspace");
    site.git_in(&workspace, &["fsck", "--strict", "--no-dangling"]);
    assert_eq!(site.git_in(&workspace, &["status", "--porcelain"]), "", "{dir}");
    assert!(!workspace.join(".git/reftable").exists() && workspace.join(".git").is_dir(), "{dir}");
    done
}

/// Makes a repository beside `app` with these arguments of `git init`; returns false if git does not know them.
fn init(site: &Site, name: &str, args: &[&str]) -> bool {
    let mut git = site.command(which("git").unwrap());
    if !git
        .args(["init", "--quiet", "--initial-branch=main"])
        .args(args)
        .arg(site.path(name))
        .status()
        .unwrap()
        .success()
    {
        return false;
    }
    site.git_in(site.path(name), &["config", "user.name", "Test"]);
    site.git_in(site.path(name), &["config", "user.email", "test@example.invalid"]);
    site.commit_in(site.path(name), "file", "x");
    true
}

#[test]
fn formats_of_objects_and_references_are_cloned() {
    let site = Site::new();
    assert!(init(&site, "sha256", &["--object-format=sha256"]));
    creates(&site, "sha256", "sha256-main", &[]);
    assert_eq!(site.git_in(site.machine("sha256-main").join("workspace"), &["rev-parse", "HEAD"]).len(), 64);
    site.git(&["pack-refs", "--all"]);
    site.git(&["gc", "--quiet"]);
    creates(&site, "app", "app-main", &[]);
    if !init(&site, "tables", &["--ref-format=reftable"]) {
        crate::support::skip("this git supports only one format of references");
        return;
    }
    creates(&site, "tables", "tables-main", &[]);
    site.git_in(site.path("tables"), &["worktree", "add", "--quiet", "-b", "linked", "../linked"]);
    creates(&site, "linked", "tables-linked", &[]);
    site.git_in(site.path("linked"), &["checkout", "--quiet", "--detach"]);
    site.run_in(site.path("linked"), &["create"]).exits(1).gives_one_error().says("is detached");
    creates(&site, "linked", "tables-new", &["--branch", "new"]);
    site.run_in(site.path("tables"), &["status", "linked"]).ok().prints("VM Status: tables-linked");
    site.run_in(site.path("tables"), &["destroy", "linked"]).ok();
}

#[test]
fn separate_git_directories_are_cloned() {
    let site = Site::new();
    let kept = site.path("kept");
    assert!(init(&site, "separate", &["--separate-git-dir", kept.to_str().unwrap()]));
    creates(&site, "separate", "kept-main", &[]).says("keeps its git directory in");
    fs::create_dir(site.path("project")).unwrap();
    site.git(&["clone", "--quiet", "--bare", ".", "../project/.bare"]);
    site.write("project/.git", "gitdir: ./.bare\n");
    site.git_in(site.path("project"), &["worktree", "add", "--quiet", "-b", "tree", "tree"]);
    let made = site.run_in(site.path("project/tree"), &["create", "--json"]).ok().json();
    site.run_in(site.path("project"), &["status", "tree"]).ok().prints(made["name"].as_str().unwrap());
    // The repository no longer names a worktree that was moved.
    site.git(&["worktree", "add", "--quiet", "-b", "moved", "../linked"]);
    fs::rename(site.path("linked"), site.path("elsewhere")).unwrap();
    site.run_in(site.path("elsewhere"), &["create"]).exits(1).gives_one_error().says("git worktree repair");
    site.git(&["worktree", "repair", site.path("elsewhere").to_str().unwrap()]);
    creates(&site, "elsewhere", "app-moved", &[]);
}

#[test]
fn shallow_and_broken_histories_are_cloned() {
    let site = Site::new();
    let url = format!("file://{}", site.repo().display());
    site.git(&["clone", "--quiet", "--depth=1", &url, "../shallow"]);
    creates(&site, "shallow", "shallow-main", &[]);
    // Broken references belong to other branches and do not matter.
    site.write("app/.git/refs/heads/broken", format!("{}\n", "1".repeat(40)));
    site.write("app/.git/refs/tags/broken", format!("{}\n", "2".repeat(40)));
    site.git(&["symbolic-ref", "refs/heads/dangling", "refs/heads/none"]);
    creates(&site, "app", "app-main", &[]);
    assert_eq!(site.run(&["status", "--json"]).ok().json()["problems"], serde_json::json!([]));
    site.run(&["create", "--branch", "broken"]).exits(1).gives_one_error();
    site.assert_nothing_left();
}

#[test]
fn split_and_sparse_indexes_are_read() {
    let site = Site::new();
    fs::create_dir(site.path("app/dir")).unwrap();
    site.commit("dir/file", "x");
    site.git(&["update-index", "--split-index"]);
    site.write("app/dir/new", "x");
    creates(&site, "app", "app-main", &[]).says("not copied into the machine: 1 uncommitted change in");
    site.git(&["update-index", "--no-split-index"]);
    fs::remove_file(site.path("app/dir/new")).unwrap();
    site.git(&["sparse-checkout", "set", "--cone", "--sparse-index", "none"]);
    assert!(!site.path("app/dir").exists(), "control");
    creates(&site, "app", "app-new", &["--branch", "new"]).does_not_say("uncommitted");
    assert!(site.machine("app-new").join("workspace/dir/file").exists());
}

#[test]
fn paths_with_special_characters_are_cloned() {
    let site = Site::new();
    for name in ["a b%41", "ü#?", "\"quoted\"", "back\\slash", "#x"] {
        assert!(init(&site, name, &[]));
        let made = site.run_in(site.path(name), &["create", "--json"]).ok().json();
        let workspace = site.machine(made["name"].as_str().unwrap()).join("workspace");
        assert_eq!(fs::read_to_string(workspace.join("file")).unwrap(), "x", "{name}");
        site.git_in(&workspace, &["fsck", "--strict"]);
    }
}

/// Git refuses another user's repository, unless the user's configuration lists it.
#[test]
fn a_repository_of_another_user_needs_safe_directory() {
    if !rustix::process::geteuid().is_root() {
        crate::support::skip("only root can give a repository to another user");
        return;
    }
    let site = Site::new();
    for file in walkdir::WalkDir::new(site.repo()).into_iter().flatten() {
        std::os::unix::fs::lchown(file.path(), Some(12345), Some(12345)).unwrap();
    }
    site.run(&["create"]).exits(1).gives_one_error().says("dubious ownership").says("safe.directory");
    site.write("home/.gitconfig", format!("[safe]\n\tdirectory = {}\n", site.repo().display()));
    creates(&site, "app", "app-main", &[]);
    site.run(&["destroy"]).ok();
}
