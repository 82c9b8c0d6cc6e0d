//! `create --from URL`: machines of a remote repository, without a repository of the user.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::support::{Site, tree};

/// Makes `ssh` run the other end here, and returns the URL of `app`.
pub fn remote(site: &Site) -> String {
    site.stand_in("ssh", "for last; do :; done\nexec sh -c \"git ${last#git-}\"");
    format!("ssh://me@host.invalid{}", site.repo().display())
}

/// Returns the bare repository of a machine.
pub fn source(site: &Site, machine: &str) -> PathBuf {
    site.settings(machine)["source"].as_str().unwrap().into()
}

#[test]
fn a_remote_repository_is_cloned() {
    let site = Site::new();
    let url = remote(&site);
    site.git(&["tag", "v1"]);
    site.git(&["checkout", "--quiet", "-b", "feature"]);
    let feature = site.commit("of-feature", "x");
    site.git(&["checkout", "--quiet", "main"]);
    let before = tree(&site.repo());
    fs::create_dir(site.path("nowhere")).unwrap();
    let create = |args: &[&str]| site.run_in(site.path("nowhere"), &[&["create", "--from", &url], args].concat());
    create(&[]).ok().says("the source repository is").prints("agent-vm start app-main");
    let workspace = site.machine("app-main").join("workspace");
    assert_eq!(site.git_in(&workspace, &["rev-parse", "HEAD"]), site.git(&["rev-parse", "main"]));
    assert_eq!(site.git_in(&workspace, &["status", "--short", "--branch"]), "## main...origin/main");
    assert_eq!(site.git_in(&workspace, &["config", "remote.upstream.url"]), url);
    assert_eq!(site.git_in(&workspace, &["tag"]), "v1");
    create(&["--branch", "feature"]).ok();
    let workspace = site.machine("app-feature").join("workspace");
    assert_eq!(site.git_in(&workspace, &["rev-parse", "HEAD"]), feature);
    assert_eq!(site.git_in(&workspace, &["merge-base", "origin/main", "HEAD"]), site.git(&["rev-parse", "main"]));
    create(&["--branch", "feature"]).exits(1).gives_one_error().says("already has a machine: app-feature");
    create(&["--branch", "new"]).ok();
    let all = source(&site, "app-main");
    assert_eq!(source(&site, "app-feature"), all);
    assert!(all.starts_with(site.path("data/agent-vm-sources")), "{}", all.display());
    assert_eq!(tree(&site.repo()), before);
}

/// Every command works with the bare repository, and it keeps what was fetched.
#[test]
fn machines_of_a_url_are_used_like_others() {
    let site = Site::new();
    let url = remote(&site);
    site.run(&["create", "--from", &url]).ok();
    let source = source(&site, "app-main");
    let workspace = site.machine("app-main").join("workspace");
    site.git_in(&workspace, &["config", "user.name", "Test"]);
    site.git_in(&workspace, &["config", "user.email", "test@example.invalid"]);
    let work = site.commit_in(&workspace, "work", "x");
    let run = |args: &[&str]| site.run_in(site.root(), args);
    run(&["list"]).ok().prints("app-main");
    run(&["status", "app-main"]).ok().prints("1 commit not in the source repository");
    run(&["fetch", "app-main"]).ok();
    run(&["log", "app-main"]).ok().prints(&work);
    run(&["diff", "app-main", "--stat"]).ok().prints("work");
    run(&["merge", "app-main"]).exits(1).gives_one_error().says("has no work tree");
    assert_eq!(site.git_in(&source, &["rev-parse", "refs/agent-vm/app-main/heads/main"]), work);
    let more = site.commit_in(&workspace, "more", "x");
    run(&["prune", "--yes"]).ok();
    assert_eq!(site.names(), ["app-main"]);
    run(&["destroy", "app-main", "--yes"]).ok();
    // The source has one commit, a bundle the other.
    assert_eq!(site.git_in(&source, &["rev-parse", "refs/agent-vm/app-main/heads/main"]), work);
    assert_eq!(site.kept().len(), 1);
    // The next machine has the remote's newer commits.
    let newer = site.commit("newer", "x");
    site.run(&["create", "--from", &url]).ok();
    let workspace = site.machine("app-main").join("workspace");
    assert_eq!(site.git_in(&workspace, &["rev-parse", "HEAD"]), newer);
    assert!(!more.is_empty());
}

#[test]
fn other_urls_are_one_error() {
    let site = Site::new();
    let url = remote(&site);
    let refused = |url: &str| site.run(&["create", "--from", url]).exits(2).gives_one_error();
    let path = site.repo().display().to_string();
    refused(&path)
        .says("is a directory")
        .says(&format!("hint: create the machine in it: cd {path} && agent-vm create"));
    refused(".").says("is a directory");
    site.git(&["bundle", "create", "--quiet", "../app.bundle", "main"]);
    let bundle = site.path("app.bundle").display().to_string();
    refused(&bundle).says("is a file").says(&format!("git clone {bundle} DIRECTORY && cd DIRECTORY"));
    for url in
        ["file:///nowhere", "http://host.invalid/x", "git://host.invalid/x", "ext::sh -c id", "-oProxyCommand=x:y", ""]
    {
        refused(url).says("is neither an https nor an ssh URL");
    }
    refused("https://me:pa%2055@host.invalid/x").says("contains a password").does_not_say("55@");
    let failed = |url: &str| site.run(&["create", "--from", url]).exits(1).gives_one_error();
    failed("https://127.0.0.1:1/x").says("failed to fetch from https://127.0.0.1:1/x").says("git ls-remote");
    failed(&format!("{url}/none")).says("failed to fetch from");
    site.git(&["checkout", "--quiet", "--orphan", "unborn"]);
    failed(&url).says("has no commit yet");
    site.assert_nothing_left();
    assert!(site.names().is_empty());
    // Control.
    site.git(&["checkout", "--quiet", "main"]);
    site.run(&["create", "--from", &url]).ok();
}

/// The token of the remote is in no argument, file and message.
#[test]
fn a_secret_of_the_remote_is_passed_to_git_alone() {
    let site = Site::new();
    let token = "token-5a1e";
    // Git asks the helpers of its configuration, as it would for this URL.
    let real = crate::support::which("git").unwrap();
    site.stand_in(
        "git",
        &format!(
            "echo \"$*\" >> '{log}'\ncase \" $* \" in *' ls-remote '*)\nwhile [ \"$1\" = -c ]; do set=\"$set -c $2\"; shift 2; done\n\
             printf 'protocol=https\\nhost=host.invalid\\n\\n' | '{git}' $set credential fill >> '{filled}'\nexit 1\nesac\nexec '{git}' \"$@\"",
            log = site.path("arguments").display(),
            filled = site.path("filled").display(),
            git = real.display()
        ),
    );
    let create = |secret: &str| {
        let args = ["create", "--from", "https://host.invalid/app.git", "--secret", secret];
        site.run_with(&[("TOKEN", token), ("OTHER", token)], &args).exits(1).gives_one_error().does_not_say(token);
    };
    create("TOKEN=host.invalid");
    assert!(site.read("filled").contains(&format!("password={token}")), "{}", site.read("filled"));
    assert!(!site.read("arguments").contains(token) && site.read("arguments").contains("ls-remote"));
    // It is the secret of another host.
    fs::remove_file(site.path("filled")).unwrap();
    create("OTHER=other.invalid");
    assert!(!site.read("filled").contains(token));
    for file in walkdir::WalkDir::new(site.path("data")).into_iter().flatten().filter(|file| file.file_type().is_file())
    {
        assert!(!fs::read_to_string(file.path()).unwrap_or_default().contains(token), "{}", file.path().display());
    }
}

/// Some remotes move tags such as `nightly`.
#[test]
fn tags_follow_the_remote_and_those_of_the_user_stay() {
    let site = Site::new();
    let url = remote(&site);
    for tag in ["nightly", "gone", "dir"] {
        site.git(&["tag", tag]);
    }
    site.run(&["create", "--from", &url]).ok();
    let source = source(&site, "app-main");
    let own = site.git(&["rev-parse", "HEAD~1"]);
    site.git_in(&source, &["tag", "mine", &own]);
    site.git_in(&source, &["tag", "both", &own]);
    site.git_in(&source, &["tag", "deep/mine", &own]);
    let newer = site.commit("newer", "x");
    site.git(&["tag", "--force", "nightly"]);
    site.git(&["tag", "--delete", "gone", "dir"]);
    for tag in ["dir/below", "both", "deep"] {
        site.git(&["tag", tag]);
    }
    for branch in ["other", "third"] {
        site.run(&["create", "--from", &url, "--branch", branch]).ok();
        let tags = site.git_in(&source, &["tag"]);
        assert_eq!(tags.lines().collect::<Vec<_>>(), ["both", "deep/mine", "dir/below", "mine", "nightly"], "{branch}");
        assert_eq!(site.git_in(&source, &["rev-parse", "nightly"]), newer);
        for tag in ["mine", "both", "deep/mine"] {
            assert_eq!(site.git_in(&source, &["rev-parse", &format!("refs/tags/{tag}")]), own, "{tag}");
        }
    }
    let workspace = site.machine("app-third").join("workspace");
    assert_eq!(site.git_in(&workspace, &["tag"]), "both\ndeep/mine\ndir/below\nmine\nnightly");
}

#[test]
fn commands_of_one_url_wait_for_each_other() {
    let site = Site::new();
    let url = remote(&site);
    site.run(&["create", "--from", &url]).ok();
    for number in 0..40 {
        site.git(&["branch", &format!("b{number}")]);
    }
    for round in 0..2 {
        site.commit("newer", &round.to_string());
        for number in 0..40 {
            site.git(&["branch", "--force", &format!("b{number}"), "main"]);
        }
        let spawn = |number: usize| site.spawn(&["create", "--from", &url, "--branch", &format!("c{round}-{number}")]);
        for one in (0..3).map(spawn).collect::<Vec<_>>() {
            let output = one.output();
            assert!(output.status.success(), "{output:?}");
        }
    }
}

/// Git leaves locks if it is killed, and refuses to write then.
#[test]
fn what_a_killed_command_left_is_removed() {
    let site = Site::new();
    let url = remote(&site);
    site.run(&["create", "--from", &url]).ok();
    let source = source(&site, "app-main");
    let around = source.parent().unwrap();
    let ago = |seconds| SystemTime::now() - Duration::from_secs(seconds);
    let leave = |path: PathBuf, at: SystemTime| fs::File::create(path).unwrap().set_modified(at).unwrap();
    let names = ["refs/remotes/origin/main.lock", "refs/remotes/origin/HEAD.lock", "HEAD.lock", "packed-refs.lock"];
    for name in names {
        site.commit("newer", name);
        leave(source.join(name), ago(20));
    }
    // Control: no command of agent-vm was killed.
    site.run(&["create", "--from", &url, "--branch", "other"]).exits(1).gives_one_error().says(".lock");
    leave(around.join("fetching"), ago(30));
    fs::create_dir(around.join(".new-left")).unwrap();
    site.run(&["create", "--from", &url, "--branch", "other"]).ok();
    let left = fs::read_dir(around).unwrap().map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>();
    assert_eq!(left, BTreeSet::from(["app.git", "in-use", "lock", "state-dirs"].map(Into::into)));
    assert!(names.iter().all(|name| !source.join(name).exists()));
}

#[test]
fn a_remote_without_a_usual_head_has_branches() {
    let site = Site::new();
    let url = remote(&site);
    site.git(&["checkout", "--quiet", "--detach"]);
    site.run(&["create", "--from", &url]).ok();
    assert_eq!(site.names(), ["app-main"]);
    site.git(&["symbolic-ref", "HEAD", "refs/heads/none"]);
    let done = site.run(&["create", "--from", &url]).exits(1).gives_one_error();
    done.says("has no commit yet").says("--branch BRANCH");
    site.run(&["create", "--from", &url, "--branch", "other"]).exits(1).gives_one_error();
    site.git(&["branch", "other", "main"]);
    site.run(&["create", "--from", &url, "--branch", "other"]).ok();
}

#[test]
fn a_damaged_repository_of_a_url_has_a_way_out() {
    let site = Site::new();
    let url = remote(&site);
    site.run(&["create", "--from", &url]).ok();
    let source = source(&site, "app-main");
    site.run(&["create", "--from", &url, "--branch", "other"]).ok();
    site.run(&["destroy", "app-main", "--yes"]).ok();
    fs::remove_file(source.join("HEAD")).unwrap();
    let done = site.run(&["create", "--from", &url]).exits(1).gives_one_error().says("is damaged");
    done.says(&format!("mv {} ", source.display()));
    fs::rename(&source, source.with_extension("damaged")).unwrap();
    site.run(&["create", "--from", &url]).ok();
}

/// It starts at the remote's default branch, which no machine has yet.
#[test]
fn the_first_machine_of_a_url_may_have_a_new_branch() {
    let site = Site::new();
    let url = remote(&site);
    site.run(&["create", "--from", &url, "--branch", "new"]).ok();
    let workspace = site.machine("app-new").join("workspace");
    assert_eq!(site.git_in(&workspace, &["rev-parse", "HEAD"]), site.git(&["rev-parse", "main"]));
    let newer = site.commit("newer", "x");
    site.run(&["create", "--from", &url, "--branch", "newer"]).ok();
    let workspace = site.machine("app-newer").join("workspace");
    assert_eq!(site.git_in(&workspace, &["rev-parse", "HEAD"]), newer);
}

/// Git cannot have the branches `main` and `main/x` at the same time.
#[test]
fn a_remote_may_replace_a_branch_by_a_directory() {
    let site = Site::new();
    let url = remote(&site);
    site.run(&["create", "--from", &url]).ok();
    let source = source(&site, "app-main");
    site.git(&["branch", "--move", "main", "main/x"]);
    let newer = site.commit("newer", "x");
    site.run(&["create", "--from", &url]).ok();
    let names = site.names();
    let nested = names.iter().find(|name| *name != "app-main").unwrap();
    assert_eq!(site.git_in(site.machine(nested).join("workspace"), &["rev-parse", "HEAD"]), newer);
    // And back. A branch with commits of the user stays.
    site.git(&["branch", "--move", "main/x", "main"]);
    let tree = site.git_in(&source, &["rev-parse", "main/x^{tree}"]);
    site.git_in(&source, &["config", "user.name", "Test"]);
    site.git_in(&source, &["config", "user.email", "test@example.invalid"]);
    let own = site.git_in(&source, &["commit-tree", "-p", "main/x", "-m", "own", &tree]);
    site.git_in(&source, &["update-ref", "refs/heads/main/x", &own]);
    site.run(&["destroy", "app-main", "--yes"]).ok();
    let done = site.run(&["create", "--from", &url]).exits(1).gives_one_error().says("is in the way of main");
    done.says(&format!("git -C {} branch --move main/x old-main-x", source.display()));
    site.git_in(&source, &["branch", "--move", "main/x", "old-main-x"]);
    site.run(&["create", "--from", &url]).ok();
    assert_eq!(site.git_in(&source, &["rev-parse", "old-main-x"]), own);
    assert_eq!(site.git_in(site.machine("app-main").join("workspace"), &["rev-parse", "HEAD"]), newer);
}

#[test]
fn the_repository_of_a_url_goes_with_its_last_machine() {
    let site = Site::new();
    let url = remote(&site);
    site.git(&["tag", "-a", "-m", "v1", "v1"]);
    let create = |branch: &str| drop(site.run(&["create", "--from", &url, "--branch", branch]).ok());
    let destroy = |name: &str| site.run(&["destroy", name, "--yes"]).ok();
    create("main");
    create("other");
    let source = source(&site, "app-main");
    destroy("app-main").does_not_say("which had only what the remote has");
    assert!(source.exists(), "another machine uses it");
    destroy("app-other").says("which had only what the remote has");
    assert!(!source.exists());
    // What was fetched, and what the user made there, is only there.
    create("main");
    let workspace = site.machine("app-main").join("workspace");
    site.git_in(&workspace, &["config", "user.name", "Test"]);
    site.git_in(&workspace, &["config", "user.email", "test@example.invalid"]);
    site.commit_in(&workspace, "work", "x");
    site.run_in(site.root(), &["fetch", "app-main"]).ok();
    destroy("app-main");
    assert!(source.exists(), "it has the only copy of a commit");
    site.git_in(&source, &["update-ref", "-d", "refs/agent-vm/app-main/heads/main"]);
    // A bundle was kept, which came from it.
    create("main");
    let workspace = site.machine("app-main").join("workspace");
    fs::write(workspace.join("untracked"), "x").unwrap();
    destroy("app-main").says("kept restore");
    create("main");
    destroy("app-main");
    assert!(source.exists(), "something is kept");
    site.run(&["kept", "prune", "--all", "--yes"]).ok();
    // Another state directory.
    let elsewhere = site.path("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    site.run(&["--state-dir", elsewhere, "create", "--from", &url]).ok();
    create("main");
    destroy("app-main");
    assert!(source.exists(), "another state directory has a machine");
    fs::rename(elsewhere, site.path("disk")).unwrap();
    symlink(site.path("unmounted/disk"), elsewhere).unwrap();
    create("main");
    destroy("app-main");
    assert!(source.exists(), "another state directory is on a disk that is not mounted");
    fs::remove_file(elsewhere).unwrap();
    create("main");
    fs::remove_dir_all(site.repo()).unwrap();
    site.run_in(site.root(), &["prune", "--undeclared", "--yes"]).ok().says("which had only what the remote has");
    assert!(!source.exists());
}
