//! Root uses a repository of another user: nothing of root's is left in it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use crate::support::{Site, skip};

const USER: u32 = 12345;

/// Gives `app` to another user, who can reach it; None, with the test reported as skipped, if this user cannot.
fn of_another_user() -> Option<Site> {
    if !rustix::process::geteuid().is_root() {
        skip("only root can give a repository to another user");
        return None;
    }
    let site = Site::new();
    for dir in ["", "tmp"] {
        let mode = if dir.is_empty() { 0o755 } else { 0o1777 };
        fs::set_permissions(site.path(dir), fs::Permissions::from_mode(mode)).unwrap();
    }
    for file in walkdir::WalkDir::new(site.repo()).into_iter().flatten() {
        std::os::unix::fs::lchown(file.path(), Some(USER), Some(USER)).unwrap();
    }
    site.write("home/.gitconfig", format!("[safe]\n\tdirectory = {}\n", site.repo().display()));
    Some(site)
}

/// Returns the files of the repository that belong to someone else.
fn others(site: &Site) -> Vec<String> {
    let files = walkdir::WalkDir::new(site.repo()).into_iter().flatten();
    let others = files.filter(|file| file.path().symlink_metadata().unwrap().uid() != USER);
    others.map(|file| file.path().display().to_string()).collect()
}

#[test]
fn what_root_writes_into_a_repository_belongs_to_its_owner() {
    let Some(site) = of_another_user() else { return };
    let (workspace, work) = site.create_with_work();
    site.git_in(&workspace, &["tag", "v1"]);
    site.run(&["fetch"]).ok().prints("refs/agent-vm/app-main/heads/main");
    assert_eq!(others(&site), Vec::<String>::new(), "fetch");
    assert_eq!(site.git(&["rev-parse", "refs/agent-vm/app-main/heads/main"]), work);
    // Rewritten and deleted references are written, too.
    site.git_in(&workspace, &["tag", "--delete", "v1"]);
    site.git_in(&workspace, &["-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "--amend", "-m", "x"]);
    site.run(&["fetch"]).ok();
    assert_eq!(others(&site), Vec::<String>::new(), "fetch again");
    site.run(&["checkout", "--name", "taken"]).ok();
    assert_eq!(others(&site), Vec::<String>::new(), "checkout");
    assert!(site.git(&["log", "-1", "--format=%H", "taken"]) != work);
    // Control: git itself leaves files of root.
    site.git(&["branch", "of-root"]);
    assert!(!others(&site).is_empty());
}

/// The configuration names a program, which must not run as root.
#[test]
fn programs_of_the_owner_do_not_run_as_root() {
    let Some(site) = of_another_user() else { return };
    site.script("filter", &format!("id -u >> '{}'; cat", site.path("tmp/ran").display()));
    let filter = site.path("filter").display().to_string();
    let set = [("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "filter.x.smudge"), ("GIT_CONFIG_VALUE_0", &filter)];
    let (workspace, _) = site.create_with_work();
    fs::write(workspace.join(".gitattributes"), "* filter=x\n").unwrap();
    site.commit_in(&workspace, "filtered", "x");
    site.run(&["fetch"]).ok();
    site.run_with(&set, &["checkout", "--name", "taken"]).ok();
    let ran = site.read("tmp/ran");
    assert!(!ran.is_empty() && ran.lines().all(|id| id == USER.to_string()), "{ran}");
}
