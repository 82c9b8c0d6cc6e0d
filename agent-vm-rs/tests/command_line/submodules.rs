//! Submodules are copied from the user's checkouts; nothing is downloaded.

use std::fs;

use crate::support::Site;

/// Adds to `app` the submodule `sub`, which has a submodule `deep`.
pub fn with_submodules(site: &Site) {
    for name in ["deep", "sub"] {
        let dir = site.path(format!("{name}.origin"));
        fs::create_dir(&dir).unwrap();
        site.git_in(&dir, &["init", "--quiet", "--initial-branch=main"]);
        site.git_in(&dir, &["config", "user.name", "Test"]);
        site.git_in(&dir, &["config", "user.email", "test@example.invalid"]);
        site.commit_in(&dir, "file", name);
    }
    let add = |dir, from, to| {
        site.git_in(dir, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", from, to]);
    };
    add(site.path("sub.origin"), "../deep.origin", "deep");
    site.commit_in(site.path("sub.origin"), "more", "x");
    add(site.repo(), "../sub.origin", "libs/the sub");
    site.commit("with-sub", "x");
}

/// Checks out all submodules.
pub fn check_out(site: &Site) {
    site.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init", "--recursive"]);
}

#[test]
fn checked_out_submodules_are_copied() {
    let site = Site::new();
    with_submodules(&site);
    check_out(&site);
    // Their origins are not available.
    fs::rename(site.path("sub.origin"), site.path("gone")).unwrap();
    fs::rename(site.path("deep.origin"), site.path("gone-too")).unwrap();
    site.run(&["create"]).ok().does_not_say("stays empty");
    let workspace = site.machine("app-main").join("workspace");
    assert_eq!(fs::read_to_string(workspace.join("libs/the sub/file")).unwrap(), "sub");
    assert_eq!(fs::read_to_string(workspace.join("libs/the sub/deep/file")).unwrap(), "deep");
    assert_eq!(site.git_in(&workspace, &["status", "--porcelain"]), "");
}

/// `origin` of a submodule is its own remote, which can be reached if egress allows it. URLs in `.gitmodules` are relative.
#[test]
fn origin_of_a_submodule_is_its_remote() {
    let site = Site::new();
    with_submodules(&site);
    check_out(&site);
    let sub = site.path("app/libs/the sub");
    site.git_in(&sub, &["config", "remote.origin.url", "https://me:se%20cret@host.example/sub.git"]);
    site.git_in(sub.join("deep"), &["remote", "rename", "origin", "company"]);
    let url = site.git_in(sub.join("deep"), &["config", "remote.company.url"]);
    site.run(&["create"]).ok().says("the user name or password in the URL of a remote is not copied");
    let workspace = site.machine("app-main").join("workspace");
    let inside = workspace.join("libs/the sub");
    assert_eq!(site.git_in(&inside, &["remote", "--verbose"]).lines().count(), 2);
    assert_eq!(site.git_in(&inside, &["config", "remote.origin.url"]), "https://host.example/sub.git");
    let of_super = site.git_in(&workspace, &["config", "submodule.libs/the sub.url"]);
    assert_eq!(of_super, "https://host.example/sub.git");
    assert_eq!(site.git_in(inside.join("deep"), &["config", "remote.origin.url"]), url);
    assert!(
        !site.git_in(&workspace, &["submodule", "status", "--recursive"]).lines().any(|line| !line.starts_with(' '))
    );
    // It has no remote.
    site.git_in(&sub, &["remote", "remove", "origin"]);
    site.run(&["create", "--branch", "new"]).ok();
    let inside = site.machine("app-new").join("workspace/libs/the sub");
    assert!(site.git_in(inside, &["config", "remote.origin.url"]).starts_with("file://"));
}

#[test]
fn other_submodules_stay_empty_with_a_notice() {
    let site = Site::new();
    with_submodules(&site);
    site.git(&["submodule", "--quiet", "deinit", "--force", "--all"]);
    site.run(&["create"]).ok().says("the submodule libs/the sub stays empty").says("git submodule update --init");
    assert_eq!(fs::read_dir(site.machine("app-main").join("workspace/libs/the sub")).unwrap().count(), 0);
}

/// The submodules have paths, names and commands that lead out of the work tree.
#[test]
fn a_hostile_gitmodules_changes_nothing_outside() {
    let site = Site::new();
    let head = site.git(&["rev-parse", "HEAD"]);
    fs::create_dir(site.path("elsewhere")).unwrap();
    site.git(&["clone", "--quiet", ".", "../elsewhere"]);
    site.write(
        "app/.gitmodules",
        format!(
            "[submodule \"a\"]\n\tpath = ../elsewhere\n\turl = x\n[submodule \"b\"]\n\tpath = {}\n\turl = x\n\
             [submodule \"../../up\"]\n\tpath = c\n\turl = x\n[submodule \"d\"]\n\tpath = d\n\turl = x\n\
             \tupdate = !touch ../../../owned\n",
            site.path("elsewhere").display()
        ),
    );
    for path in ["c", "d"] {
        site.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},{path}")]);
        site.git(&["clone", "--quiet", ".", path]);
    }
    site.git(&["add", ".gitmodules"]);
    site.git(&["commit", "--quiet", "--message", "hostile"]);
    let before = site.outside();
    site.run(&["create"]).ok();
    assert_eq!(site.outside(), before);
    assert_eq!(site.names(), ["app-main"]);
}
