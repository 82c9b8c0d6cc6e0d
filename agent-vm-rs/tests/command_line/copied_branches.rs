//! Which branches, tags and objects of a repository a machine gets.

use std::fs;

use crate::support::Site;

/// `app` has a remote with the default branch `trunk`; `feature` follows `origin/feature`; `secret` is on no remote.
struct Branches {
    feature: String,
    upstream: String,
    trunk: String,
    secret: String,
    other: String,
}

fn branches(site: &Site) -> Branches {
    let on = |branch: &str, from: &str, file: &str| {
        site.git(&["checkout", "--quiet", "-B", branch, from]);
        site.commit(file, file)
    };
    let trunk = on("trunk", "main", "of-trunk");
    let other = on("other", "main", "of-other");
    let upstream = on("feature", "main", "of-upstream");
    site.git(&["checkout", "--quiet", "trunk"]);
    site.git(&["clone", "--quiet", "--bare", ".", "../remote.git"]);
    site.git(&["remote", "add", "origin", "../remote.git"]);
    site.git(&["fetch", "--quiet", "origin"]);
    site.git(&["remote", "set-head", "origin", "trunk"]);
    site.git(&["branch", "--quiet", "--set-upstream-to=origin/feature", "feature"]);
    site.git(&["branch", "--quiet", "-D", "other"]);
    let secret = on("secret", "main", "of-secret");
    site.git(&["tag", "--annotate", "--message=x", "secret-tag"]);
    site.git(&["update-ref", "refs/notes/commits", "HEAD"]);
    let feature = on("feature", "main", "of-feature");
    site.git(&["tag", "v1", "main"]);
    site.git(&["tag", "--annotate", "--message=x", "v2", "feature"]);
    Branches { feature, upstream, trunk, secret, other }
}

fn references(site: &Site, machine: &str) -> Vec<String> {
    let workspace = site.machine(machine).join("workspace");
    let listed = site.git_in(workspace, &["for-each-ref", "--format=%(refname)"]);
    listed.lines().map(str::to_owned).collect()
}

fn has(site: &Site, machine: &str, commit: &str) -> bool {
    let workspace = site.machine(machine).join("workspace");
    let mut git = site.command(crate::support::which("git").unwrap());
    git.args(["cat-file", "-e", commit]).current_dir(workspace).output().unwrap().status.success()
}

#[test]
fn by_default_a_machine_gets_branch_upstream_and_default_branch() {
    let site = Site::new();
    let commits = branches(&site);
    site.run(&["create"]).ok();
    assert_eq!(
        references(&site, "app-feature"),
        [
            "refs/heads/feature",
            "refs/remotes/origin/HEAD",
            "refs/remotes/origin/feature",
            "refs/remotes/origin/trunk",
            "refs/remotes/upstream/feature",
            "refs/remotes/upstream/trunk",
            "refs/tags/v1",
            "refs/tags/v2",
        ]
    );
    for commit in [&commits.feature, &commits.upstream, &commits.trunk] {
        assert!(has(&site, "app-feature", commit));
    }
    for commit in [&commits.secret, &commits.other] {
        assert!(!has(&site, "app-feature", commit));
    }
    let workspace = site.machine("app-feature").join("workspace");
    let followed = site.git_in(&workspace, &["rev-parse", "--abbrev-ref", "@{upstream}"]);
    assert_eq!(followed, "origin/feature");
    let fetches = site.git_in(&workspace, &["config", "--get-all", "remote.origin.fetch"]);
    assert_eq!(fetches, "+refs/heads/*:refs/remotes/origin/*");
    assert!(!fs::read_to_string(workspace.join(".git/config")).unwrap().contains(".new-"));
}

#[test]
fn all_branches_copies_all_branches_and_tags() {
    let site = Site::new();
    let commits = branches(&site);
    site.run(&["create", "--all-branches"]).ok();
    // `push` sends them later.
    assert_eq!(site.settings("app-feature")["all_branches"], true);
    for commit in [&commits.feature, &commits.secret, &commits.other, &commits.trunk] {
        assert!(has(&site, "app-feature", commit));
    }
    let found = references(&site, "app-feature");
    for name in ["refs/remotes/origin/secret", "refs/remotes/upstream/other", "refs/tags/secret-tag"] {
        assert!(found.iter().any(|there| there == name), "{name} in {found:?}");
    }
    assert!(!found.iter().any(|name| name.starts_with("refs/notes") || name.starts_with("refs/agent-vm")), "{found:?}");
    site.write("settings.json", r#"{ "all_branches": true }"#);
    let settings = site.path("settings.json");
    site.run(&["create", "--branch", "secret", "--config", settings.to_str().unwrap()]).ok();
    assert!(has(&site, "app-secret", &commits.feature));
}

/// Unpushed commits of the local default branch do not go into machines of other branches.
#[test]
fn an_unpushed_default_branch_is_not_copied() {
    let site = Site::new();
    branches(&site);
    site.git(&["checkout", "--quiet", "trunk"]);
    let unpushed = site.commit("unpushed", "x");
    site.run(&["create", "--branch", "feature"]).ok();
    assert!(!has(&site, "app-feature", &unpushed));
    // The machine has what was pushed of it.
    let workspace = site.machine("app-feature").join("workspace");
    assert_eq!(site.git_in(&workspace, &["rev-parse", "origin/trunk"]), site.git(&["rev-parse", "origin/trunk"]));
}

/// A clone has only the checked-out branch as a local one.
#[test]
fn the_default_branch_is_there_without_a_local_one() {
    let site = Site::new();
    site.git(&["checkout", "--quiet", "-b", "feature"]);
    site.commit("of-feature", "x");
    site.git(&["checkout", "--quiet", "main"]);
    site.commit("of-main", "x");
    // Another name of the remote, another name of the upstream, and a second remote.
    site.git(&["clone", "--quiet", "--origin", "company", "--branch", "feature", ".", "../clone"]);
    let clone = site.path("clone");
    let git = |args: &[&str]| site.git_in(&clone, args);
    git(&["branch", "--quiet", "--move", "mine"]);
    git(&["remote", "add", "fork", "../app"]);
    git(&["fetch", "--quiet", "fork"]);
    git(&["checkout", "--quiet", "--no-track", "-b", "main/topic"]);
    for (branch, base) in [("mine", "origin/main"), ("unborn", "origin/main"), ("main/topic", "upstream/main")] {
        let made = site.run_in(&clone, &["create", "--json", "--branch", branch]).ok().json();
        let workspace = site.machine(made["name"].as_str().unwrap()).join("workspace");
        assert_eq!(site.git_in(&workspace, &["merge-base", base, "HEAD"]), site.git(&["rev-parse", "main~1"]));
        let url = site.git_in(&workspace, &["config", "remote.upstream.url"]);
        assert_eq!(url, git(&["config", "remote.company.url"]), "{branch}");
        site.git_in(workspace.join(".git/origin.git"), &["fsck", "--strict"]);
    }
    assert!(references(&site, "clone-mine").contains(&"refs/remotes/upstream/feature".to_owned()));
    // All branches are those of all remotes.
    site.run_in(&clone, &["create", "--branch", "all", "--all-branches"]).ok();
    let found = references(&site, "clone-all");
    for name in ["upstream/feature", "upstream/main", "fork/feature", "fork/main", "origin/mine"] {
        assert!(found.contains(&format!("refs/remotes/{name}")), "{name} in {found:?}");
    }
}

#[test]
fn signed_commits_are_a_notice() {
    let site = Site::new();
    let notice = "your commits are signed (commit.gpgSign), those in the machine are not";
    site.run(&["create"]).ok().does_not_say(notice);
    site.write("home/.gitconfig", "[commit]\n\tgpgSign\n");
    site.run(&["create", "--branch", "signed"]).ok().says(notice).says("agent-vm apply --sign");
    let workspace = site.machine("app-signed").join("workspace");
    assert!(!fs::read_to_string(workspace.join(".git/config")).unwrap().to_lowercase().contains("gpgsign"));
    site.git(&["config", "commit.gpgSign", "false"]);
    site.run(&["create", "--branch", "unsigned"]).ok().does_not_say(notice);
}

#[test]
fn new_and_remote_branches_get_only_their_own_commits() {
    let site = Site::new();
    let commits = branches(&site);
    site.run(&["create", "--branch", "new"]).ok();
    assert!(has(&site, "app-new", &commits.feature) && !has(&site, "app-new", &commits.secret));
    site.run(&["create", "--branch", "other"]).ok();
    assert!(has(&site, "app-other", &commits.other) && !has(&site, "app-other", &commits.feature));
    assert!(references(&site, "app-other").contains(&"refs/remotes/upstream/other".to_owned()));
}
