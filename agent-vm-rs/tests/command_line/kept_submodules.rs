//! `kept restore` brings the work in submodules of a kept workspace into the source repository, which lacks the objects of the
//! user's own submodules.

use std::fs;

use crate::kept::{destroyed, restored};
use crate::submodules::{check_out, with_submodules};
use crate::support::Site;

/// Returns the submodules' references below a restored prefix.
fn of_submodules(site: &Site, prefix: &str) -> Vec<String> {
    let listed = site.git(&["for-each-ref", "--format=%(refname)", &format!("{prefix}submodules")]);
    listed.lines().map(|name| name[prefix.len()..].to_owned()).collect()
}

#[test]
fn work_in_a_submodule_is_restored_and_the_users_own_commits_are_not() {
    let site = Site::new();
    with_submodules(&site);
    check_out(&site);
    site.create("main");
    let name = destroyed(&site, &["--keep", "workspace"]);
    let prefix = restored(&site, &[&name]);
    assert_eq!(of_submodules(&site, &prefix), [""; 0]);

    site.create("main");
    let sub = site.machine("app-main").join("workspace/libs/the sub");
    for (key, value) in [("user.name", "x"), ("user.email", "x@example.invalid")] {
        site.git_in(&sub, &["config", key, value]);
    }
    let commit = site.commit_in(&sub, "work", "x");
    fs::write(sub.join("file"), "changed").unwrap();
    let name = destroyed(&site, &[]);
    let shown = site.run(&["kept", "show", &name]).ok().stdout;
    assert!(!shown.contains("of-the-guest"), "{shown}");
    let prefix = restored(&site, &[&name]);
    assert_eq!(site.git(&["rev-parse", &format!("{prefix}submodules/libs/the-sub/detached")]), commit);
    let changed = format!("{prefix}submodules/libs/the-sub/heads/agent-vm/uncommitted");
    assert_eq!(site.git(&["show", &format!("{changed}:file")]), "changed");
    let files = site.git(&["ls-tree", "--name-only", &changed]);
    assert!(!files.contains("of-the-guest"), "{files}");
    // The whole history is there.
    site.git(&["fsck", "--full", "--strict"]);

    // Another repository has no such submodule.
    site.git_in(site.root(), &["init", "--quiet", "new"]);
    site.run(&["kept", "restore", &name, "--into", site.path("new").to_str().unwrap()]).ok();
    site.git_in(site.path("new"), &["fsck", "--full", "--strict"]);
}
