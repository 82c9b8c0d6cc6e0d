//! `create` refuses a source that reads objects from a machine's workspace: the guest writes them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::submodules::{check_out, with_submodules};
use crate::support::Site;

/// Creates a machine with a commit, and the branch `other` at that commit in a source that borrows it from `store`.
fn borrow(site: &Site, how: &str) -> PathBuf {
    let (workspace, commit) = site.create_with_work();
    let (theirs, own) = (workspace.join(".git/objects"), site.path("app/.git/objects"));
    let lend = |to: &Path, from: &Path| fs::write(to.join("info/alternates"), format!("{}\n", from.display())).unwrap();
    match how {
        "directly" => lend(&own, &theirs),
        "by a link" => {
            symlink(&theirs, site.path("link")).unwrap();
            lend(&own, &site.path("link"));
        }
        "in a chain" => {
            site.git_in(site.root(), &["init", "--quiet", "--bare", "between"]);
            lend(&site.path("between/objects"), &theirs);
            lend(&own, &site.path("between/objects"));
        }
        _ => {
            site.git_in(site.root(), &["init", "--quiet", "--bare", "between"]);
            site.git_in(&workspace, &["repack", "-a", "-d", "-q"]);
            fs::remove_dir_all(site.path("between/objects/pack")).unwrap();
            symlink(theirs.join("pack"), site.path("between/objects/pack")).unwrap();
            lend(&own, &site.path("between/objects"));
        }
    }
    site.git(&["branch", "other", &commit]);
    own
}

#[test]
fn a_source_that_borrows_from_a_machine_is_refused() {
    for how in ["directly", "by a link", "in a chain"] {
        let site = Site::new();
        let own = borrow(&site, how);
        let refused = site.run(&["create", "--branch", "other"]).exits(1).gives_one_error();
        let refused = refused.says("uses objects of a machine: ").says("git -C ");
        assert_eq!(site.names(), ["app-main"], "{how}");
        // The hint's command, pasted, makes the repository acceptable, and it keeps the commit.
        let (_, command) = refused.stderr.split_once("then remove the list: ").unwrap();
        let pasted = site.command("sh").args(["-c", command.trim()]).output().unwrap();
        assert!(pasted.status.success(), "{how}: {command}: {}", String::from_utf8_lossy(&pasted.stderr));
        assert!(!own.join("info/alternates").exists());
        site.run(&["create", "--branch", "other"]).ok();
        let workspace = site.machine("app-other").join("workspace");
        assert_eq!(fs::read_to_string(workspace.join("work")).unwrap(), "x", "{how}");
    }
}

#[test]
fn a_source_that_borrows_through_a_link_to_a_machines_packs_is_refused() {
    let site = Site::new();
    borrow(&site, "packs");
    let refused = site.run(&["create", "--branch", "other"]).exits(1).gives_one_error();
    refused.says("uses objects of a machine: ").says("git clone --no-local");
    assert_eq!(site.names(), ["app-main"]);
}

#[test]
fn a_submodule_that_borrows_from_a_machine_stays_empty() {
    let site = Site::new();
    with_submodules(&site);
    check_out(&site);
    site.create("main");
    site.git(&["branch", "other"]);
    site.git(&["branch", "third"]);
    let theirs = site.machine("app-main").join("workspace/.git/objects");
    let list = site.path("app/.git/modules/libs/the sub/objects/info/alternates");
    fs::write(&list, format!("{}\n", theirs.display())).unwrap();
    site.run(&["create", "--branch", "other"])
        .ok()
        .says("the submodule libs/the sub stays empty: it uses objects of a machine: ");
    let sub = |name: &str| site.machine(name).join("workspace/libs/the sub/file");
    assert!(!sub("app-other").exists());
    // Control: one that borrows from elsewhere is copied.
    fs::write(&list, format!("{}\n", site.path("sub.origin/.git/objects").display())).unwrap();
    site.run(&["create", "--branch", "third"]).ok();
    assert!(sub("app-third").exists());
}

/// A clone that was made with `--shared` or `--reference`, and whose other repository was moved.
#[test]
fn a_lost_store_is_named() {
    let site = Site::new();
    site.git(&["clone", "--quiet", "--shared", ".", "../shared"]);
    fs::rename(site.repo().join(".git"), site.path("moved")).unwrap();
    let refused = site.run_in(site.path("shared"), &["create"]).exits(1).gives_one_error();
    refused
        .says("shared borrows objects from")
        .says(".git/objects, which does not exist")
        .says("bring that directory back");
    // Control.
    fs::rename(site.path("moved"), site.repo().join(".git")).unwrap();
    site.run_in(site.path("shared"), &["create"]).ok();
}
