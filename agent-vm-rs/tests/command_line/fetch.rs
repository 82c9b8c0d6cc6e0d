//! `fetch` brings everything that a machine has into its source repository, and loses nothing there.

use std::fs;
use std::path::Path;

use crate::kept_work::Shape;
use crate::submodules::{check_out, with_submodules};
use crate::support::{Site, which};

/// Start of the names of the machine's references.
const MACHINE: &str = "refs/agent-vm/app-main";

/// Makes a machine whose workspace has the commits that `make` returns.
fn with(make: impl FnOnce(&Shape) -> Vec<String>) -> (Site, Vec<String>) {
    let site = Site::new();
    site.create("main");
    let workspace = site.machine("app-main").join("workspace");
    let commits = make(&Shape { site: &site, workspace });
    assert!(!commits.is_empty());
    (site, commits)
}

/// Returns whether the source repository has an object and everything that it leads to, and a reference that leads to it.
fn has(site: &Site, commit: &str) -> bool {
    let git = |args: &[&str]| site.command(which("git").unwrap()).args(args).output().unwrap();
    let complete = git(&["rev-list", "--objects", "--quiet", commit]).status.success();
    complete && !git(&["for-each-ref", "--contains", commit, "refs/agent-vm"]).stdout.is_empty()
}

#[track_caller]
fn fetches(name: &str, make: impl FnOnce(&Shape) -> Vec<String>) -> Site {
    let (site, commits) = with(make);
    // Control: the source repository does not have them yet.
    assert!(commits.iter().all(|commit| !has(&site, commit)), "{name}: control");
    let done = site.run(&["fetch"]).ok();
    let lacking: Vec<_> = commits.iter().filter(|commit| !has(&site, commit)).collect();
    assert!(lacking.is_empty(), "{name}: {lacking:?} of {commits:?}\n{}", done.stdout);
    site.git(&["fsck", "--strict", "--no-dangling"]);
    site.run(&["fetch"]).ok().prints("app-main has nothing new");
    site.assert_nothing_left();
    site
}

#[test]
fn everything_that_a_machine_has_is_fetched() {
    let site = fetches("branches, tags, notes", |shape| {
        let mut commits = vec![shape.commit("one")];
        shape.git(&["checkout", "--quiet", "-b", "topic/deep"]);
        commits.push(shape.commit("two"));
        shape.git(&["tag", "--annotate", "--message", "t", "v1"]);
        shape.git(&["notes", "add", "-m", "note"]);
        commits.push(shape.git(&["rev-parse", "refs/notes/commits"]));
        let other = shape.loose("other");
        shape.git(&["update-ref", "refs/tool/x", &other]);
        commits.push(other);
        commits
    });
    for name in ["heads/main", "heads/topic/deep", "tags/v1", "notes/commits", "other/tool/x"] {
        site.git(&["rev-parse", "--verify", &format!("{MACHINE}/{name}")]);
    }
    // A tag that the source has is not fetched again.
    let site = fetches("stashes, detached", |shape| {
        let mut commits = vec![];
        for text in ["a", "b", "c"] {
            shape.write("README", text);
            shape.git(&["stash", "push", "--quiet"]);
            commits.push(shape.git(&["rev-parse", "stash"]));
        }
        shape.git(&["checkout", "--quiet", "--detach"]);
        commits.push(shape.commit("detached"));
        commits
    });
    for name in ["stash", "stashes/1", "stashes/2", "detached"] {
        site.git(&["rev-parse", "--verify", &format!("{MACHINE}/{name}")]);
    }
    fetches("linked work tree", |shape| {
        shape.git(&["worktree", "add", "--quiet", "--detach", "../linked"]);
        vec![shape.site.commit_in(shape.workspace.join("../linked"), "linked", "x")]
    });
}

#[test]
fn commits_of_submodules_are_fetched() {
    let site = Site::new();
    with_submodules(&site);
    check_out(&site);
    site.create("main");
    let sub = site.machine("app-main").join("workspace/libs/the sub");
    site.run(&["fetch"]).ok();
    assert_eq!(site.git(&["for-each-ref", &format!("{MACHINE}/submodules")]), "", "control");
    for dir in [&sub, &sub.join("deep")] {
        site.git_in(dir, &["config", "user.name", "Test"]);
        site.git_in(dir, &["config", "user.email", "test@example.invalid"]);
        let commit = site.commit_in(dir, "work", "x");
        site.run(&["fetch"]).ok();
        assert!(has(&site, &commit), "{}", dir.display());
    }
    let names = site.git(&["for-each-ref", "--format=%(refname)", &format!("{MACHINE}/submodules")]);
    assert!(names.lines().all(|name| name.ends_with("/detached")) && names.lines().count() == 2, "{names}");
}

#[test]
fn uncommitted_changes_are_fetched_as_a_commit() {
    let (site, _) = with(|shape| {
        let commit = shape.commit("one");
        shape.write("README", "changed\n");
        shape.write("untracked", "new\n");
        vec![commit]
    });
    site.run(&["fetch", "--committed"]).ok();
    assert_eq!(site.git(&["for-each-ref", &format!("{MACHINE}/uncommitted")]), "");
    site.run(&["fetch"]).ok();
    assert_eq!(site.git(&["show", &format!("{MACHINE}/uncommitted:untracked")]), "new");
    assert_eq!(site.git(&["show", &format!("{MACHINE}/uncommitted:README")]), "changed");
    site.run(&["fetch"]).ok().prints("nothing new");
    site.run(&["fetch", "--committed"]).ok().prints("nothing new");
    let workspace = site.machine("app-main").join("workspace");
    site.git_in(&workspace, &["add", "--all"]);
    site.git_in(&workspace, &["commit", "--quiet", "--message", "all"]);
    site.run(&["fetch"]).ok();
    assert_eq!(site.git(&["for-each-ref", &format!("{MACHINE}/uncommitted")]), "", "it is committed");
}

#[test]
fn former_commits_stay() {
    let (site, commits) = with(|shape| {
        shape.git(&["branch", "gone", "main"]);
        shape.git(&["checkout", "--quiet", "gone"]);
        let gone = shape.commit("gone");
        shape.git(&["tag", "--annotate", "--message", "t", "moved"]);
        let tag = shape.git(&["rev-parse", "moved"]);
        shape.git(&["checkout", "--quiet", "main"]);
        vec![shape.commit("rewritten"), gone, tag]
    });
    let workspace = site.machine("app-main").join("workspace");
    site.run(&["fetch"]).ok();
    site.git_in(&workspace, &["reset", "--quiet", "--hard", "HEAD~1"]);
    let new = site.commit_in(&workspace, "instead", "x");
    site.git_in(&workspace, &["branch", "-D", "gone"]);
    site.git_in(&workspace, &["tag", "--annotate", "--force", "--message", "u", "moved"]);
    // A name that was a branch becomes a directory of branches.
    site.git_in(&workspace, &["branch", "gone/below"]);
    let done = site.run(&["fetch"]).ok();
    assert!(done.stdout.contains("rewritten") && done.stdout.contains("removed"), "{}", done.stdout);
    for commit in commits.iter().chain([&new]) {
        let listed = site.git(&["for-each-ref", "--format=%(objectname)", "refs/agent-vm"]);
        assert!(has(&site, commit) || listed.contains(commit.as_str()), "{commit}\n{listed}");
    }
    assert_eq!(site.git(&["rev-parse", &format!("{MACHINE}/heads/main")]), new);
    assert_eq!(site.git(&["for-each-ref", "--format=x", &format!("{MACHINE}/former")]).lines().count(), 3);
    site.run(&["fetch"]).ok().prints("nothing new");
    // A branch that only moves forward leaves no former commit.
    site.commit_in(&workspace, "more", "x");
    site.run(&["fetch"]).ok();
    assert_eq!(site.git(&["for-each-ref", "--format=x", &format!("{MACHINE}/former")]).lines().count(), 3);
}

/// What was fetched is safe in the source, and `destroy` does not save it again.
#[test]
fn fetched_commits_count_as_saved() {
    let (site, commits) = with(|shape| vec![shape.commit("one")]);
    assert_eq!(site.run(&["status", "--json"]).ok().json()["workspace"]["git"]["new_commits"], 1, "control");
    site.run(&["fetch"]).ok();
    assert_eq!(site.run(&["status", "--json"]).ok().json()["workspace"]["git"]["new_commits"], 0);
    site.run(&["destroy", "--yes"]).ok();
    assert!(site.kept().is_empty());
    assert!(has(&site, &commits[0]));
}

#[test]
fn a_source_of_any_layout_is_fetched_into() {
    let commit = |site: &Site, name: &str| {
        let workspace = site.machine(name).join("workspace");
        site.git_in(&workspace, &["config", "user.name", "Test"]);
        site.git_in(&workspace, &["config", "user.email", "test@example.invalid"]);
        site.commit_in(&workspace, "work", "x")
    };
    let site = Site::new();
    site.git(&["pack-refs", "--all"]);
    site.git(&["gc", "--quiet"]);
    site.git(&["worktree", "add", "--quiet", "../linked", "-b", "side"]);
    site.run_in(site.path("linked"), &["create"]).ok();
    let made = commit(&site, "app-side");
    site.run_in(site.path("linked"), &["fetch"]).ok();
    assert!(has(&site, &made), "linked work tree");
    site.git(&["pack-refs", "--all"]);
    let workspace = site.machine("app-side").join("workspace");
    site.git_in(&workspace, &["commit", "--quiet", "--amend", "--message", "again"]);
    site.run(&["fetch", "app-side"]).ok().prints("rewritten");
    assert!(has(&site, &made), "packed references");

    let site = Site::new();
    site.git(&["clone", "--quiet", "--bare", ".", "../bare.git"]);
    site.run_in(site.path("bare.git"), &["create", "--branch", "main"]).ok();
    let made = commit(&site, "bare-main");
    site.run(&["fetch", "bare-main"]).ok();
    site.git_in(site.path("bare.git"), &["rev-list", "--objects", "--quiet", &made]);
    site.run(&["diff", "bare-main"]).ok().prints("+x");
    site.run(&["merge", "bare-main"]).exits(1).says("has no work tree").says("git worktree add");

    let site = Site::new();
    site.git(&[
        "clone",
        "--quiet",
        "--depth=1",
        "--no-local",
        &format!("file://{}", site.repo().display()),
        "../shallow",
    ]);
    site.run_in(site.path("shallow"), &["create"]).ok();
    let made = commit(&site, "shallow-main");
    site.run_in(site.path("shallow"), &["fetch"]).ok();
    site.git_in(site.path("shallow"), &["rev-list", "--objects", "--quiet", &made]);
}

/// A killed fetch leaves objects at most; the next one completes it.
#[test]
fn a_killed_fetch_is_completed_by_the_next() {
    for word in ["pack-objects", "index-pack", "update-ref"] {
        let (site, commits) = with(|shape| vec![shape.commit("one")]);
        site.intercept("setpriv", word, "touch \"$TMPDIR/../reached\"; kill -9 $PPID; sleep 5");
        let before = site.git(&["for-each-ref"]);
        let done = site.run(&["fetch"]);
        assert!(done.code != Some(0), "{word}: {done:?}");
        assert!(site.path("reached").exists(), "{word}");
        assert_eq!(site.git(&["for-each-ref"]), before, "{word}");
        site.git(&["fsck", "--strict", "--no-dangling"]);
        site.restore("setpriv");
        site.run(&["fetch"]).ok();
        assert!(has(&site, &commits[0]), "{word}");
        assert_eq!(leftovers(&site.repo()), Vec::<String>::new(), "{word}");
    }
}

fn leftovers(repository: &Path) -> Vec<String> {
    let pack = fs::read_dir(repository.join(".git/objects/pack")).unwrap().flatten();
    let names = pack.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("tmp_")).collect()
}

#[test]
fn a_missing_source_is_named_with_the_way_to_relink() {
    let (site, _) = with(|shape| vec![shape.commit("one")]);
    fs::rename(site.repo(), site.path("moved")).unwrap();
    let done = site.run_in(site.path("moved"), &["fetch", "app-main"]).exits(1).gives_one_error();
    done.says("source missing").says("agent-vm relink app-main");
    site.run_in(site.path("moved"), &["relink", "app-main"]).ok();
    site.run_in(site.path("moved"), &["fetch", "app-main"]).ok().prints("1 new commit");
}

/// A snapshot of uncommitted changes is replaced by the next, so it keeps no commit.
#[test]
fn a_commit_below_a_snapshot_only_stays() {
    let (site, commits) = with(|shape| {
        let commit = shape.commit("one");
        shape.write("README", "changed\n");
        vec![commit]
    });
    let workspace = site.machine("app-main").join("workspace");
    site.run(&["fetch"]).ok();
    site.git_in(&workspace, &["reset", "--quiet", "--hard", "HEAD~1"]);
    site.run(&["fetch", "--committed"]).ok().prints("former/");
    site.run(&["fetch"]).ok();
    site.git(&["gc", "--quiet", "--prune=now"]);
    assert!(has(&site, &commits[0]));
    // For `destroy`, a commit below a snapshot only is not saved.
    let (site, commits) = with(|shape| vec![shape.commit("one")]);
    let workspace = site.machine("app-main").join("workspace");
    fs::write(workspace.join("README"), "changed\n").unwrap();
    site.run(&["fetch"]).ok();
    site.git(&["update-ref", "-d", &format!("{MACHINE}/heads/main")]);
    assert_eq!(site.run(&["status", "--json"]).ok().json()["workspace"]["git"]["new_commits"], 1, "{commits:?}");
}

/// Nothing is removed before what replaces it is there.
#[test]
fn a_fetch_that_fails_halfway_drops_no_commit() {
    let (site, commits) = with(|shape| {
        shape.git(&["checkout", "--quiet", "-b", "a"]);
        vec![shape.commit("one")]
    });
    let workspace = site.machine("app-main").join("workspace");
    site.run(&["fetch"]).ok();
    site.git_in(&workspace, &["branch", "--move", "a", "zz"]);
    // A reference of the user is in the way of the new name.
    site.git(&["update-ref", &format!("{MACHINE}/heads/zz/own"), "main"]);
    let lock = site.repo().join(".git").join(MACHINE).join("heads/zz.lock");
    fs::write(&lock, "").unwrap();
    let done = site.run(&["fetch"]);
    assert_eq!(done.code, Some(1), "control: {done:?}");
    assert!(has(&site, &commits[0]), "{done:?}");
    fs::remove_file(lock).unwrap();
    site.run(&["fetch"]).ok();
    assert!(has(&site, &commits[0]));
    // Packed references may be directories of each other.
    let head = site.git_in(&workspace, &["rev-parse", "zz"]);
    let packed = format!("{head} refs/heads/df\n{head} refs/heads/df/b\n");
    fs::write(workspace.join(".git/packed-refs"), packed).unwrap();
    site.run(&["fetch"]).ok().prints("heads/df-2").prints("heads/df/b");
    site.run(&["fetch"]).ok().prints("nothing new");
}

/// An unreadable snapshot does not remove the one before.
#[test]
fn a_snapshot_stays_while_no_other_can_be_made() {
    let (site, _) = with(|shape| {
        shape.write("README", "changed\n");
        vec![shape.commit("one")]
    });
    let workspace = site.machine("app-main").join("workspace");
    fs::write(workspace.join("README"), "again\n").unwrap();
    site.run(&["fetch"]).ok();
    for number in 0..10_001 {
        fs::write(workspace.join(format!("new-{number}")), "").unwrap();
    }
    site.run(&["fetch"]).ok().says("not fetched from app-main: uncommitted changes");
    site.git(&["rev-parse", "--verify", &format!("{MACHINE}/uncommitted")]);
}
