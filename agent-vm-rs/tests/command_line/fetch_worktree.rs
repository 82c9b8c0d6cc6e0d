//! `fetch --worktree` writes the uncommitted changes of a machine to a file.

use std::fs;

use crate::support::Site;

#[test]
fn uncommitted_changes_become_a_patch() {
    let site = Site::new();
    let (workspace, _) = site.create_with_work();
    site.run(&["fetch", "--worktree"]).ok().says("app-main has no uncommitted changes");
    assert!(!site.path("app/app-main-uncommitted.patch").exists());
    fs::write(workspace.join("README"), "changed\n").unwrap();
    fs::write(workspace.join("work"), b"binary\0\n").unwrap();
    fs::write(workspace.join("new"), "staged\n").unwrap();
    site.git_in(&workspace, &["add", "new"]);
    fs::write(workspace.join("new"), "new\n").unwrap();
    fs::remove_file(workspace.join("second")).unwrap();
    let done = site.run(&["fetch", "--worktree"]).ok().says("git apply app-main-uncommitted.patch");
    done.prints("refs/agent-vm/app-main/uncommitted");
    let elsewhere = site.path("x.patch");
    let json = site.run(&["fetch", "--output", elsewhere.to_str().unwrap(), "--json"]).ok().json();
    assert_eq!(json["patch"].as_str(), elsewhere.to_str());
    assert_eq!(site.read("x.patch"), site.read("app/app-main-uncommitted.patch"));
    // On top of the machine's commit, it gives the machine's files, and no commit.
    site.run(&["merge"]).ok();
    let head = site.git(&["rev-parse", "HEAD"]);
    site.git(&["apply", "app-main-uncommitted.patch"]);
    for file in ["README", "work", "new"] {
        assert_eq!(fs::read(site.path("app").join(file)).unwrap(), fs::read(workspace.join(file)).unwrap(), "{file}");
    }
    assert!(!site.path("app/second").exists());
    assert_eq!(site.git(&["rev-parse", "HEAD"]), head);
    // Control: an ordinary fetch writes no file, and says nothing of one.
    fs::remove_file(site.path("app/app-main-uncommitted.patch")).unwrap();
    let json = site.run(&["fetch", "--json"]).ok().json();
    assert!(json.get("patch").is_none() && !site.path("app/app-main-uncommitted.patch").exists());
    site.run(&["fetch", "--worktree", "--committed"]).exits(2);
}

/// A former snapshot must not be taken for the changes of now.
#[test]
fn changes_that_cannot_be_fetched_write_no_file() {
    let site = Site::new();
    let (workspace, _) = site.create_with_work();
    fs::write(workspace.join("README"), "changed\n").unwrap();
    site.run(&["fetch"]).ok();
    fs::File::create(workspace.join("large")).unwrap().set_len(1 << 30).unwrap();
    let done = site.run(&["fetch", "--worktree"]).exits(1).says("are too large to copy");
    done.gives_one_error().says("the uncommitted changes of app-main were not fetched");
    assert!(!site.path("app/app-main-uncommitted.patch").exists());
}

/// As root, a rename would replace the device itself.
#[test]
fn no_device_or_pipe_is_replaced_by_a_patch() {
    let site = Site::new();
    let (workspace, _) = site.create_with_work();
    fs::write(workspace.join("README"), "changed\n").unwrap();
    let pipe = site.path("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let link = site.path("link");
    std::os::unix::fs::symlink(&pipe, &link).unwrap();
    for file in [&pipe, &link] {
        for verb in ["fetch", "diff"] {
            let refused = site.run(&[verb, "--output", file.to_str().unwrap()]).exits(1).gives_one_error();
            refused.says("is a named pipe, and a new file would replace it").says("choose the name of a file");
        }
    }
    assert!(link.is_symlink() && !fs::metadata(&pipe).unwrap().is_file());
    // Control.
    site.run(&["diff", "--output", site.path("file").to_str().unwrap()]).ok();
}

/// An agent may clone another repository in its work tree.
#[test]
fn what_git_cannot_save_leaves_the_other_changes() {
    let site = Site::new();
    let (workspace, _) = site.create_with_work();
    fs::write(workspace.join("README"), "changed\n").unwrap();
    site.git_in(&workspace, &["init", "--quiet", "nested"]);
    fs::create_dir(workspace.join(".GIT")).unwrap();
    fs::write(workspace.join(".GIT/x"), "x").unwrap();
    let done = site.run(&["fetch", "--worktree"]).ok();
    done.says("not fetched from app-main: nested/, a repository").says("1 file that git does not save, such as .GIT/x");
    assert!(site.read("app/app-main-uncommitted.patch").contains("+changed"));
    // Without other changes there is no snapshot.
    site.git_in(&workspace, &["checkout", "--quiet", "README"]);
    site.run(&["fetch"]).ok().says("nested/, a repository");
    assert_eq!(site.git(&["for-each-ref", "refs/agent-vm/app-main/uncommitted"]), "");
    // An index that says that it has four thousand million entries.
    let index = [b"DIRC\0\0\0\x02\xff\xff\xff\xff".as_slice(), &[0; 100]].concat();
    fs::write(workspace.join(".git/index"), index).unwrap();
    site.git_in(&workspace, &["branch", "later"]);
    site.run(&["fetch"]).ok().says("not fetched from app-main: uncommitted changes").prints("heads/later");
}
