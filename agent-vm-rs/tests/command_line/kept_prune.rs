//! `kept prune` removes what a repository has, and asks before it removes anything else.

use std::fs;
use std::path::PathBuf;

use crate::destroy::on_a_terminal;
use crate::kept::{destroyed, restored};
use crate::support::Site;
use crate::terminal::on_terminal;

/// A machine with a commit and a changed file, destroyed; returns its name.
fn kept(site: &Site, args: &[&str]) -> String {
    let (workspace, _) = site.create_with_work();
    fs::write(workspace.join("README"), "changed\n").unwrap();
    destroyed(site, args)
}

#[test]
fn only_what_was_restored_is_removed() {
    for keep in ["changes", "workspace"] {
        let site = Site::new();
        let name = kept(&site, &["--keep", keep]);
        let path = site.kept()[0].clone();
        site.run(&["kept", "prune"]).ok().prints("stays").prints("lacks 1 commit and 1 changed file");
        assert!(path.exists());
        // Without a terminal and --yes, nothing is lost.
        for args in [&["kept", "prune", "--all"][..], &["kept", "prune", &name]] {
            site.run(args).exits(1).gives_one_error().says("would be lost").says("agent-vm kept restore KEPT");
        }
        let prefix = restored(&site, &[&name]);
        // A reference is missing again.
        site.git(&["update-ref", "-d", &format!("{prefix}heads/agent-vm/uncommitted")]);
        site.run(&["kept", "prune"]).ok().prints("stays");
        restored(&site, &[&name]);
        site.run(&["kept", "prune", "--older-than", "1d"]).ok().says("nothing is kept");
        site.run(&["kept", "prune", "--dry-run"]).ok().prints("would be removed").prints("has everything of it");
        assert!(path.exists());
        let done = site.run(&["kept", "prune", "--json"]).ok();
        assert_eq!(done.json()[0]["outcome"], "removed", "{keep}");
        assert!(!path.exists() && site.kept().is_empty(), "{keep}");
        site.run(&["kept"]).ok().says("nothing is kept");
    }
}

#[test]
fn the_rest_is_removed_only_when_asked_for() {
    let site = Site::new();
    kept(&site, &[]);
    let damaged = kept(&site, &["--keep", "workspace"]);
    let path = site.kept().into_iter().find(|path| path.ends_with(format!("{damaged}.workspace"))).unwrap();
    fs::write(path.join(".git/packed-refs"), "damage\n").unwrap();
    // What cannot be read stays, also with --all.
    let done = site.run(&["kept", "prune", "--all", "--yes"]).ok();
    done.prints("removed (").prints("stays (it cannot be read completely");
    assert_eq!(site.kept(), std::slice::from_ref(&path));
    site.run(&["kept", "prune", &damaged]).ok().prints("stays");
    site.run(&["kept", "prune", &damaged, "--yes"]).ok().prints("removed");
    assert!(site.kept().is_empty());
}

#[test]
fn a_terminal_is_asked() {
    let site = Site::new();
    let name = kept(&site, &[]);
    let Some(done) = on_a_terminal(&site, "kept prune --all", "n\n") else { return };
    done.exits(1).prints("Remove 1 kept bundle or workspace? The work in 1 of them is lost. [y/N]");
    assert_eq!(site.kept().len(), 1);
    on_a_terminal(&site, &format!("kept prune {name}"), "y\n").unwrap().ok().prints("removed");
    assert!(site.kept().is_empty());
}

/// Another command can keep something, or remove it, before the answer.
#[test]
fn other_commands_go_on_during_the_question() {
    let site = Site::new();
    let first = kept(&site, &[]);
    let second = kept(&site, &[]);
    let mut terminal = on_terminal(&site, &["kept", "prune", "--all"]);
    terminal.shows("[y/N]");
    site.run(&["kept", "prune", &first, "--yes"]).ok().prints("removed");
    let third = kept(&site, &[]);
    terminal.types("y\n");
    assert_eq!(terminal.ends(), Some(0));
    let output = terminal.output();
    assert!(output.contains(&format!("{second}: removed")), "{output}");
    assert!(output.contains(&format!("{third}: stays (it changed since the question")), "{output}");
    assert_eq!(site.kept().len(), 1);
}

/// Files that no commit holds would be lost.
#[test]
fn a_workspace_with_ignored_files_stays() {
    let site = Site::new();
    let (workspace, _) = site.create_with_work();
    site.commit_in(&workspace, ".gitignore", "secret\n");
    fs::write(workspace.join("secret"), "x").unwrap();
    let name = destroyed(&site, &["--keep", "workspace"]);
    restored(&site, &[&name]);
    site.run(&["kept", "prune"]).ok().prints("stays").prints("1 ignored file");
    assert_eq!(site.kept().len(), 1);
}

#[test]
fn a_disk_that_is_away_keeps_its_record() {
    let site = Site::new();
    let disk = site.path("disk");
    let name = kept(&site, &["--keep-in", disk.to_str().unwrap()]);
    fs::rename(&disk, site.path("away")).unwrap();
    site.run(&["kept", "prune", "--all", "--yes"]).ok().prints("stays (its directory does not exist");
    fs::rename(site.path("away"), &disk).unwrap();
    site.run(&["kept"]).ok().prints(&name);
    // A record of something that the user removed goes.
    let file: PathBuf = disk.join(format!("{name}.bundle"));
    fs::remove_file(file).unwrap();
    // Unless its machine exists: `destroy` writes the record first.
    site.create("main");
    site.run(&["kept", "prune"]).ok().prints("stays (it is not there, but its machine is)");
    site.run(&["destroy", "main", "--yes"]).ok();
    site.run(&["kept", "prune"]).ok().prints("removed (it was moved or removed)");
    site.run(&["kept"]).ok().says("nothing is kept");
}

#[test]
fn a_killed_removal_is_completed() {
    let site = Site::new();
    kept(&site, &["--keep", "workspace"]);
    let path = site.kept()[0].clone();
    let name = path.file_name().unwrap().to_str().unwrap();
    fs::rename(&path, path.with_file_name(format!(".gone-{name}"))).unwrap();
    site.run(&["kept", "prune"]).ok();
    assert!(site.kept().is_empty(), "{:?}", site.kept());
}

/// Without its own copy of the objects, a repository would lose them.
#[test]
fn a_repository_that_borrows_from_what_is_kept_does_not_have_it() {
    for elsewhere in [false, true] {
        let site = Site::new();
        let (workspace, commit) = site.create_with_work();
        assert!(workspace.exists());
        let disk = site.path("disk").display().to_string();
        let place = ["--keep-in", &disk];
        let name = destroyed(&site, &[&["--keep", "workspace"][..], if elsewhere { &place[..] } else { &[] }].concat());
        let dir = if elsewhere { site.path("disk") } else { site.state().join(".bundles") };
        let path = dir.join(format!("{name}.workspace"));
        site.git_in(site.root(), &["clone", "--quiet", "--shared", path.to_str().unwrap(), "mine"]);
        let mine = site.path("mine");
        if elsewhere {
            site.run(&["kept", "restore", &name, "--into", mine.to_str().unwrap()]).ok();
        } else {
            // The one that it came from.
            fs::write(
                site.path("app/.git/objects/info/alternates"),
                format!("{}\n", path.join(".git/objects").display()),
            )
            .unwrap();
            site.git(&["branch", "taken", &commit]);
        }
        site.run(&["kept", "prune", "--yes"]).ok().prints("stays").prints("lacks objects of its own");
        assert!(path.exists());
        // Control: it has its own objects.
        let repository = if elsewhere { mine } else { site.repo() };
        site.git_in(&repository, &["repack", "-a", "-d", "--quiet"]);
        fs::remove_file(repository.join(".git/objects/info/alternates")).unwrap();
        site.run(&["kept", "prune", "--yes"]).ok().prints("removed").prints("has everything of it");
        assert!(!path.exists());
        site.git_in(&repository, &["fsck", "--connectivity-only"]);
    }
}

/// Git shows no commit behind a shallow one, and removes it in time.
#[test]
fn a_shallow_repository_does_not_have_the_history() {
    let site = Site::new();
    let (workspace, first) = site.create_with_work();
    site.commit_in(&workspace, "more", "x");
    let url = format!("file://{}", workspace.display());
    site.git_in(site.root(), &["clone", "--quiet", "--depth=1", &url, "mine"]);
    let mine = site.path("mine");
    let name = destroyed(&site, &[]);
    site.run(&["kept", "restore", &name, "--into", mine.to_str().unwrap()])
        .ok()
        .says("is shallow and shows only a part");
    site.run(&["kept", "prune", "--yes"]).ok().prints("stays").prints("because it is shallow");
    assert_eq!(site.kept().len(), 1);
    // Control.
    let bundle = site.kept()[0].display().to_string();
    fs::remove_file(mine.join(".git/shallow")).unwrap();
    site.git_in(&mine, &["fetch", "--quiet", "--refetch", &bundle, "main"]);
    site.git_in(&mine, &["cat-file", "-e", &first]);
    site.run(&["kept", "prune", "--yes"]).ok().prints("has everything of it");
}

#[test]
fn what_is_named_twice_is_removed_once() {
    let site = Site::new();
    let name = kept(&site, &[]);
    let done = site.run(&["kept", "prune", &name, "app-main", "--yes", "--json"]).ok();
    assert_eq!(done.json().as_array().unwrap().len(), 1);
}

#[test]
fn a_file_in_place_of_the_directory_has_a_hint() {
    let site = Site::new();
    site.create("main");
    fs::write(site.state().join(".bundles"), "x").unwrap();
    for args in [&["kept"][..], &["kept", "prune"]] {
        site.run(args)
            .exits(1)
            .gives_one_error()
            .says(".bundles is a file, not a directory")
            .says("hint: move it away");
    }
}

/// The repository has every object, but cannot read one.
#[test]
fn a_damaged_object_does_not_count() {
    for keep in ["workspace", "changes"] {
        damaged_object(keep);
    }
}

fn damaged_object(keep: &str) {
    let site = Site::new();
    let name = kept(&site, &["--keep", keep]);
    let prefix = restored(&site, &[&name]);
    let id = site.git(&["rev-parse", &format!("{prefix}heads/main:work")]);
    let store = site.path("app/.git/objects/pack");
    for file in fs::read_dir(&store).unwrap().flatten().map(|file| file.path()) {
        let moved = site.path(file.file_name().unwrap());
        fs::rename(&file, &moved).unwrap();
        if moved.extension().is_some_and(|end| end == "pack") {
            let mut unpack = site.command("git");
            unpack.args(["unpack-objects", "-q"]).stdin(fs::File::open(&moved).unwrap());
            assert!(unpack.status().unwrap().success());
        }
    }
    let object = site.path("app/.git/objects").join(&id[..2]).join(&id[2..]);
    let whole = fs::read(&object).unwrap();
    let replace = |bytes: &[u8]| {
        fs::remove_file(&object).unwrap();
        fs::write(&object, bytes).unwrap();
    };
    replace(&[&whole[..whole.len() / 2], &[0; 16]].concat());
    let done = site.run(&["kept", "prune", "--yes"]).ok().prints("stays");
    if keep == "workspace" {
        done.prints("lacks an object that is not damaged");
    } else {
        done.prints("app has a damaged object");
        let done = site.run(&["kept", "restore", &name]).exits(1).gives_one_error().says("app has a damaged object");
        done.says("fsck").says("--into DIR");
        site.git_in(site.root(), &["init", "--quiet", "new"]);
        site.run(&["kept", "restore", &name, "--into", site.path("new").to_str().unwrap()]).ok();
        fs::remove_dir_all(site.path("new")).unwrap();
    }
    // Control.
    replace(&whole);
    site.run(&["kept", "prune", "--yes"]).ok().prints("has everything of it");
}
