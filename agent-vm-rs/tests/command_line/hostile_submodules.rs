//! `.gitmodules` files and submodule checkouts that lead out of the repository.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::{Site, which};

/// Creates `private` beside `app`; none of its files may change and none of its objects may reach a workspace. Returns
/// its secret commit.
fn private(site: &Site) -> String {
    site.git(&["clone", "--quiet", ".", "../private"]);
    site.git_in(site.path("private"), &["config", "user.name", "Test"]);
    site.git_in(site.path("private"), &["config", "user.email", "test@example.invalid"]);
    site.commit_in(site.path("private"), "secret", "x")
}

/// Commits these gitlinks and this `.gitmodules`.
fn commit(site: &Site, gitmodules: &str, links: &[(&str, &str)]) {
    site.write("app/.gitmodules", gitmodules);
    site.git(&["add", ".gitmodules"]);
    for (path, commit) in links {
        site.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]);
    }
    site.git(&["commit", "--quiet", "--message", "submodules"]);
}

fn entry(name: &str, path: &str) -> String {
    format!("[submodule \"{name}\"]\n\tpath = {path}\n\turl = x\n")
}

/// Runs `create` and checks that nothing outside the state directory changes and that the workspace lacks the secret.
fn create(site: &Site, secret: &str, words: &[&str]) {
    let before = site.outside();
    let mut done = site.run(&["create"]).ok();
    for words in words {
        done = done.says(words);
    }
    assert_eq!(site.outside(), before);
    let has = |dir: &Path| {
        let mut git = site.command(which("git").unwrap());
        git.args(["cat-file", "-e", secret]).current_dir(dir).output().unwrap().status.success()
    };
    assert!(has(&site.path("private")), "control");
    let workspace = site.machine("app-main").join("workspace");
    for dir in walkdir::WalkDir::new(&workspace).into_iter().flatten().filter(|entry| entry.file_type().is_dir()) {
        assert!(!has(dir.path()), "{}", dir.path().display());
    }
    assert_eq!(site.names(), ["app-main"]);
    site.assert_nothing_left();
    site.run(&["destroy", "--yes"]).ok();
    site.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
}

#[test]
fn submodule_paths_outside_the_work_tree_are_skipped() {
    let site = Site::new();
    let secret = private(&site);
    let absolute = site.path("private").display().to_string();
    for path in ["../private", ".", "..", &absolute, "a/../../private", "./../private", ".git", "a//../../private"] {
        commit(&site, &entry("a", path), &[]);
        create(&site, &secret, &["stays empty: its path is not below the work tree"]);
    }
    // A repository in the work tree that is not a submodule of the commit.
    site.git(&["clone", "--quiet", "../private", "nested"]);
    commit(&site, &entry("nested", "nested"), &[]);
    create(&site, &secret, &[]);
}

#[test]
fn unsafe_names_and_duplicate_submodules_are_skipped() {
    let site = Site::new();
    let secret = private(&site);
    let head = site.git(&["rev-parse", "HEAD"]);
    site.git(&["clone", "--quiet", ".", "../clone"]);
    for (gitmodules, words) in [
        (entry("../../../x", "sub"), "its name is not below the git directory"),
        (entry("a", "sub") + &entry("b", "sub"), "another submodule has the same path"),
        (entry("a", "sub") + &entry("a", "other"), "another submodule has the same name"),
    ] {
        commit(&site, &gitmodules, &[("sub", &head)]);
        drop(fs::remove_dir(site.path("app/sub")));
        fs::rename(site.path("clone"), site.path("app/sub")).unwrap();
        create_keeping(&site, &secret, words);
        fs::rename(site.path("app/sub"), site.path("clone")).unwrap();
    }
}

fn create_keeping(site: &Site, secret: &str, words: &str) {
    create(site, secret, &["the submodule sub stays empty", words]);
}

/// The submodule's parent directory is a link to a directory with another repository.
#[test]
fn a_submodule_behind_a_link_is_skipped() {
    let site = Site::new();
    let secret = private(&site);
    let parent = site.git_in(site.path("private"), &["rev-parse", "HEAD"]);
    commit(&site, &entry("a", "libs/a"), &[("libs/a", &parent)]);
    fs::create_dir_all(site.path("elsewhere")).unwrap();
    symlink(site.path("private"), site.path("elsewhere/a")).unwrap();
    drop(fs::remove_dir_all(site.path("app/libs")));
    symlink(site.path("elsewhere"), site.path("app/libs")).unwrap();
    create(&site, &secret, &["the submodule libs/a stays empty"]);
}

/// The checkout's `.git` leads to another repository, or to the repository that contains it.
#[test]
fn a_submodule_of_another_repository_is_skipped() {
    let site = Site::new();
    let secret = private(&site);
    let head = site.git(&["rev-parse", "HEAD"]);
    for (leads_to, commit_id) in [("../../private/.git", &secret), ("../.git", &head)] {
        commit(&site, &entry("sub", "sub"), &[("sub", commit_id)]);
        fs::create_dir_all(site.path("app/sub")).unwrap();
        site.write("app/sub/.git", format!("gitdir: {leads_to}\n"));
        // Control: git follows it.
        site.git_in(site.path("app/sub"), &["cat-file", "-e", commit_id]);
        create(&site, &secret, &["the submodule sub stays empty"]);
        fs::remove_dir_all(site.path("app/sub")).unwrap();
    }
    commit(&site, &entry("sub", "sub"), &[("sub", &secret)]);
    fs::create_dir_all(site.path("app/sub")).unwrap();
    symlink(site.path("private/.git"), site.path("app/sub/.git")).unwrap();
    create(&site, &secret, &["the submodule sub stays empty"]);
}

/// The checkout has a git directory of its own, whose configuration names programs.
#[test]
fn programs_in_a_submodules_configuration_are_not_run() {
    let site = Site::new();
    site.git(&["clone", "--quiet", ".", "sub"]);
    let head = site.git(&["rev-parse", "HEAD"]);
    site.script("marker", &format!("touch '{}'", site.path("executed").display()));
    let marker = site.path("marker");
    let sub = site.path("app/sub");
    for key in ["core.fsmonitor", "uploadpack.packObjectsHook", "filter.f.smudge"] {
        site.git_in(&sub, &["config", key, marker.to_str().unwrap()]);
    }
    fs::create_dir_all(sub.join(".git/hooks")).unwrap();
    symlink(&marker, sub.join(".git/hooks/post-checkout")).unwrap();
    commit(&site, &entry("sub", "sub"), &[("sub", &head)]);
    drop(fs::remove_file(site.path("executed")));
    site.git_in(&sub, &["status"]);
    assert!(site.path("executed").exists(), "control");
    fs::remove_file(site.path("executed")).unwrap();
    site.run(&["create"]).ok().does_not_say("stays empty");
    assert!(!site.path("executed").exists());
    let workspace = site.machine("app-main").join("workspace");
    assert_eq!(site.git_in(workspace.join("sub"), &["rev-parse", "HEAD"]), head);
    let config = fs::read_to_string(workspace.join(".git/modules/sub/config")).unwrap();
    assert!(!config.contains("fsmonitor") && !config.contains(".tmp-"), "{config}");
}

/// Git reads `.gitmodules` in the work tree differently from the one in the commit, and finds a URL there that leads to another
/// repository beside this one.
#[test]
fn a_url_that_only_git_sees_is_not_followed() {
    let site = Site::new();
    let secret = private(&site);
    let url = format!("\turl = {}\n", site.path("private").display());
    let not_utf8 = [b"[submodule \"caf\xe9\"]\n\tpath = sub\n", url.as_bytes()].concat();
    // In a commit, git takes the byte 0xff for the end of the file.
    let ends_early =
        [entry("a", "sub").as_bytes(), b"# \xff\n[submodule \"b\"]\n\tpath = sub\n", url.as_bytes()].concat();
    // In the work tree, the yen sign becomes a backslash.
    let converted = format!(
        "[submodule \"a\"]\n\tpath = sub\n\turl = x\n\tx = \"a\u{a5}\"b\" # \\\n[submodule \"b\"] # \\\n\tpath = sub # \\\n{} # \\\n# \"\n",
        url.trim_end()
    );
    for (gitmodules, attributes, words) in [
        (not_utf8, "", "the submodule sub stays empty: its name or path is not valid UTF-8"),
        (ends_early, "", ""),
        (converted.into_bytes(), ".gitmodules working-tree-encoding=SHIFT_JIS\n", ""),
    ] {
        site.git(&["clone", "--quiet", ".", "sub"]);
        let head = site.git(&["rev-parse", "HEAD"]);
        fs::write(site.path("gitmodules"), gitmodules).unwrap();
        let blob = site.git(&["hash-object", "-w", "--no-filters", "../gitmodules"]);
        site.write("app/.gitattributes", attributes);
        site.git(&["add", ".gitattributes"]);
        let entries = [format!("100644,{blob},.gitmodules"), format!("160000,{head},sub")];
        for entry in &entries {
            site.git(&["update-index", "--add", "--cacheinfo", entry]);
        }
        site.git(&["commit", "--quiet", "--message", "submodules"]);
        site.git(&["checkout", "--quiet", "--", ".gitmodules"]);
        // Control: git follows it.
        let mut config = site.command(which("git").unwrap());
        config.args(["config", "--file", ".gitmodules", "--get-regexp", "url"]).current_dir(site.repo());
        let seen = config.output().unwrap().stdout;
        assert!(String::from_utf8_lossy(&seen).contains("/private"), "{seen:?}");
        create(&site, &secret, &[words]);
        fs::remove_dir_all(site.path("app/sub")).unwrap();
    }
}
