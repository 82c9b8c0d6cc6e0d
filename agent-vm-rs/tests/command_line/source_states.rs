//! `create` from repositories in the middle of something, and with unusual contents and references.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::support::{Site, which};

/// Runs git, which may fail, as with a conflict.
fn attempt(site: &Site, args: &[&str]) {
    site.command(which("git").unwrap()).args(args).output().unwrap();
}

/// Checks that a workspace is complete and clean, with this commit checked out.
fn is_whole(site: &Site, machine: &str, commit: &str) {
    let workspace = site.machine(machine).join("workspace");
    site.git_in(&workspace, &["fsck", "--strict", "--no-dangling"]);
    assert_eq!(site.git_in(&workspace, &["status", "--porcelain"]), "", "{machine}");
    assert_eq!(site.git_in(&workspace, &["rev-parse", "HEAD"]), commit, "{machine}");
    for state in ["MERGE_HEAD", "CHERRY_PICK_HEAD", "rebase-merge", "BISECT_LOG"] {
        assert!(!workspace.join(".git").join(state).exists(), "{machine} has {state}");
    }
}

#[test]
fn an_operation_in_progress_does_not_matter() {
    let site = Site::new();
    site.git(&["checkout", "--quiet", "-b", "topic", "HEAD~1"]);
    let topic = site.commit("second", "conflicting");
    let names = ["rebase", "merge", "cherry-pick", "bisect"];
    for (number, name) in names.into_iter().enumerate() {
        let (start, end): (&[&str], &[&str]) = match name {
            "rebase" => (&["rebase", "main"], &["rebase", "--abort"]),
            "merge" => (&["merge", "main"], &["merge", "--abort"]),
            "cherry-pick" => (&["cherry-pick", "main"], &["cherry-pick", "--abort"]),
            _ => (&["bisect", "start", "main", "main~1"], &["bisect", "reset"]),
        };
        attempt(&site, start);
        let status = site.git(&["status"]);
        assert!(
            ["rebase in progress", "unmerged paths", "cherry-picking", "bisecting"]
                .iter()
                .any(|word| status.contains(word)),
            "{status}"
        );
        if name == "rebase" {
            // HEAD is detached then.
            site.run(&["create"]).exits(1).gives_one_error().says("is detached");
        }
        site.run(&["create", "--branch", "main"]).ok();
        is_whole(&site, "app-main", &site.git(&["rev-parse", "main"]));
        site.run(&["destroy", "main"]).ok();
        site.run(&["create", "--branch", "topic"]).ok();
        is_whole(&site, "app-topic", &topic);
        site.run(&["destroy", "topic"]).ok();
        let new = format!("new{number}");
        site.run(&["create", "--branch", &new]).ok();
        is_whole(&site, &format!("app-{new}"), &site.git(&["rev-parse", "HEAD"]));
        attempt(&site, end);
        assert_eq!(site.git(&["rev-parse", "HEAD"]), topic, "{name}");
    }
}

#[test]
fn a_repository_without_commits_is_one_error() {
    let site = Site::new();
    fs::create_dir(site.path("empty")).unwrap();
    site.git_in(site.path("empty"), &["init", "--quiet"]);
    let done = site.run_in(site.path("empty"), &["create"]).exits(1).gives_one_error();
    done.says("has no commit yet").says("commit --allow-empty");
    site.assert_nothing_left();
}

#[test]
fn unusual_file_names_are_cloned() {
    let site = Site::new();
    for name in
        [&b"new\nline"[..], b"\xff\xfe", b"-x", "ü".as_bytes(), b" ", b"Case", b"case", b"a\tb", b"\"q\"", b"con.txt:x"]
    {
        fs::write(site.repo().join(OsStr::from_bytes(name)), name).unwrap();
    }
    let commit = site.commit("more", "x");
    site.run(&["create"]).ok();
    is_whole(&site, "app-main", &commit);
    let workspace = site.machine("app-main").join("workspace");
    assert_eq!(fs::read(workspace.join(OsStr::from_bytes(b"\xff\xfe"))).unwrap(), b"\xff\xfe");
    assert_eq!(fs::read(workspace.join("Case")).unwrap(), b"Case");
    assert_eq!(fs::read(workspace.join("new\nline")).unwrap(), b"new\nline");
    site.run(&["destroy"]).ok();
}

/// A local branch and branches of the remote have names of which one is a directory of the other; some are no UTF-8.
#[test]
fn references_with_unusual_names_are_cloned() {
    let site = Site::new();
    site.git(&["config", "remote.origin.url", "https://host.invalid/app"]);
    for name in
        ["refs/remotes/origin/x", "refs/heads/x/y", "refs/tags/x", "refs/remotes/origin/main/z", "refs/heads/-x"]
    {
        site.git(&["update-ref", name, "HEAD"]);
    }
    let mut update = site.command(which("git").unwrap());
    update.arg("update-ref").arg(OsStr::from_bytes(b"refs/heads/\xff")).arg("HEAD");
    assert!(update.status().unwrap().success());
    let commit = site.git(&["rev-parse", "HEAD"]);
    site.run(&["create", "--all-branches"]).ok();
    is_whole(&site, "app-main", &commit);
    let workspace = site.machine("app-main").join("workspace");
    let listed =
        site.command(which("git").unwrap()).arg("for-each-ref").current_dir(&workspace).output().unwrap().stdout;
    for name in [
        &b"refs/remotes/origin/x/y"[..],
        b"refs/remotes/upstream/x",
        b"refs/remotes/upstream/main/z",
        b"refs/remotes/origin/\xff",
        b"refs/remotes/origin/-x",
    ] {
        assert!(listed.windows(name.len()).any(|part| part == name), "{}", String::from_utf8_lossy(name));
    }
    for branch in ["x/y", "x", "main/z"] {
        let machine = site.create(branch);
        is_whole(&site, &machine, &commit);
    }
}

#[test]
fn sparse_work_trees_are_whole_in_the_machine() {
    let site = Site::new();
    for dir in ["a", "b"] {
        fs::create_dir(site.path(format!("app/{dir}"))).unwrap();
        site.write(format!("app/{dir}/file"), dir);
    }
    let commit = site.commit("more", "x");
    for (number, set) in [&["--no-cone", "/a/*"][..], &["--cone", "a"]].into_iter().enumerate() {
        site.git(&[&["sparse-checkout", "set"], set].concat());
        assert!(!site.path("app/b").exists(), "control");
        let branch = format!("new{number}");
        site.run(&["create", "--branch", &branch, "--dirty"]).ok().does_not_say("uncommitted");
        is_whole(&site, &format!("app-{branch}"), &commit);
        assert!(site.machine(&format!("app-{branch}")).join("workspace/b/file").exists());
    }
}

#[test]
fn a_shallow_clone_is_cloned_whatever_the_user_rejects() {
    let site = Site::new();
    let url = format!("file://{}", site.repo().display());
    site.git(&["clone", "--quiet", "--depth=1", &url, "../shallow"]);
    site.write("home/.gitconfig", "[clone]\n\trejectShallow = true\n[fetch]\n\tfsckObjects = true\n");
    site.run_in(site.path("shallow"), &["create"]).ok();
    is_whole(&site, "shallow-main", &site.git(&["rev-parse", "HEAD"]));
    assert_eq!(site.git_in(site.machine("shallow-main").join("workspace"), &["rev-list", "--count", "HEAD"]), "1");
}

/// A machine of a linked work tree of a `.bare` repository is named after the directory of both.
#[test]
fn a_bare_repository_beside_its_work_trees_is_named_after_their_directory() {
    let site = Site::new();
    fs::create_dir(site.path("project")).unwrap();
    site.git(&["clone", "--quiet", "--bare", ".", "../project/.bare"]);
    site.write("project/.git", "gitdir: ./.bare\n");
    site.git_in(site.path("project"), &["worktree", "add", "--quiet", "-b", "tree", "tree"]);
    site.run_in(site.path("project/tree"), &["create"]).ok();
    is_whole(&site, "project-tree", &site.git(&["rev-parse", "HEAD"]));
    site.run_in(site.path("project"), &["destroy", "tree"]).ok();
}

#[test]
fn a_path_with_a_newline_is_cloned() {
    let site = Site::new();
    site.git(&["clone", "--quiet", ".", "../new\nline"]);
    let dir = site.root().join(Path::new("new\nline"));
    let made = site.run_in(&dir, &["create", "--json"]).ok().json();
    is_whole(&site, made["name"].as_str().unwrap(), &site.git(&["rev-parse", "HEAD"]));
    site.run_in(&dir, &["destroy"]).ok();
}
