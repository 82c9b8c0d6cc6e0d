//! Git LFS files go into a machine and come back with their contents. Git LFS itself need not be installed on this host.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::support::{Site, which};

/// SHA-256 of "contents\n", and that of "others\n".
pub const CONTENTS: &str = "bfe5ed57e6e323555b379c660aa8d35b70c2f8f07cf03ad6747266495ac13be0";
pub const OTHERS: &str = "afd4164db03d56e32e9ed6fa759036322ca130bb4996ab23eec455ec62e6e751";

pub fn pointer(oid: &str, size: u64) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
}

/// Writes a file of the LFS store in a git directory.
pub fn store(git_dir: &Path, oid: &str, contents: &str) -> PathBuf {
    let file = git_dir.join(format!("lfs/objects/{}/{}/{oid}", &oid[..2], &oid[2..4]));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, contents).unwrap();
    file
}

/// Returns a source with an LFS file whose contents it has.
pub fn source() -> Site {
    let site = Site::new();
    site.commit(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    site.commit("a.bin", &pointer(CONTENTS, 9));
    store(&site.path("app/.git"), CONTENTS, "contents\n");
    site
}

pub fn workspace(site: &Site) -> PathBuf {
    site.machine("app-main").join("workspace")
}

/// Commits a file as git does with Git LFS: a pointer in the commit, the contents in the work tree and in the store.
pub fn commit_large(site: &Site, workspace: &Path, name: &str, oid: &str, contents: &str) -> String {
    stage_large(site, workspace, name, oid, contents);
    site.git_in(workspace, &["commit", "--quiet", "-m", name]);
    site.git_in(workspace, &["rev-parse", "HEAD"])
}

fn stage_large(site: &Site, workspace: &Path, name: &str, oid: &str, contents: &str) {
    site.write("pointer", pointer(oid, contents.len() as u64));
    let mut hash = site.command(which("git").unwrap());
    let hash = hash
        .args(["hash-object", "-w", "--stdin"])
        .current_dir(workspace)
        .stdin(File::open(site.path("pointer")).unwrap());
    let id = String::from_utf8(hash.stderr(Stdio::inherit()).output().unwrap().stdout).unwrap();
    site.git_in(workspace, &["update-index", "--add", "--cacheinfo", &format!("100644,{},{name}", id.trim())]);
    fs::write(workspace.join(name), contents).unwrap();
    store(&workspace.join(".git"), oid, contents);
}

#[test]
fn a_machine_gets_the_contents_and_a_clean_work_tree() {
    let site = source();
    site.commit("b.bin", &pointer(&"0".repeat(64), 9));
    site.commit("c.bin", "not a pointer\n");
    fs::create_dir(site.path("app/dir")).unwrap();
    site.commit("dir/d.bin", &pointer(CONTENTS, 9));
    fs::set_permissions(site.path("app/dir/d.bin"), fs::Permissions::from_mode(0o755)).unwrap();
    site.git(&["commit", "--quiet", "--all", "-m", "executable"]);
    store(&site.path("app/.git"), &"0".repeat(64), "contents\n");
    site.run(&["create"]).ok().says("1 of 3 Git LFS files stay pointers").says("git lfs fetch");
    let tree = workspace(&site);
    assert_eq!(fs::read_to_string(tree.join("a.bin")).unwrap(), "contents\n");
    assert_eq!(fs::read_to_string(tree.join("dir/d.bin")).unwrap(), "contents\n");
    assert_eq!(fs::metadata(tree.join("dir/d.bin")).unwrap().permissions().mode() & 0o111, 0o111);
    // Contents that do not match the pointer are not copied.
    assert_eq!(fs::read_to_string(tree.join("b.bin")).unwrap(), pointer(&"0".repeat(64), 9));
    assert!(!tree.join(format!(".git/lfs/objects/00/00/{}", "0".repeat(64))).exists());
    // As git in the machine sees them; without the files' sizes in the index it would not ask the filter.
    let filter = "filter.lfs.clean=git cat-file blob :0:%f";
    assert_eq!(site.git_in(&tree, &["-c", filter, "status", "--porcelain"]), "");
    let changed = |site: &Site| site.run(&["status", "--json"]).json()["workspace"]["git"]["changed_files"].clone();
    assert_eq!(changed(&site), 0);
    // A clone without the times of the files, such as after a copy.
    site.git_in(&tree, &["read-tree", "HEAD"]);
    assert_eq!(changed(&site), 0);
    // Control: other contents of the same size.
    fs::write(tree.join("a.bin"), "CONTENTS\n").unwrap();
    assert_eq!(changed(&site), 1);
    fs::write(tree.join("a.bin"), "contents\n").unwrap();
    site.run(&["destroy", "--yes"]).ok().does_not_say("kept");
    site.assert_nothing_left();
}

/// Git without Git LFS takes them for changed.
#[test]
fn files_with_their_contents_are_no_changes_of_the_source() {
    let site = source();
    site.write("app/a.bin", "contents\n");
    site.run(&["create"]).ok().does_not_say("uncommitted");
    site.run(&["destroy", "--yes"]).ok();
    // Control: other contents of the same size.
    site.write("app/a.bin", "CONTENTS\n");
    site.run(&["create"]).ok().says("1 uncommitted change in");
}

/// The target of a symbolic link is not copied.
#[test]
fn contents_behind_a_link_are_not_copied() {
    let site = source();
    let file = store(&site.path("app/.git"), CONTENTS, "");
    site.write("key", "contents\n");
    fs::remove_file(&file).unwrap();
    symlink(site.path("key"), &file).unwrap();
    site.run(&["create"]).ok().says("1 of 1 Git LFS files stay pointers");
    assert_eq!(fs::read_to_string(workspace(&site).join("a.bin")).unwrap(), pointer(CONTENTS, 9));
}

#[test]
fn contents_come_back_with_the_commits() {
    let site = source();
    site.create("main");
    let (tree, git_dir) = (workspace(&site), site.path("app/.git"));
    let commit = commit_large(&site, &tree, "new.bin", OTHERS, "others\n");
    assert_eq!(site.run(&["status", "--json"]).json()["workspace"]["git"]["changed_files"], 0);
    // Control: without the contents, `destroy` keeps the whole workspace.
    let there = git_dir.join(format!("lfs/objects/{}/{}/{OTHERS}", &OTHERS[..2], &OTHERS[2..4]));
    assert!(!there.exists());
    site.run(&["fetch"]).ok().does_not_say("not fetched");
    assert_eq!(fs::read_to_string(&there).unwrap(), "others\n");
    assert_eq!(site.git(&["rev-parse", "refs/agent-vm/app-main/heads/main"]), commit);
    assert_eq!(site.git(&["for-each-ref", "refs/agent-vm/app-main/uncommitted"]), "");
    site.run(&["fetch"]).ok().prints("app-main has nothing new");
    site.run(&["merge"]).ok();
    site.run(&["destroy", "--yes"]).ok().does_not_say("kept");
    site.assert_nothing_left();
}

/// What the machine says about its contents counts only if it is true.
#[test]
fn wrong_contents_are_not_fetched() {
    let site = source();
    site.create("main");
    let tree = workspace(&site);
    commit_large(&site, &tree, "new.bin", OTHERS, "others\n");
    let file = store(&tree.join(".git"), OTHERS, "OTHERS\n");
    let there = site.path("app/.git").join(file.strip_prefix(tree.join(".git")).unwrap());
    site.run(&["fetch"]).ok().says("the contents of 1 Git LFS file, which it does not have");
    assert!(!there.exists() && fs::read_dir(there.parent().unwrap()).unwrap().next().is_none());

    // A link of the machine to a file of this host.
    site.write("secret", "others\n");
    fs::remove_file(&file).unwrap();
    symlink(site.path("secret"), &file).unwrap();
    commit_large(&site, &tree, "more.bin", OTHERS, "others\n");
    fs::remove_file(&file).unwrap();
    symlink(site.path("secret"), &file).unwrap();
    // The file in the work tree has the contents, which counts as uncommitted.
    site.run(&["fetch", "--committed"]).ok();
    assert!(!there.exists());

    // Control: the contents.
    fs::remove_file(&file).unwrap();
    commit_large(&site, &tree, "third.bin", OTHERS, "others\n");
    site.commit_in(&tree, "x", "x");
    site.git_in(&tree, &["commit", "--quiet", "--amend", "-m", "y"]);
    site.run(&["fetch"]).ok();
}

#[test]
fn contents_count_for_the_size_limit() {
    let site = source();
    site.create("main");
    let contents = "x".repeat(3 << 20);
    let tree = workspace(&site);
    commit_large(
        &site,
        &tree,
        "new.bin",
        "3bea8a9a07c1e8dcaa4c1b816815c35a29b4fb585ba6ecc70ea44840a794cfb3",
        &contents,
    );
    let done = site.run(&["fetch", "--max-size", "2"]).ok();
    done.says("not fetched from app-main: the contents of 1 Git LFS file (3.00 MiB)").says("--max-size 5");
    // The commits are there; a second fetch brings the rest.
    site.run(&["fetch", "--max-size", "4"]).ok();
    assert!(
        site.path("app/.git/lfs/objects/3b/ea/3bea8a9a07c1e8dcaa4c1b816815c35a29b4fb585ba6ecc70ea44840a794cfb3")
            .exists()
    );
}

/// The store of the source leads elsewhere: nothing is written there.
#[test]
fn a_store_behind_a_link_is_not_written() {
    let site = source();
    site.create("main");
    commit_large(&site, &workspace(&site), "new.bin", OTHERS, "others\n");
    fs::rename(site.path("app/.git/lfs"), site.path("moved")).unwrap();
    symlink(site.path("moved"), site.path("app/.git/lfs")).unwrap();
    site.run(&["fetch"]).ok().says("not fetched from app-main: the contents of 2 Git LFS files").says("lfs is a link");
    assert!(!site.path(format!("moved/objects/{}", &OTHERS[..2])).exists());
    site.git(&["rev-parse", "--verify", "refs/agent-vm/app-main/heads/main"]);
    // Control.
    fs::remove_file(site.path("app/.git/lfs")).unwrap();
    fs::rename(site.path("moved"), site.path("app/.git/lfs")).unwrap();
    commit_large(&site, &workspace(&site), "more.bin", OTHERS, "others\n");
    site.git_in(workspace(&site), &["update-ref", "refs/heads/main", "HEAD"]);
    site.git(&["update-ref", "-d", "refs/agent-vm/app-main/heads/main"]);
    site.run(&["fetch"]).ok();
}

/// A staged pointer stays one in the commit of the uncommitted files, and its contents are fetched, too.
#[test]
fn staged_files_are_fetched_as_pointers() {
    let site = source();
    site.create("main");
    let tree = workspace(&site);
    stage_large(&site, &tree, "new.bin", OTHERS, "others\n");
    site.run(&["fetch"]).ok();
    let shown = site.git(&["show", "refs/agent-vm/app-main/uncommitted:new.bin"]);
    assert_eq!(format!("{shown}\n"), pointer(OTHERS, 7));
}

/// Git LFS stores contents in the copy that `origin` leads to, too, and makes the directory before it looks for any.
#[test]
fn the_store_of_the_copy_for_origin_is_known() {
    let site = source();
    site.create("main");
    let tree = workspace(&site);
    fs::create_dir_all(tree.join(".git/origin.git/lfs/objects")).unwrap();
    store(&tree.join(".git/origin.git"), CONTENTS, "contents\n");
    site.commit_in(&tree, "work", "x");
    site.run(&["destroy", "--yes"]).ok().says(".bundle").does_not_say("kept whole");

    // Control: contents that nothing else has.
    site.create("main");
    store(&tree.join(".git/origin.git"), OTHERS, "others\n");
    site.run(&["destroy", "--yes"]).ok().says("the workspace is kept whole in").says("origin.git/lfs");
}

/// They came into the machine after the commits were fetched.
#[test]
fn contents_that_come_later_are_fetched() {
    let site = source();
    site.commit("b.bin", &pointer(OTHERS, 7));
    site.create("main");
    let file = store(&workspace(&site).join(".git/origin.git"), OTHERS, "others\n");
    let there = site.path("app/.git").join(file.strip_prefix(workspace(&site).join(".git/origin.git")).unwrap());
    site.run(&["fetch"]).ok();
    assert_eq!(fs::read_to_string(there).unwrap(), "others\n");
    site.run(&["destroy", "--yes"]).ok().does_not_say("kept");
}

/// The workspace's own store may be missing: the source has no contents, or `git lfs prune` has removed all of them.
#[test]
fn contents_that_only_the_copy_for_origin_has_are_fetched() {
    let site = Site::new();
    site.commit(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    site.create("main");
    let tree = workspace(&site);
    commit_large(&site, &tree, "new.bin", OTHERS, "others\n");
    fs::rename(tree.join(".git/lfs"), tree.join(".git/origin.git/lfs")).unwrap();
    assert_eq!(site.run(&["status", "--json"]).json()["workspace"]["git"]["changed_files"], 0);
    site.run(&["fetch"]).ok().does_not_say("not fetched");
    let there = site.path(format!("app/.git/lfs/objects/{}/{}/{OTHERS}", &OTHERS[..2], &OTHERS[2..4]));
    assert_eq!(fs::read_to_string(there).unwrap(), "others\n");
    site.run(&["destroy", "--yes"]).ok().does_not_say("kept");
}

/// Only the right to execute differs.
#[test]
fn a_changed_mode_is_a_change() {
    let site = source();
    site.create("main");
    let tree = workspace(&site);
    let changed = |site: &Site| site.run(&["status", "--json"]).json()["workspace"]["git"]["changed_files"].clone();
    assert_eq!(changed(&site), 0, "control");
    fs::set_permissions(tree.join("a.bin"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(changed(&site), 1);
    site.run(&["destroy", "--yes"]).ok().says("1 changed file");
    assert_eq!(site.kept().len(), 1);
}

/// A hole of 8 TB takes no space in the machine; reading it would take hours.
#[test]
fn a_huge_sparse_file_blocks_nothing() {
    let site = source();
    site.create("main");
    let tree = workspace(&site);
    let huge = 8_000_000_000_000;
    site.commit_in(&tree, "huge.bin", &pointer(OTHERS, huge));
    for file in [tree.join("huge.bin"), store(&tree.join(".git"), OTHERS, "")] {
        // Not every file system has such large files.
        if File::create(file).unwrap().set_len(huge).is_err() {
            crate::support::skip("this file system has no file of 8 TB");
            return;
        }
    }
    assert_eq!(site.run(&["status", "--json"]).json()["workspace"]["git"]["changed_files"], 1);
    site.run(&["fetch", "--committed"]).ok().says("the contents of 1 Git LFS file (7.28 TiB)").says("--max-size");
}
