//! `create --from URL`: machines of a remote repository, without a repository of the user.

use std::fs;
use std::path::PathBuf;

use crate::support::{Site, tree};

/// Makes `ssh` run the other end here, and returns the URL of `app`.
fn remote(site: &Site) -> String {
    site.stand_in("ssh", "for last; do :; done\nexec sh -c \"git ${last#git-}\"");
    format!("ssh://me@host.invalid{}", site.repo().display())
}

/// Returns the bare repository of a machine.
fn source(site: &Site, machine: &str) -> PathBuf {
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
