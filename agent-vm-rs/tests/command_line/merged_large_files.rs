//! `merge` puts the contents of Git LFS files into the work tree, as the user's Git LFS does, and lets it ask no server.

use std::fs;
use std::os::unix::fs::symlink;

use crate::large_files::{CONTENTS, OTHERS, commit_large, pointer, source, store, workspace};

/// What Git LFS does when git may take a file later: it asks `lfs.fetchexclude` first, then its store, then the server.
const FILTER: &str = r#"
test "$1" = clean && cat >/dev/null && exec git cat-file blob ":0:$3"
pointer=$(cat; echo .)
oid=$(echo "$pointer" | sed -n 's/^oid sha256://p')
show() { printf %s "${pointer%.}"; }
test "$(git config lfs.fetchexclude)" = '*' && show && exit
test -e .git/lfs/objects/*/*/$oid && exec cat .git/lfs/objects/*/*/$oid
if url=$(git config lfs.url || git config --file .lfsconfig lfs.url); test -n "$url"; then echo "$url" >"$0-server"; fi
echo "Downloading $3 (9 B)
Error downloading object: $3 ($oid): Smudge error
Use \`git lfs logs last\` to view the log." >&2
show
"#;

#[test]
fn merged_files_have_their_contents_and_no_server_is_asked() {
    let site = source();
    site.stand_in("git-lfs", FILTER);
    for what in ["clean", "smudge"] {
        site.git(&["config", "--global", &format!("filter.lfs.{what}"), &format!("git-lfs {what} -- %f")]);
    }
    site.create("main");
    let tree = workspace(&site);
    commit_large(&site, &tree, "new.bin", OTHERS, "others\n");
    site.run(&["fetch"]).ok();
    site.run(&["merge"]).ok().does_not_say("pointer");
    assert_eq!(site.read("app/new.bin"), "others\n");
    // What the machine does not have is not downloaded from the server that it names.
    let missing = "0".repeat(64);
    commit_large(&site, &tree, "missing.bin", &missing, "another\n");
    fs::remove_file(store(&tree.join(".git"), &missing, "")).unwrap();
    site.commit_in(&tree, ".lfsconfig", "[lfs]\n\turl = https://server.invalid\n");
    site.run(&["fetch"]).ok();
    let merged = site.run(&["merge"]).ok();
    merged.says("the contents of 1 Git LFS file are missing").says("git lfs pull").does_not_say("Error");
    assert_eq!(site.read("app/missing.bin"), pointer(&missing, 8));
    assert!(!site.path("bin/git-lfs-server").exists());
    // Control: git itself.
    fs::remove_file(site.path("app/missing.bin")).unwrap();
    site.git(&["checkout", "--quiet", "--", "missing.bin"]);
    assert_eq!(site.read("bin/git-lfs-server"), "https://server.invalid\n");
}

/// Git LFS takes the user's contents for damaged then, and removes them.
#[test]
fn a_pointer_with_a_wrong_size_is_not_merged() {
    let site = source();
    site.create("main");
    let tree = workspace(&site);
    // The older forms of pointers, too.
    let wrong = pointer(CONTENTS, 8).replace("https://git-lfs.github.com/spec/v1", "http://git-media.io/v/2");
    let commit = site.commit_in(&tree, "wrong.bin", &format!("\n{wrong}"));
    site.run(&["fetch"]).ok();
    for verb in [&["merge"][..], &["apply"], &["checkout", "--name", "other"]] {
        site.run(verb).exits(1).gives_one_error().says("names another size than the contents");
    }
    assert_ne!(site.git(&["rev-parse", "HEAD"]), commit);
    // Control: the true size.
    site.git_in(&tree, &["reset", "--quiet", "--hard", "HEAD~1"]);
    site.commit_in(&tree, "copy.bin", &pointer(CONTENTS, 9));
    site.run(&["fetch"]).ok();
    site.run(&["merge"]).ok();
    assert!(site.path("app/copy.bin").exists());
}

/// Git LFS removes old files from the directory `tmp` of its store.
#[test]
fn a_store_elsewhere_that_the_repository_chose_loses_no_files() {
    let site = source();
    site.create("main");
    let tree = workspace(&site);
    commit_large(&site, &tree, "new.bin", OTHERS, "others\n");
    site.run(&["fetch"]).ok();
    let elsewhere = site.path("home");
    fs::create_dir_all(elsewhere.join("tmp/more")).unwrap();
    site.write("home/tmp/more/notes", "own\n");
    let refused = |why: &str| {
        for verb in ["merge", "apply", "checkout"] {
            let done = site.run(&[verb]).exits(1).gives_one_error();
            done.says("Git LFS would remove the files in").says("home/tmp").says(why);
        }
    };
    site.git(&["config", "lfs.storage", elsewhere.to_str().unwrap()]);
    refused("the repository's configuration names it");
    site.git(&["config", "--unset", "lfs.storage"]);
    let (own, moved) = (site.path("app/.git/lfs"), site.path("app/.git/moved"));
    fs::rename(&own, &moved).unwrap();
    symlink(&elsewhere, &own).unwrap();
    refused("a link leads there");
    // Control: the user's own choice, and an empty directory.
    site.git(&["config", "--global", "lfs.storage", elsewhere.to_str().unwrap()]);
    site.run(&["checkout", "--name", "other"]).ok();
    site.git(&["config", "--global", "--unset", "lfs.storage"]);
    fs::remove_file(elsewhere.join("tmp/more/notes")).unwrap();
    site.run(&["merge"]).ok();
}
