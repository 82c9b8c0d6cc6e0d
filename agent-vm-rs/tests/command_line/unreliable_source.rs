//! A source repository that does not really have what its references promise: `destroy` counts nothing of it as saved.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::submodules::{check_out, with_submodules};
use crate::support::{Done, Running, Site, skip, wait_until, which};

/// Creates a machine of a repository with two commits, and a commit in it; returns the workspace and its commit.
fn machine(site: &Site) -> (PathBuf, String) {
    site.commit("second", "x");
    site.create_with_work()
}

/// The only copy of the commit is in the workspace.
#[test]
fn a_source_that_uses_the_workspaces_objects_is_refused() {
    let refuses = |site: &Site, hint: &str| {
        site.run(&["destroy", "--yes"])
            .exits(1)
            .gives_one_error()
            .says("app-main was not removed")
            .says("uses objects of a machine")
            .says(hint);
        site.run(&["status"]).ok().prints("uses objects of a machine");
        assert_eq!((site.names(), site.kept().len()), (vec!["app-main".to_owned()], 0));
    };
    for is_link in [false, true] {
        let site = Site::new();
        let (workspace, commit) = machine(&site);
        let (store, own) = (workspace.join(".git/objects"), site.path("app/.git/objects"));
        if is_link {
            fs::rename(&own, site.path("objects")).unwrap();
            symlink(&store, &own).unwrap();
        } else {
            fs::write(own.join("info/alternates"), format!("{}\n", store.display())).unwrap();
        }
        site.git(&["branch", "taken", &commit]);
        refuses(&site, if is_link { "git clone --no-local" } else { "repack -a -d && rm " });
        // Control: with objects of its own, and without the commit, the commit is saved.
        if is_link {
            fs::remove_file(&own).unwrap();
            fs::rename(site.path("objects"), &own).unwrap();
        } else {
            fs::remove_file(own.join("info/alternates")).unwrap();
        }
        site.run(&["destroy", "--yes"]).ok().says("removed app-main");
        assert_eq!(site.kept().len(), 1);
    }
    let site = Site::new();
    let (workspace, _) = machine(&site);
    fs::remove_dir_all(site.repo()).unwrap();
    let clone =
        |how: &str, to: &str| site.git_in(site.root(), &["clone", "--quiet", how, workspace.to_str().unwrap(), to]);
    clone("--shared", "other");
    let relink = |from: &str| site.run_in(site.path(from), &["relink", "app-main"]);
    relink("other").exits(1).gives_one_error().says("uses objects of a machine").says("repack -a -d && rm ");
    // The same at the source's own path.
    clone("--shared", "app");
    refuses(&site, "repack -a -d && rm ");
    // Control: a clone with its own objects.
    clone("--no-local", "whole");
    relink("whole").ok();
    site.run_in(site.path("whole"), &["destroy", "--yes"]).ok().says("removed app-main");
}

/// An object that the source's own history needs exists only in the workspace.
#[test]
fn objects_that_the_source_has_lost_are_kept() {
    for what in ["main~1", "main~1^{tree}", "main:README"] {
        let site = Site::new();
        site.commit("second", "x");
        site.create("main");
        let object = site.git(&["rev-parse", what]);
        fs::remove_file(site.path(format!("app/.git/objects/{}/{}", &object[..2], &object[2..]))).unwrap();
        site.run(&["destroy", "--yes"]).ok().says("1 object missing in its damaged source").says("kept whole in");
        let [workspace] = &site.kept()[..] else { panic!("{what}: {:?}", site.kept()) };
        site.git_in(workspace, &["-c", "safe.directory=*", "cat-file", "-e", &object]);
    }
    // Control: what the source never had is no hole.
    let site = Site::new();
    let (workspace, _) = machine(&site);
    fs::write(workspace.join("garbage"), "garbage").unwrap();
    site.git_in(&workspace, &["add", "garbage"]);
    site.git_in(&workspace, &["reset", "--quiet"]);
    fs::remove_file(workspace.join("garbage")).unwrap();
    site.run(&["destroy", "--yes"]).ok().does_not_say("damaged").says(".bundle");
}

/// An object of the source has its type and size, but not its contents.
#[test]
fn objects_that_are_damaged_in_the_source_are_kept() {
    // Numbers that do not compress.
    let contents: String =
        (0..4000_u64).map(|number| format!("{}\n", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    for packed in [false, true] {
        let site = Site::new();
        site.commit("large", &contents);
        site.create("main");
        // Control: an undamaged source has everything.
        site.create("other");
        site.run(&["destroy", "other", "--yes"]).ok().does_not_say("kept");
        let object = site.git(&["rev-parse", "main:large"]);
        let file = if packed {
            site.git(&["repack", "-a", "-d", "-q"]);
            let packs = fs::read_dir(site.path("app/.git/objects/pack")).unwrap().flatten().map(|entry| entry.path());
            packs.into_iter().find(|path| path.extension().is_some_and(|end| end == "pack")).unwrap()
        } else {
            site.path(format!("app/.git/objects/{}/{}", &object[..2], &object[2..]))
        };
        let mut bytes = fs::read(&file).unwrap();
        if packed {
            let middle = bytes.len() / 2;
            bytes[middle..middle + 64].fill(0);
        } else {
            bytes.truncate(4096);
        }
        fs::remove_file(&file).unwrap();
        fs::write(&file, bytes).unwrap();
        let kind = site.git(&["cat-file", "-t", &object]);
        assert_eq!(kind, "blob", "control: git finds the object");
        site.run(&["destroy", "--yes"]).ok().says("in its damaged source").says("kept whole in");
        let [workspace] = &site.kept()[..] else { panic!("{packed}: {:?}", site.kept()) };
        let kept = site.git_in(workspace, &["-c", "safe.directory=*", "cat-file", "blob", &object]);
        assert_eq!(kept, contents.trim_end(), "{packed}");
    }
}

/// Single directories and files of the source's store are links into the workspace.
#[test]
fn a_store_with_links_into_the_workspace_is_refused() {
    for part in ["pack", "loose directory", "loose object"] {
        let site = Site::new();
        let (workspace, commit) = machine(&site);
        let (theirs, own) = (workspace.join(".git/objects"), site.path("app/.git/objects"));
        let (dir, file) = commit.split_at(2);
        let link = match part {
            "pack" => {
                site.git_in(&workspace, &["repack", "-a", "-d", "-q"]);
                fs::remove_dir_all(own.join("pack")).unwrap();
                "pack".to_owned()
            }
            "loose directory" => {
                for object in fs::read_dir(own.join(dir)).into_iter().flatten().flatten() {
                    fs::copy(object.path(), theirs.join(dir).join(object.file_name())).unwrap();
                }
                drop(fs::remove_dir_all(own.join(dir)));
                dir.to_owned()
            }
            _ => {
                fs::create_dir_all(own.join(dir)).unwrap();
                format!("{dir}/{file}")
            }
        };
        symlink(theirs.join(&link), own.join(&link)).unwrap();
        site.run(&["destroy", "--yes"]).exits(1).gives_one_error().says("uses objects of a machine");
        assert_eq!((site.names(), site.kept().len()), (vec!["app-main".to_owned()], 0), "{part}");
        // Control: a link to elsewhere is no object of a machine.
        fs::remove_file(own.join(&link)).unwrap();
        fs::rename(own.join("info"), site.path("info")).unwrap();
        symlink(site.path("info"), own.join("info")).unwrap();
        site.run(&["destroy", "--yes"]).ok().says("removed app-main");
        assert_eq!(site.kept().len(), 1, "{part}");
    }
}

/// A power cut can leave empty files.
#[test]
fn objects_that_are_empty_in_the_source_are_kept() {
    for what in ["main", "main~1", "main~1^{tree}", "main:README"] {
        let site = Site::new();
        site.commit("second", "x");
        site.create("main");
        let object = site.git(&["rev-parse", what]);
        let file = site.path(format!("app/.git/objects/{}/{}", &object[..2], &object[2..]));
        fs::remove_file(&file).unwrap();
        fs::write(&file, "").unwrap();
        site.run_in(site.root(), &["destroy", "app-main", "--yes"]).ok().says("removed app-main");
        let [workspace] = &site.kept()[..] else { panic!("{what}: {:?}", site.kept()) };
        site.git_in(workspace, &["-c", "safe.directory=*", "cat-file", "-e", &object]);
    }
}

#[test]
fn objects_that_a_submodule_of_the_source_has_lost_are_kept() {
    let site = Site::new();
    with_submodules(&site);
    check_out(&site);
    site.create("main");
    let sub = site.path("app/libs/the sub");
    let object = site.git_in(&sub, &["rev-parse", "HEAD~1"]);
    let git_dir = PathBuf::from(site.git_in(&sub, &["rev-parse", "--absolute-git-dir"]));
    site.git_in(&sub, &["repack", "-a", "-d", "-q"]);
    for pack in fs::read_dir(git_dir.join("objects/pack")).unwrap().map(|entry| entry.unwrap().path()) {
        let to = site.path(pack.file_name().unwrap());
        fs::rename(&pack, &to).unwrap();
        if to.extension().is_some_and(|end| end == "pack") {
            let mut unpack = site.command(which("git").unwrap());
            let unpack = unpack.args(["unpack-objects", "-q"]).current_dir(&sub).stdin(fs::File::open(&to).unwrap());
            assert!(unpack.status().unwrap().success());
        }
    }
    fs::remove_file(git_dir.join("objects").join(&object[..2]).join(&object[2..])).unwrap();
    let done = site.run(&["destroy", "--yes"]).ok().says("the submodule libs/the sub (1 object missing");
    done.says("kept whole in");
    assert_eq!(site.kept().len(), 1);
}

/// Its name is the hash of the contents, so a file with others is damaged.
#[test]
fn large_files_that_the_source_lacks_are_kept() {
    const HASH: &str = "d1b2a59fbea7e20077af9f91b27e95e865061b270be03ff539ab3b73587882e8";
    for there in ["contents", "", "content", "CONTENTS", "a link"] {
        let site = Site::new();
        site.create("main");
        let workspace = site.machine("app-main").join("workspace");
        let dirs = [workspace.join(".git"), site.path("app/.git")];
        let [theirs, own] = dirs.map(|dir| dir.join("lfs/objects").join(&HASH[..2]).join(&HASH[2..4]).join(HASH));
        fs::create_dir_all(theirs.parent().unwrap()).unwrap();
        fs::write(&theirs, "contents").unwrap();
        if there == "a link" {
            symlink(workspace.join(".git/lfs"), site.path("app/.git/lfs")).unwrap();
        } else {
            fs::create_dir_all(own.parent().unwrap()).unwrap();
            fs::write(&own, there).unwrap();
        }
        let done = site.run(&["destroy", "--yes"]).ok();
        // Control: the source has the contents.
        if there == "contents" {
            done.does_not_say("kept");
            continue;
        }
        done.says("large files that its source lacks").says("kept whole in");
        assert_eq!(site.kept().len(), 1, "{there}");
    }
}

/// Git would wait for a writer.
#[test]
fn a_pipe_in_the_source_blocks_no_command() {
    for file in ["packed-refs", "objects/info/alternates"] {
        let site = Site::new();
        machine(&site);
        let path = site.path("app/.git").join(file);
        drop(fs::remove_file(&path));
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        site.run(&["destroy", "--yes"]).exits(1).gives_one_error().says(file).says("is not a regular file");
        site.run(&["status"]).ok().prints("is not a regular file");
        site.run(&["status", "nosuch"]).exits(1).gives_one_error();
        site.run(&["list"]).ok().prints("app-main");
        // Control.
        fs::remove_file(&path).unwrap();
        site.run(&["destroy", "--yes"]).ok();
    }
}

/// Also below a store that the source borrows from, and behind a link.
#[test]
fn no_pipe_that_git_would_read_blocks_a_command() {
    let site = Site::new();
    machine(&site);
    let lender = site.path("lender");
    site.git(&["clone", "--quiet", "--bare", ".", lender.to_str().unwrap()]);
    fs::write(site.path("app/.git/objects/info/alternates"), format!("{}/objects\n", lender.display())).unwrap();
    let pipe = site.path("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    let outside = site.path("outside");
    fs::create_dir(&outside).unwrap();
    mkfifoat(CWD, outside.join("x"), Mode::RUSR | Mode::WUSR).unwrap();
    let zeros = "0".repeat(38);
    let loose = format!("app/.git/objects/00/{zeros}");
    let refused = |path: &Path, why: &str| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let finished = |args: &[&str]| {
            let mut child =
                Running::new(site.agent_vm(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
            wait_until(&format!("{args:?} with a pipe at {}", path.display()), || child.ended());
            Done::new(format!("{args:?} with a pipe at {}", path.display()), &child.output())
        };
        finished(&["destroy", "--yes"]).exits(1).gives_one_error().says(name).says(why).says("hint: ");
        finished(&["relink", "app-main"]).exits(1).gives_one_error().says(name).says(why);
        finished(&["status"]).ok().prints(name);
        finished(&["create", "--branch", "new"]).exits(1).gives_one_error();
        finished(&["stop", "nosuch"]).exits(1).gives_one_error();
        finished(&["list"]).ok().prints("app-main");
        assert_eq!((site.names(), site.kept().len()), (vec!["app-main".to_owned()], 0));
    };
    for (file, is_link) in [
        ("app/.git/objects/pack/multi-pack-index", false),
        ("app/.git/objects/pack/multi-pack-index", true),
        ("app/.git/refs/heads/x", false),
        ("app/.git/refs/heads/x", true),
        ("app/.git/refs/tags/deep/x", false),
        (&loose, false),
        ("app/.git/objects/pack/pack-x.idx", false),
        ("app/.git/objects/info/commit-graph", false),
        ("app/.git/objects/info/commit-graphs/commit-graph-chain", false),
        ("app/.git/shallow", false),
        ("lender/objects/info/alternates", false),
        ("lender/objects/pack/pack-x.idx", false),
    ] {
        let path = site.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if is_link {
            symlink(&pipe, &path).unwrap();
        } else {
            mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        }
        refused(&path, "is not a regular file");
        fs::remove_file(&path).unwrap();
    }
    // Git looks for references in any directory.
    let link = site.path("app/.git/refs/heads/linked");
    symlink(&outside, &link).unwrap();
    refused(&link, "is not a part of its repository");
    fs::remove_file(&link).unwrap();
    // Control: git reads none of these.
    for file in ["app/.git/logs/x", "app/.git/info/x", "app/.git/worktrees/x/HEAD"] {
        let path = site.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
    }
    symlink("nowhere", site.path("app/.git/refs/heads/dangling")).unwrap();
    site.run(&["status"]).ok().prints("1 commit not in the source repository");
    site.run(&["destroy", "--yes"]).ok().says("the commits that only app-main had are in");
}

#[test]
fn a_pipe_among_tables_of_references_blocks_no_command() {
    let site = Site::new();
    let tables = site.path("tables");
    let mut init = site.command(which("git").unwrap());
    if !init.args(["init", "--quiet", "--ref-format=reftable"]).arg(&tables).output().unwrap().status.success() {
        return skip("this git supports only one format of references");
    }
    site.git_in(&tables, &["fetch", "--quiet", "../app", "main:main", "--update-head-ok"]);
    site.git_in(&tables, &["symbolic-ref", "HEAD", "refs/heads/main"]);
    site.run_in(&tables, &["create"]).ok();
    let path = tables.join(".git/reftable/tables.list");
    let list = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
    for (args, code) in
        [(&["destroy", "tables-main", "--yes"][..], 1), (&["create"], 1), (&["status", "tables-main"], 0)]
    {
        let mut command = site.agent_vm(args);
        let command = command.current_dir(&tables).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Running::new(command.spawn().unwrap());
        wait_until(&format!("{args:?}"), || child.ended());
        let done = Done::new(format!("{args:?}"), &child.output()).exits(code);
        assert!(format!("{}{}", done.stdout, done.stderr).contains("tables.list"), "{done:?}");
    }
    // Control.
    fs::remove_file(&path).unwrap();
    fs::write(&path, list).unwrap();
    site.run_in(&tables, &["destroy", "--yes"]).ok().says("removed tables-main");
}
