//! Stores that git finds in `objects/info/alternates` by another reading of the file than agent-vm's: git reads only the
//! stores that agent-vm found.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::submodules::{check_out, with_submodules};
use crate::support::{Site, which};

/// Writes a list that leads git to `store`.
fn hide(site: &Site, how: &str, store: &Path, list: &Path) {
    let link = |name: &str| {
        drop(fs::remove_file(site.path(name)));
        symlink(store, site.path(name)).unwrap();
    };
    let (root, shown) = (site.root().display().to_string(), store.display().to_string());
    let text = match how {
        "after a closing quote" => format!("\"/any\"X{shown}\n"),
        "a comment behind a quoted path" => format!("\"{shown}\"#\n"),
        "in a large file" => format!("#{}\n{shown}\n", "x".repeat(1 << 20)),
        "by another escape" => {
            link("a\u{7}b");
            format!("\"{root}/a\\ab\"\n")
        }
        "by a path that ends in a carriage return" => {
            link("link\r");
            format!("{root}/link\r\n")
        }
        "by a quoted path with a newline" => {
            link("li\nnk");
            format!("\"{root}/li\nnk\"\n")
        }
        "by an unterminated quote" => {
            let odd = list.parent().unwrap().parent().unwrap().join("\"odd");
            symlink(store, odd).unwrap();
            "\"odd\n".to_owned()
        }
        _ => panic!("{how}"),
    };
    fs::write(list, text).unwrap();
}

const WAYS: [&str; 7] = [
    "after a closing quote",
    "a comment behind a quoted path",
    "in a large file",
    "by another escape",
    "by a path that ends in a carriage return",
    "by a quoted path with a newline",
    "by an unterminated quote",
];

/// Removes a list, and the link beside it.
fn reveal(list: &Path) {
    fs::remove_file(list).unwrap();
    drop(fs::remove_file(list.parent().unwrap().parent().unwrap().join("\"odd")));
}

fn has(site: &Site, dir: &Path, commit: &str) -> bool {
    let git = site.command(which("git").unwrap()).args(["cat-file", "-e", commit]).current_dir(dir).output().unwrap();
    git.status.success()
}

/// Checks that an error says that the list is refused or names the store.
#[track_caller]
fn is_refused(site: &Site, how: &str, args: &[&str]) {
    let done = site.run(args).exits(1).gives_one_error();
    let named = done.stderr.contains("uses objects of a machine: ");
    assert!(named || done.stderr.contains("cannot be read as a list of object stores"), "{how}: {}", done.stderr);
}

#[test]
fn a_machines_objects_do_not_count_as_the_sources() {
    let site = Site::new();
    let (workspace, commit) = site.create_with_work();
    let list = site.path("app/.git/objects/info/alternates");
    for how in WAYS {
        assert!(!has(&site, &site.repo(), &commit), "control");
        hide(&site, how, &workspace.join(".git/objects"), &list);
        assert!(has(&site, &site.repo(), &commit), "control: {how}");
        // The source then seems to have the commit.
        fs::write(site.path("app/.git/refs/heads/other"), &commit).unwrap();
        is_refused(&site, how, &["destroy", "--yes"]);
        is_refused(&site, how, &["create", "--branch", "other"]);
        assert_eq!(site.names(), ["app-main"], "{how}");
        reveal(&list);
        fs::remove_file(site.path("app/.git/refs/heads/other")).unwrap();
    }
    site.run(&["destroy", "--yes"]).ok().says("take it back: agent-vm kept restore");
}

#[test]
fn another_repositorys_objects_are_not_copied() {
    let site = Site::new();
    site.git(&["clone", "--quiet", ".", "../private"]);
    let private = site.path("private");
    for (key, value) in [("user.name", "Test"), ("user.email", "test@example.invalid")] {
        site.git_in(&private, &["config", key, value]);
    }
    let commit = site.commit_in(&private, "secret", "x");
    let list = site.path("app/.git/objects/info/alternates");
    for how in WAYS {
        hide(&site, how, &private.join(".git/objects"), &list);
        fs::write(site.path("app/.git/refs/heads/other"), &commit).unwrap();
        assert!(has(&site, &site.repo(), &commit), "control: {how}");
        let done = site.run(&["create", "--branch", "other"]);
        if done.code == Some(0) {
            done.says("borrows objects from").says(&private.display().to_string());
            site.run(&["destroy", "other", "--yes"]).ok();
        } else {
            done.gives_one_error().says("cannot be read as a list of object stores").says("hint: if you trust");
        }
        reveal(&list);
    }
}

/// Git follows the list of a borrowed store, too.
#[test]
fn a_borrowed_stores_list_is_read_in_the_same_way() {
    let site = Site::new();
    let (workspace, commit) = site.create_with_work();
    site.git_in(site.root(), &["init", "--quiet", "--bare", "between"]);
    fs::write(site.path("app/.git/objects/info/alternates"), "../../../between/objects\n").unwrap();
    for how in WAYS {
        let list = site.path("between/objects/info/alternates");
        hide(&site, how, &workspace.join(".git/objects"), &list);
        assert!(has(&site, &site.repo(), &commit), "control: {how}");
        is_refused(&site, how, &["destroy", "--yes"]);
        reveal(&list);
    }
    site.run(&["destroy", "--yes"]).ok().says("take it back: agent-vm kept restore");
}

#[test]
fn a_submodule_with_such_a_list_stays_empty() {
    let site = Site::new();
    with_submodules(&site);
    check_out(&site);
    let store = site.path("sub.origin/.git/objects");
    let list = site.path("app/.git/modules/libs/the sub/objects/info/alternates");
    hide(&site, "after a closing quote", &store, &list);
    site.run(&["create"])
        .ok()
        .says("the submodule libs/the sub stays empty: ")
        .says("cannot be read as a list of object stores");
    assert!(!site.machine("app-main").join("workspace/libs/the sub/file").exists());
}

/// The error's hint names no file that the repository chooses.
#[test]
fn a_pipe_in_a_borrowed_store_is_not_to_be_moved() {
    let site = Site::new();
    site.git_in(site.root(), &["init", "--quiet", "--bare", "between"]);
    let fifo = site.path("between/objects/pack/x.idx");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o600.into()).unwrap();
    fs::write(site.path("app/.git/objects/info/alternates"), "../../../between/objects\n").unwrap();
    let refused = site.run(&["create"]).exits(1).gives_one_error();
    refused.says("x.idx is not a regular file").says("hint: list the links").does_not_say("mv --");
    // Control: its own pipe may be moved.
    fs::remove_file(site.path("app/.git/objects/info/alternates")).unwrap();
    site.run(&["create"]).ok();
    fs::rename(&fifo, site.path("app/.git/objects/pack/x.idx")).unwrap();
    site.run(&["destroy", "--yes"]).exits(1).gives_one_error().says("hint: move it away: mv -- ");
}
