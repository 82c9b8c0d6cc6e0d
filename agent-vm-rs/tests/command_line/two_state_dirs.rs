//! Machines of one repository in two state directories have the same name, and keep out of each other's references.

use std::fs;

use crate::support::Site;

#[test]
fn neither_changes_the_references_of_the_other() {
    let site = Site::new();
    let other = site.path("other");
    let other = other.to_str().unwrap();
    let (workspace, first) = site.create_with_work();
    site.run(&["create", "--state-dir", other]).ok();
    let workspace_of_other = site.path("other/app-main/workspace");
    let second = site.commit_in(&workspace_of_other, "of-the-other", "x");
    fs::write(workspace.join("README"), "changed\n").unwrap();
    site.run(&["fetch"]).ok();
    let refs = || site.git(&["for-each-ref", "--format=%(objectname) %(refname)", "refs/agent-vm/app-main/"]);
    let before = refs();
    assert!(before.contains(&format!("{first} refs/agent-vm/app-main/heads/main")) && before.contains("/uncommitted"));
    let done = site.run(&["fetch", "--state-dir", other]).ok().prints("refs/agent-vm/app-main.");
    assert_eq!(refs(), before);
    // Every command of the other uses its own.
    let log = site.run(&["log", "--state-dir", other, "--json"]).ok().json();
    assert_eq!(log[0]["commit"], second.as_str(), "{done:?}");
    site.run(&["checkout", "--state-dir", other, "--name", "of-other"]).ok();
    site.run(&["diff", "--state-dir", other]).ok().says("using app-main").prints("of-the-other");
    site.git(&["checkout", "--quiet", "main"]);
    // Also after the first one is gone, and in its next fetch.
    site.run(&["fetch"]).ok();
    site.run(&["destroy", "--yes"]).ok();
    site.run(&["fetch", "--state-dir", other]).ok().prints("has nothing new");
    assert_eq!(refs(), before);
}

/// A downloaded repository may have a link there.
#[test]
fn no_link_is_followed() {
    let site = Site::new();
    site.create_with_work();
    fs::create_dir(site.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(site.path("elsewhere"), site.path("app/.git/agent-vm")).unwrap();
    site.run(&["fetch"]).exits(1).gives_one_error().says(".git/agent-vm is a symbolic link").says("hint: move it away");
    assert_eq!(fs::read_dir(site.path("elsewhere")).unwrap().count(), 0);
    // Control: without the link, the note is written.
    fs::remove_file(site.path("app/.git/agent-vm")).unwrap();
    site.run(&["fetch"]).ok();
    assert_eq!(site.read("app/.git/agent-vm/owners/app-main"), format!("{}\n", site.state().display()));
}

#[test]
fn something_else_in_place_of_our_files_has_a_hint() {
    for path in ["agent-vm", "agent-vm/owners", "agent-vm-fetch"] {
        let site = Site::new();
        site.create_with_work();
        let path = site.path("app/.git").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match path.ends_with("agent-vm-fetch") {
            true => fs::create_dir(&path).unwrap(),
            false => fs::write(&path, "x").unwrap(),
        }
        site.run(&["fetch"]).exits(1).gives_one_error().says(&format!("rm -r -- {}", path.display()));
        fs::rename(&path, site.path("moved")).unwrap();
        site.run(&["fetch"]).ok();
    }
}
