//! `create` from partial clones: missing objects are fetched from the remote that has them.

use std::fs;
use std::path::PathBuf;

use crate::support::{Site, which};

/// Makes `app` a remote with some history and `part`, a clone of it with these arguments.
fn part(args: &[&str]) -> (Site, PathBuf) {
    let site = Site::new();
    for version in 1..=3 {
        fs::create_dir_all(site.path(format!("app/dir{version}"))).unwrap();
        site.write("app/changing", format!("{version}\n"));
        site.commit(&format!("dir{version}/file"), &format!("of {version}\n"));
    }
    site.git(&["branch", "other", "HEAD~1"]);
    site.git(&["tag", "--annotate", "--message=x", "v1", "HEAD~2"]);
    site.git(&["config", "uploadpack.allowFilter", "true"]);
    let url = format!("file://{}", site.repo().display());
    site.git(&[&["clone", "--quiet"], args, &[&url, "../part"]].concat());
    let part = site.path("part");
    site.git_in(&part, &["config", "user.name", "Test"]);
    site.git_in(&part, &["config", "user.email", "test@example.invalid"]);
    (site, part)
}

/// Returns how many objects of these references a repository lacks.
fn lacks(site: &Site, part: &PathBuf, tips: &[&str]) -> usize {
    let list = [&["rev-list", "--objects", "--missing=print", "--quiet"], tips].concat();
    site.git_in(part, &list).lines().count()
}

#[test]
fn missing_objects_are_fetched_first() {
    for (args, shallow) in [
        (&["--filter=blob:none"][..], false),
        (&["--filter=blob:none", "--no-checkout"], false),
        (&["--filter=tree:0"], false),
        (&["--filter=blob:limit=1"], false),
        (&["--filter=blob:none", "--depth=2"], true),
        (&["--filter=blob:none", "--sparse"], false),
        (&["--filter=tree:0", "--bare"], false),
    ] {
        let (site, part) = part(args);
        // Control.
        assert!(lacks(&site, &part, &["HEAD"]) > 0, "{args:?}");
        let done = site.run_in(&part, &["create"]).ok();
        done.says("is a partial clone; fetching").says(&format!("from file://{}", site.repo().display()));
        let workspace = site.machine("part-main").join("workspace");
        site.git_in(&workspace, &["fsck", "--strict", "--no-dangling"]);
        assert_eq!(site.git_in(&workspace, &["status", "--porcelain"]), "", "{args:?}");
        assert_eq!(site.git_in(&workspace, &["rev-parse", "HEAD"]), site.git(&["rev-parse", "HEAD"]));
        assert_eq!(fs::read_to_string(workspace.join("dir3/file")).unwrap(), "of 3\n");
        let commits = if shallow { "2" } else { "5" };
        assert_eq!(site.git_in(&workspace, &["rev-list", "--count", "HEAD"]), commits, "{args:?}");
        assert_eq!(lacks(&site, &workspace, &["--all"]), 0);
        let config = fs::read_to_string(workspace.join(".git/config")).unwrap();
        assert!(!config.contains("promisor") && !config.contains("agent-vm-remote"), "{config}");
        // The source has them too, and git still knows that it is a partial clone.
        assert_eq!(lacks(&site, &part, &["HEAD"]), 0, "{args:?}");
        site.git_in(&part, &["fsck"]);
        site.run_in(&part, &["create", "--branch", "again"]).ok().does_not_say("partial clone");
    }
}

/// Every command works with the source afterwards.
#[test]
fn work_is_fetched_and_pushed_with_a_partial_source() {
    let (site, part) = part(&["--filter=blob:none"]);
    site.run_in(&part, &["create"]).ok();
    let workspace = site.machine("part-main").join("workspace");
    let work = site.commit_in(&workspace, "work", "x");
    site.run_in(&part, &["fetch"]).ok();
    site.run_in(&part, &["diff", "--stat"]).ok().prints("work");
    site.run_in(&part, &["merge"]).ok();
    assert_eq!(site.git_in(&part, &["rev-parse", "HEAD"]), work);
    site.run_in(&part, &["destroy"]).ok();
    assert!(site.kept().is_empty());
}

#[test]
fn all_branches_are_filled_if_all_are_copied() {
    let (site, part) = part(&["--filter=tree:0"]);
    site.run_in(&part, &["create", "--all-branches"]).ok();
    let workspace = site.machine("part-main").join("workspace");
    assert_eq!(lacks(&site, &workspace, &["--all"]), 0);
    assert_eq!(site.git_in(&workspace, &["rev-parse", "v1^{}"]), site.git(&["rev-parse", "HEAD~2"]));
}

/// The error names a command that works.
#[test]
fn objects_that_cannot_be_fetched_are_one_error() {
    let (site, part) = part(&["--filter=blob:none", "--no-checkout"]);
    let url = site.git_in(&part, &["config", "remote.origin.url"]);
    for (wrong, why) in [
        ("ext::sh -c id", "its remote has no https, ssh or file URL: ext::sh -c id"),
        ("http://host.invalid/r", "its remote has no https, ssh or file URL"),
        ("file:///nowhere", "/nowhere is no repository"),
        ("https://127.0.0.1:1/r", "failed to fetch from https://127.0.0.1:1/r"),
        ("https://me:se%20cret@127.0.0.1:1/r", "failed to fetch from https://127.0.0.1:1/r"),
    ] {
        site.git_in(&part, &["config", "remote.origin.url", wrong]);
        let done = site.run_in(&part, &["create"]).exits(1).gives_one_error().says(why).does_not_say("cret");
        done.says(&format!("{} is a partial clone that lacks ", part.display()))
            .says(&format!("hint: git -C {} fetch --refetch --no-filter origin", part.display()));
        site.assert_nothing_left();
    }
    site.git_in(&part, &["config", "remote.origin.url", &url]);
    site.git_in(&part, &["fetch", "--quiet", "--refetch", "--no-filter", "origin"]);
    site.git_in(&part, &["config", "remote.origin.url", "http://host.invalid/r"]);
    site.run_in(&part, &["create"]).ok();
}

/// A remote in the state directory may be a workspace, whose objects the guest wrote.
#[test]
fn a_workspace_is_no_remote_of_a_partial_clone() {
    let (site, part) = part(&["--filter=blob:none", "--no-checkout"]);
    site.create("main");
    let workspace = site.machine("app-main").join("workspace");
    site.git_in(&part, &["config", "remote.origin.url", workspace.to_str().unwrap()]);
    site.run_in(&part, &["create"]).exits(1).gives_one_error().says("uses objects of a machine");
    // Control: the same repository elsewhere.
    site.git_in(&workspace, &["clone", "--quiet", ".", site.path("copy").to_str().unwrap()]);
    site.git_in(&part, &["config", "remote.origin.url", "../copy"]);
    site.run_in(&part, &["create"]).ok();
}

/// Only the URL of the remote is used, and the user's own configuration.
#[test]
fn the_configuration_of_a_partial_clone_names_no_program() {
    let (site, part) = part(&["--filter=blob:none", "--no-checkout"]);
    let ran = site.path("ran");
    site.script("marker", &format!("echo \"$@\" >> '{}'; exit 1", ran.display()));
    let marker = site.path("marker").display().to_string();
    let url = site.git_in(&part, &["config", "remote.origin.url"]);
    for (key, value) in [
        ("remote.origin.uploadpack", marker.as_str()),
        ("core.sshCommand", &marker),
        ("core.askPass", &marker),
        ("core.gitProxy", &marker),
        ("core.alternateRefsCommand", &marker),
        ("credential.helper", &marker),
        ("uploadpack.packObjectsHook", &marker),
        ("remote.origin.vcs", "marker"),
        ("url.ext::marker.insteadOf", "https:"),
    ] {
        site.git_in(&part, &["config", key, value]);
    }
    // Control: git runs it.
    site.git_in(&part, &["config", "remote.origin.url", "ssh://host.invalid/r"]);
    site.git_in(&part, &["config", "--unset", "remote.origin.vcs"]);
    let git = which("git").unwrap();
    assert!(!site.command(&git).args(["fetch"]).current_dir(&part).output().unwrap().status.success());
    assert!(ran.exists());
    fs::remove_file(&ran).unwrap();
    site.stand_in("ssh", "echo \"$@\" > \"$TMPDIR/ssh\"; exit 1");
    site.run_in(&part, &["create"]).exits(1).gives_one_error().says("failed to fetch from ssh://host.invalid/r");
    assert!(site.read("tmp/ssh").contains("host.invalid"), "{}", site.read("tmp/ssh"));
    assert!(!ran.exists());
    site.git_in(&part, &["config", "remote.origin.url", &url]);
    site.git_in(&part, &["config", "remote.origin.vcs", "marker"]);
    // The other repository names programs, too.
    for key in ["uploadpack.packObjectsHook", "core.fsmonitor", "core.alternateRefsCommand"] {
        site.git(&["config", key, &marker]);
    }
    site.run_in(&part, &["create"]).ok();
    assert!(!ran.exists());
}

/// The user's credential helper and rewritten URLs apply, since the source is the user's.
#[test]
fn the_users_own_configuration_reaches_the_remote() {
    let (site, part) = part(&["--filter=blob:none", "--no-checkout"]);
    site.stand_in("ssh", "echo \"$@\" > \"$TMPDIR/ssh\"; exit 1");
    site.git_in(&part, &["config", "remote.origin.url", "mine:r.git"]);
    site.write("home/.gitconfig", "[url \"ssh://me@host.invalid/\"]\n\tinsteadOf = mine:\n");
    site.run_in(&part, &["create"]).exits(1).gives_one_error();
    assert!(site.read("tmp/ssh").contains("me@host.invalid git-upload-pack '/r.git'"), "{}", site.read("tmp/ssh"));
}
