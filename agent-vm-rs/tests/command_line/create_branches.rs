//! Which branch and repository a machine belongs to, and that no branch name leads out of the state directory.

use std::collections::BTreeSet;
use std::fs;

use crate::support::Site;

fn head(site: &Site, name: &str) -> (String, String) {
    let workspace = site.machine(name).join("workspace");
    let branch = site.git_in(&workspace, &["symbolic-ref", "HEAD"]);
    (branch.strip_prefix("refs/heads/").unwrap().to_owned(), site.git_in(&workspace, &["rev-parse", "HEAD"]))
}

/// Without this file, codemcp refuses every edit.
#[test]
fn a_branch_without_settings_of_codemcp_gets_a_notice() {
    let site = Site::new();
    site.run(&["create"]).ok().says("notice: main has no codemcp.toml; ").says("the tutorial of agent-vm shows one");
    site.git(&["checkout", "--quiet", "-b", "with"]);
    site.commit("codemcp.toml", "[commands]\n");
    site.run(&["create"]).ok().does_not_say("codemcp");
    // It is the branch that counts, not the checked-out one.
    site.git(&["branch", "without", "main"]);
    site.run(&["create", "--branch", "without"]).ok().says("notice: without has no codemcp.toml; ");
}

#[test]
fn an_existing_branch_is_checked_out_at_its_tip() {
    let site = Site::new();
    site.git(&["branch", "old", "HEAD~1"]);
    // Control: only a new branch is called new.
    site.run(&["create", "--branch", "old"]).ok().does_not_say("is new");
    let name = "app-old";
    assert_eq!(head(&site, name), ("old".to_owned(), site.git(&["rev-parse", "old"])));
    let workspace = site.machine(name).join("workspace");
    assert_eq!(site.git_in(&workspace, &["rev-parse", "--abbrev-ref", "@{upstream}"]), "origin/old");
}

/// With such a tag, git's short name of the branch is `heads/main`.
#[test]
fn a_tag_with_the_branchs_name_does_not_matter() {
    let site = Site::new();
    site.git(&["tag", "main", "HEAD~1"]);
    // Control: git calls the branch `heads/main`.
    assert_eq!(site.git(&["symbolic-ref", "--short", "HEAD"]), "heads/main");
    site.run(&["create"]).ok();
    assert_eq!(head(&site, "app-main"), ("main".to_owned(), site.git(&["rev-parse", "refs/heads/main"])));
}

/// The new branch exists only in the machine: the user's repository gets no branch.
#[test]
fn a_new_branch_starts_at_head() {
    let site = Site::new();
    site.git(&["checkout", "--quiet", "-b", "side", "HEAD~1"]);
    let tip = site.commit("aside", "x");
    // It may be a wrong word for another branch.
    let said = format!("the branch brand-new is new: it begins at {} of HEAD\n", &tip[..10]);
    site.run(&["create", "--branch", "brand-new"]).ok().says(&said);
    let name = "app-brand-new";
    assert_eq!(head(&site, name), ("brand-new".to_owned(), tip));
    assert_eq!(site.git(&["branch", "--list", "brand-new"]), "");
    let workspace = site.machine(name).join("workspace");
    assert_eq!(site.git_in(&workspace, &["for-each-ref", "refs/agent-vm"]), "");
}

#[test]
fn a_new_branch_starts_at_a_detached_head() {
    let site = Site::new();
    site.git(&["checkout", "--quiet", "--detach"]);
    let tip = site.commit("nowhere", "x");
    let name = site.create("rescued");
    assert_eq!(head(&site, &name), ("rescued".to_owned(), tip));
}

#[test]
fn a_remote_tracking_branch_is_used_without_a_local_one() {
    let site = Site::new();
    site.git(&["clone", "--quiet", ".", "../upstream"]);
    site.git_in(site.path("upstream"), &["checkout", "--quiet", "-b", "theirs"]);
    site.git_in(site.path("upstream"), &["config", "user.name", "Test"]);
    site.git_in(site.path("upstream"), &["config", "user.email", "test@example.invalid"]);
    let tip = site.commit_in(site.path("upstream"), "theirs", "x");
    site.git(&["remote", "add", "origin", "../upstream"]);
    site.git(&["fetch", "--quiet", "origin"]);
    let name = site.create("theirs");
    assert_eq!(head(&site, &name), ("theirs".to_owned(), tip));
}

#[test]
fn a_linked_worktree_is_the_same_repository_with_its_own_branch() {
    let site = Site::new();
    site.git(&["worktree", "add", "--quiet", "-b", "linked", "../tree"]);
    site.run_in(site.path("tree"), &["create"]).ok();
    assert_eq!(head(&site, "app-linked").0, "linked");
    assert_eq!(site.settings("app-linked")["source"], site.repo().to_str().unwrap());
    site.run(&["status", "linked"]).ok().prints("VM Status: app-linked");
    site.run_in(site.path("tree"), &["status"]).ok().prints("VM Status: app-linked");
}

#[test]
fn a_bare_repository_and_a_subdirectory_work() {
    let site = Site::new();
    site.git(&["clone", "--quiet", "--bare", ".", "../store.git"]);
    site.run_in(site.path("store.git"), &["create"]).ok();
    assert_eq!(head(&site, "store-main").0, "main");
    fs::create_dir(site.path("app/below")).unwrap();
    site.run_in(site.path("app/below"), &["create"]).ok();
    assert_eq!(head(&site, "app-main").0, "main");
}

/// Git accepts these names. Each gets its own machine, which every command finds by branch and whose files are all in
/// one directory of the state directory.
#[test]
fn odd_branch_names_get_machines_of_their_own() {
    let site = Site::new();
    let long = "l".repeat(200);
    let names = [
        "feature/x",
        "feature-x",
        "a/b",
        "a-b",
        "A/b",
        "ünï/çødé",
        "it's",
        "$(touch owned)",
        "`id`",
        "a\"b",
        "a;b&c|d",
        "%s%n",
        "${HOME}",
        "{{x}}",
        "a'$'b",
        "#x",
        "!x",
        "refs/heads/main",
        "mainly/x.y",
        "x.git",
        &long,
    ];
    let names = names.map(|name| name.replace(' ', "\u{a0}"));
    let before = site.outside();
    for branch in &names {
        let machine = site.create(branch);
        assert_eq!(head(&site, &machine).0, *branch);
        assert_eq!(site.settings(&machine)["branch"], branch.as_str());
        let found = site.run(&["status", "--json", branch]).ok().json();
        assert_eq!(found["name"], machine.as_str(), "{branch}");
    }
    assert_eq!(site.outside(), before);
    let machines: BTreeSet<_> = site.names().into_iter().collect();
    assert_eq!(machines.len(), names.len(), "{machines:?}");
    let plain = |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    assert!(machines.iter().all(plain), "{machines:?}");
    for branch in &names {
        site.run(&["destroy", branch]).ok();
    }
    assert!(site.names().is_empty());
    assert_eq!(site.outside(), before);
}

/// Git refuses these names. As a flag's value and as a target they are one error with exit code 2, and nothing is
/// created.
#[test]
fn invalid_branch_names_are_refused() {
    let site = Site::new();
    site.create("main");
    let (before, entries) = (site.outside(), site.state_entries());
    let long = "x".repeat(5000);
    for branch in [
        "-rf",
        "--help",
        "../../etc",
        "a b",
        "a\nb",
        "a\tb",
        "a..b",
        ".hidden",
        "x.lock",
        "HEAD",
        "@",
        "a~1",
        "a:b",
        "a\\b",
        "/etc/passwd",
        "\u{1b}[2J",
        "",
        &long,
    ] {
        for args in [["create", "--branch", branch], ["status", "--", branch]] {
            let done = site.run(&args).exits(2).gives_one_error().does_not_say("\u{1b}");
            assert!(done.stderr.len() < 1000, "{}", done.stderr);
        }
    }
    assert_eq!(site.outside(), before);
    assert_eq!(site.state_entries(), entries);
}

/// As in git, a branch cannot be named like a directory of another branch.
#[test]
fn a_branch_below_another_one_is_refused_with_gits_message() {
    let site = Site::new();
    site.run(&["create", "--branch", "main/x"]).exits(1).gives_one_error().says("'refs/heads/main' exists");
    site.assert_nothing_left();
    assert!(site.names().is_empty());
}

/// Two repositories have the same name; and a branch and another repository lead to the same machine name.
#[test]
fn machines_that_would_share_a_name_get_different_ones() {
    let site = Site::new();
    fs::create_dir(site.path("elsewhere")).unwrap();
    site.git(&["clone", "--quiet", ".", "../elsewhere/app"]);
    let other = site.path("elsewhere/app");
    let first = site.create("main");
    let second = site.run_in(&other, &["create", "--json"]).ok().json();
    let second = second["name"].as_str().unwrap();
    assert_ne!(first, second);
    assert_eq!(site.run(&["status", "--json"]).ok().json()["name"], first.as_str());
    assert_eq!(site.run_in(&other, &["status", "--json"]).ok().json()["name"], second);

    // Repository `app`, branch `x-main`, and repository `app-x`, branch `main`.
    site.git(&["clone", "--quiet", ".", "../app-x"]);
    let first = site.create("x-main");
    let second = site.run_in(site.path("app-x"), &["create", "--json"]).ok().json();
    assert_ne!(second["name"], first.as_str());
    site.run(&["destroy", "x-main"]).ok();
    site.run_in(site.path("app-x"), &["status"]).ok().prints(second["name"].as_str().unwrap());
}

/// The guest controls its workspace, so agent-vm does not treat it as the user's repository: it neither runs git there nor
/// clones from it.
#[test]
fn a_workspace_is_not_used_as_a_source() {
    let site = Site::new();
    site.create("main");
    let workspace = site.machine("app-main").join("workspace");
    site.script("planted", &format!("touch '{}'", site.path("executed").display()));
    site.git_in(&workspace, &["config", "core.fsmonitor", site.path("planted").to_str().unwrap()]);
    // Control: git itself runs the planted program.
    site.git_in(&workspace, &["status"]);
    fs::remove_file(site.path("executed")).unwrap();

    std::os::unix::fs::symlink(site.path("data"), site.path("link")).unwrap();
    let by_link = site.path("link/agent-vms");
    for state in [site.state(), by_link] {
        let state = state.to_str().unwrap();
        site.run_in(&workspace, &["--state-dir", state, "status"]).ok().prints("VM Status: app-main");
        site.run_in(&workspace, &["--state-dir", state, "create", "--branch", "x"]).exits(1).gives_one_error();
        site.run_in(&workspace, &["--state-dir", state, "create"]).exits(1).gives_one_error();
        site.run_in(&workspace, &["--state-dir", state, "status", "x"]).exits(1).gives_one_error();
        assert!(!site.path("executed").exists(), "the planted program ran with the state directory {state}");
    }
    assert_eq!(site.names(), ["app-main"]);
}
