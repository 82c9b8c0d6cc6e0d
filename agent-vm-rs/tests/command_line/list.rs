//! `list --source` lists the machines of one repository, from any directory in it.

use std::fs;

use crate::support::Site;

fn names(site: &Site, dir: &str) -> Vec<String> {
    let list = site.run_in(site.root(), &["list", "--json", "--source", dir]).ok().json();
    list.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn source_limits_the_list_to_one_repository() {
    let site = Site::new();
    site.create("main");
    site.create("dev");
    site.git(&["worktree", "add", "-q", "-b", "linked", "../linked"]);
    site.git(&["clone", "-q", "--bare", ".", "../bare.git"]);
    site.git(&["clone", "-q", ".", "../other"]);
    fs::create_dir(site.path("app/sub")).unwrap();
    site.run_in(site.path("other"), &["create"]).ok();
    site.run_in(site.path("bare.git"), &["create"]).ok();
    // Control: without `--source` there are all machines.
    assert_eq!(site.run(&["list", "--json"]).ok().json().as_array().unwrap().len(), 4);
    for dir in ["app", "app/", "app/sub", "app/.git", "linked"] {
        assert_eq!(names(&site, dir), ["app-dev", "app-main"], "{dir}");
    }
    assert_eq!(names(&site, "other"), ["other-main"]);
    assert_eq!(names(&site, "bare.git").len(), 1);
    site.git(&["clone", "-q", ".", "../none"]);
    site.run(&["list", "--source", "../none"]).ok().says("none has no machines yet");
    site.run(&["list", "--source", "../other"]).ok().prints("other-main");
}

#[test]
fn a_directory_without_a_repository_is_refused() {
    let site = Site::new();
    site.create("main");
    fs::create_dir(site.path("empty")).unwrap();
    site.run_in(site.root(), &["list", "--source", "empty"])
        .exits(2)
        .gives_one_error()
        .says("not in a source repository");
    site.run_in(site.root(), &["list", "--source", "none"]).exits(2).gives_one_error().says("--source DIR");
    let workspace = site.machine("app-main").join("workspace");
    site.run(&["list", "--source", workspace.to_str().unwrap()]).exits(2).gives_one_error();
    // A downloaded directory that leads to a repository of the user lists none of that repository's machines.
    fs::create_dir(site.path("hostile")).unwrap();
    site.write("hostile/.git", format!("gitdir: {}\n", site.path("app/.git").display()));
    let found = site.git_in(site.path("hostile"), &["rev-parse", "--path-format=absolute", "--git-common-dir"]);
    assert!(found.trim().ends_with("/app/.git"), "control: git itself follows it: {found}");
    site.run_in(site.root(), &["list", "--source", "hostile"]).exits(1).gives_one_error();
}
