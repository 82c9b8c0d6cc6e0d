//! `create` says what a clone does not have, and copies it when asked.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use crate::support::{Site, tree};

/// Makes a repository with changes of every kind; returns git's list of them.
fn changed() -> (Site, String) {
    let site = Site::new();
    site.write("app/.gitignore", ".env\n*.cache\nnode_modules/\n");
    site.write("app/staged", "old\n");
    fs::create_dir(site.path("app/dir")).unwrap();
    site.write("app/dir/removed", "x\n");
    site.write("app/becomes-a-directory", "x\n");
    site.commit("run", "x\n");
    site.write("app/staged", "new\n");
    site.git(&["add", "staged"]);
    site.write("app/README", "changed\n");
    fs::remove_file(site.path("app/dir/removed")).unwrap();
    fs::remove_file(site.path("app/becomes-a-directory")).unwrap();
    fs::create_dir_all(site.path("app/becomes-a-directory/a b")).unwrap();
    site.write("app/becomes-a-directory/a b/new", "new\n");
    fs::set_permissions(site.path("app/run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("README", site.path("app/link")).unwrap();
    site.write("app/.env", "SECRET=1\n");
    fs::create_dir(site.path("app/node_modules")).unwrap();
    site.write("app/node_modules/x", "x\n");
    let list = site.git(&["-c", "core.quotePath=false", "status", "--short", "--untracked-files=all"]);
    (site, list)
}

fn workspace(site: &Site) -> PathBuf {
    site.machine("app-main").join("workspace")
}

#[test]
fn uncommitted_changes_are_copied_when_asked() {
    let (site, list) = changed();
    let before = tree(&site.repo());
    site.run(&["create"]).ok().says("not copied into the machine: 6 uncommitted changes and 2 ignored files in");
    assert_eq!(site.git_in(workspace(&site), &["status", "--short"]), "");
    site.run(&["destroy", "--yes"]).ok();
    let done = site.run(&["create", "--dirty"]).ok();
    done.says("copied into the machine: 7 uncommitted changes in").says("not copied into the machine: 2 ignored files");
    let there = workspace(&site);
    // What was staged is not: it is a state of the work tree.
    let inside = site.git_in(&there, &["-c", "core.quotePath=false", "status", "--short", "--untracked-files=all"]);
    let names = |list: &str| -> Vec<String> {
        let mut names: Vec<_> =
            list.lines().map(|line| line.trim_start()[1..].trim_start_matches(['?', ' ']).to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&inside), names(&list), "{inside}");
    assert_eq!(fs::read_to_string(there.join("becomes-a-directory/a b/new")).unwrap(), "new\n");
    assert_eq!(fs::read_link(there.join("link")).unwrap(), PathBuf::from("README"));
    assert!(!there.join("dir").exists() && !there.join(".env").exists());
    assert_eq!(site.git_in(&there, &["rev-parse", "HEAD"]), site.git(&["rev-parse", "HEAD"]), "no commit was made");
    assert_eq!(tree(&site.repo()), before, "the source did not change");
    // They are in the machine now, and count as its changes.
    site.run(&["fetch"]).ok().prints("refs/agent-vm/app-main/uncommitted");
}

#[test]
fn ignored_files_are_copied_when_asked() {
    let (site, _) = changed();
    site.run(&["create", "--include", ".env"]).ok().says("copied into the machine: 1 ignored file in");
    assert_eq!(fs::read_to_string(workspace(&site).join(".env")).unwrap(), "SECRET=1\n");
    assert!(!workspace(&site).join("node_modules").exists() && !workspace(&site).join("link").exists());
    site.run(&["destroy", "--yes"]).ok();
    // The repository lists them. A pattern that matches other files copies only the ignored ones.
    site.write("app/.worktreeinclude", "# for new work trees\n.env\n*.cache\n/link\n");
    site.write("app/a.cache", "x");
    site.run(&["create"]).ok().says("copied into the machine: 2 ignored files in");
    assert!(workspace(&site).join("a.cache").exists() && !workspace(&site).join("link").exists());
}

#[test]
fn changes_of_another_branch_are_refused() {
    let (site, _) = changed();
    site.git(&["branch", "other", "HEAD~1"]);
    let done = site.run(&["create", "--branch", "other", "--dirty"]).exits(2).gives_one_error();
    done.says("the uncommitted changes are not those of other").says("git switch other");
    assert!(site.names().is_empty());
    site.assert_nothing_left();
    // A new branch starts at the same commit.
    site.run(&["create", "--branch", "new", "--dirty"]).ok().says("7 uncommitted changes");
}

/// A downloaded repository chooses what its patterns match and where its links lead.
#[test]
fn no_link_of_the_repository_is_followed() {
    let site = Site::new();
    fs::create_dir(site.path("private")).unwrap();
    site.write("private/key", "secret\n");
    site.write("app/.gitignore", "ignored\nout\n");
    site.commit("x", "x");
    fs::create_dir(site.path("app/sub")).unwrap();
    symlink(site.path("private"), site.path("app/out")).unwrap();
    symlink(site.path("private"), site.path("app/tracked")).unwrap();
    site.write("app/.worktreeinclude", "*\n/out/key\n../private/*\n");
    site.run(&["create", "--dirty", "--include", "../private/key", "--include", "/out/*"]).ok();
    let holds = |site: &Site| tree(&workspace(site)).values().any(|contents| contents.contains("secret"));
    assert!(!holds(&site));
    // Control: the links were copied as links.
    assert!(workspace(&site).join("out").symlink_metadata().unwrap().is_symlink());
    site.run(&["destroy", "--yes"]).ok();
    // A list that is itself a link to a file elsewhere is not read.
    fs::remove_file(site.path("app/.worktreeinclude")).unwrap();
    symlink(site.path("private/key"), site.path("app/.worktreeinclude")).unwrap();
    site.run(&["create"]).ok().does_not_say("copied into the machine: 1 ignored");
}

/// As after a clone of a repository with git-crypt. Its filter does not run; what it decrypted must not reach the machine.
#[test]
fn what_a_filter_wrote_is_no_change() {
    let site = Site::new();
    for (key, value) in [("clean", "sed s/plain/cipher/"), ("smudge", "sed s/cipher/plain/"), ("required", "true")] {
        site.git(&["config", "--global", &format!("filter.crypt.{key}"), value]);
    }
    site.write("app/.gitattributes", "*.key filter=crypt\n");
    for name in ["a.key", "b.key"] {
        site.commit(name, "plain\n");
    }
    let check_out = || {
        for name in ["a.key", "b.key"] {
            fs::remove_file(site.repo().join(name)).unwrap();
        }
        site.git(&["checkout", "--quiet", "--", "."]);
    };
    check_out();
    assert_eq!(fs::read_to_string(site.path("app/a.key")).unwrap(), "plain\n");
    site.run(&["create"]).ok().does_not_say("uncommitted");
    site.run(&["destroy", "--yes"]).ok();
    site.run(&["create", "--dirty"]).ok().does_not_say("uncommitted");
    for name in ["a.key", "b.key"] {
        assert_eq!(fs::read_to_string(workspace(&site).join(name)).unwrap(), "cipher\n");
    }
    site.run(&["destroy", "--yes"]).ok();
    // Control: a change by the user, in a file that was replaced.
    fs::remove_file(site.path("app/a.key")).unwrap();
    site.write("app/a.key", "mine!\n");
    site.run(&["create", "--dirty"]).ok().says("copied into the machine: 1 uncommitted change in");
    assert_eq!(fs::read_to_string(workspace(&site).join("a.key")).unwrap(), "mine!\n");
    assert_eq!(fs::read_to_string(workspace(&site).join("b.key")).unwrap(), "cipher\n");
}
