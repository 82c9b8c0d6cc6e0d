//! `destroy` keeps every commit of a workspace, wherever it is: in a bundle that an empty repository can fetch, or in a
//! copy of the whole workspace.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::kept_work::{Kept, Shape, check_kept, fetched, keeps};
use crate::submodules::{check_out, with_submodules};
use crate::support::{Site, which};

#[test]
fn branches_tags_notes_and_other_references_are_kept() {
    keeps("branch", Kept::Bundle, |shape| vec![shape.commit("x")]);
    keeps("names", Kept::Bundle, |shape| {
        let names = [
            "refs/heads/deep/".to_owned() + &"d/".repeat(100) + "x",
            format!("refs/heads/{}", "l".repeat(200)),
            "refs/tags/light".to_owned(),
            "refs/jj/keep/abc".to_owned(),
            "refs/pull/1/head".to_owned(),
            "refs/bisect/bad".to_owned(),
            "refs/remotes/other/x".to_owned(),
            "refs/replace/".to_owned() + &"1".repeat(40),
            "refs/heads/agent-vm".to_owned(),
        ];
        let commit = |name: &String| {
            let commit = shape.loose(name);
            shape.git(&["update-ref", name, &commit]);
            commit
        };
        names.iter().map(commit).collect()
    });
    keeps("notes", Kept::Bundle, |shape| {
        shape.git(&["notes", "add", "-m", "a note"]);
        vec![shape.git(&["rev-parse", "refs/notes/commits"])]
    });
    keeps("annotated tag", Kept::Bundle, |shape| {
        shape.git(&["tag", "--annotate", "--message", "a tag", "signed"]);
        vec![shape.git(&["rev-parse", "refs/tags/signed"])]
    });
    keeps("reference to a blob", Kept::Bundle, |shape| {
        shape.write("../blob", "of another tool\n");
        let blob = shape.git(&["hash-object", "-w", "../blob"]);
        shape.git(&["update-ref", "refs/tool/blob", &blob]);
        vec![blob]
    });
}

/// codemcp counts its chats in a file of the git directory, which is no work.
#[test]
fn the_files_of_codemcp_are_no_work() {
    keeps("codemcp", Kept::Bundle, |shape| {
        shape.write(".git/codemcp/counter", "2");
        vec![shape.commit("one")]
    });
    // Control: a history hidden there is kept.
    keeps("codemcp-bundle", Kept::Workspace, |shape| {
        shape.write(".git/codemcp/counter", "2");
        let commit = shape.commit("one");
        shape.git(&["bundle", "create", "--quiet", ".git/codemcp/x.bundle", "HEAD"]);
        vec![commit]
    });
}

#[test]
fn many_references_are_kept() {
    keeps("many", Kept::Bundle, |shape| {
        let mut commits: Vec<_> = (0..3).map(|number| shape.loose(&number.to_string())).collect();
        let parents: Vec<_> = commits.iter().flat_map(|commit| ["-p", commit]).collect();
        commits.push(shape.git(&[&["commit-tree", "-m", "all", "HEAD^{tree}"], &parents[..]].concat()));
        let mut lines: Vec<_> = (0..12_000).map(|i| format!("{} refs/heads/many/{i}\n", commits[i % 3])).collect();
        lines.push(format!("{} refs/heads/zzz\n", commits[3]));
        lines.push(format!("{} refs/heads/main\n", shape.git(&["rev-parse", "HEAD"])));
        lines.sort_by_key(|line| line[41..].to_owned());
        shape.write(".git/packed-refs", &lines.concat());
        assert_eq!(shape.git(&["rev-parse", "zzz"]), commits[3]);
        commits
    });
}

#[test]
fn references_with_odd_names_are_kept() {
    keeps("Latin 1", Kept::Bundle, |shape| {
        let commit = shape.loose("x");
        let path = shape.workspace.join(".git/refs/heads").join(OsStr::from_bytes(b"caf\xe9"));
        fs::write(path, format!("{commit}\n")).unwrap();
        vec![commit]
    });
    keeps("a name that git refuses", Kept::Workspace, |shape| {
        let commit = shape.loose("x");
        fs::write(shape.workspace.join(".git/refs/heads/a..b"), format!("{commit}\n")).unwrap();
        vec![commit]
    });
}

#[test]
fn stashes_and_commits_in_reflogs_are_kept() {
    keeps("three stashes", Kept::Bundle, |shape| {
        let stash = |number: &str| {
            shape.write("README", number);
            shape.git(&["stash", "--quiet"]);
            shape.git(&["rev-parse", "refs/stash"])
        };
        ["one", "two", "three"].map(stash).into()
    });
    keeps("a dropped stash, an amended commit, a branch that was deleted", Kept::Bundle, |shape| {
        shape.write("README", "x");
        shape.git(&["stash", "--quiet"]);
        let stash = shape.git(&["rev-parse", "refs/stash"]);
        shape.git(&["stash", "drop", "--quiet"]);
        let first = shape.commit("first");
        shape.git(&["commit", "--quiet", "--amend", "--message", "second"]);
        shape.git(&["checkout", "--quiet", "-b", "aside"]);
        let aside = shape.commit("aside");
        shape.git(&["checkout", "--quiet", "main"]);
        shape.git(&["branch", "--quiet", "-D", "aside"]);
        vec![stash, first, shape.git(&["rev-parse", "HEAD"]), aside]
    });
    keeps("detached, in the middle of a rebase", Kept::Bundle, |shape| {
        shape.git(&["checkout", "--quiet", "-b", "topic"]);
        let topic = shape.commit("topic");
        shape.git(&["checkout", "--quiet", "main"]);
        let main = shape.commit("main");
        let rebase = ["rebase", "--quiet", "main", "topic"];
        let mut git = shape.site.command(which("git").unwrap());
        assert!(!git.args(rebase).current_dir(&shape.workspace).output().unwrap().status.success());
        assert!(shape.workspace.join(".git/rebase-merge").is_dir());
        vec![topic, main]
    });
}

#[test]
fn uncommitted_files_are_kept() {
    let site = Site::new();
    site.create("main");
    let workspace = site.machine("app-main").join("workspace");
    let shape = Shape { site: &site, workspace };
    shape.write("staged", "staged\n");
    shape.git(&["add", "staged"]);
    shape.write("staged", "staged, then changed\n");
    shape.write("README", "changed\r\n");
    shape.write("new/dir/file", "new\n");
    shape.write(".gitattributes", "* text eol=lf filter=x ident\n");
    shape.write(".gitignore", "ignored\n");
    shape.write("ignored", "not kept\n");
    fs::remove_file(shape.workspace.join("second")).unwrap();
    site.run(&["destroy"]).ok().says("the changed files that only app-main had are in").says("(6 changed files)");
    let bundle = fs::read_dir(site.state().join(".bundles")).unwrap().next().unwrap().unwrap().path();
    let empty = fetched(&site, &bundle);
    let show = |path: &str| {
        let mut git = site.command(which("git").unwrap());
        let output =
            git.args(["show", &format!("refs/kept/heads/agent-vm/{path}")]).current_dir(&empty).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(show("uncommitted:README").unwrap(), "changed\r\n");
    assert_eq!(show("uncommitted:staged").unwrap(), "staged, then changed\n");
    assert_eq!(show("uncommitted:new/dir/file").unwrap(), "new\n");
    assert_eq!(show("uncommitted^2:staged").unwrap(), "staged\n");
    assert_eq!([show("uncommitted:second"), show("uncommitted:ignored")], [None, None]);
    assert_eq!(show("uncommitted^1:second").unwrap(), "again\n");
}

#[test]
fn other_formats_of_a_repository_are_kept() {
    keeps("tables of references", Kept::Bundle, |shape| {
        let first = shape.commit("first");
        fs::remove_dir_all(shape.workspace.join(".git/logs")).unwrap();
        shape.git(&["refs", "migrate", "--ref-format=reftable"]);
        shape.git(&["checkout", "--quiet", "-b", "topic"]);
        vec![first, shape.commit("second")]
    });
    keeps("SHA-256", Kept::Bundle, |shape| {
        fs::remove_dir_all(shape.workspace.join(".git")).unwrap();
        vec![shape.nested("", &["--object-format=sha256"])]
    });
    keeps("packed in every way", Kept::Bundle, |shape| {
        let commits = vec![shape.commit("one"), shape.commit("two")];
        shape.git(&["gc", "--quiet"]);
        shape.git(&["commit-graph", "write", "--reachable"]);
        shape.git(&["multi-pack-index", "write"]);
        shape.git(&["update-index", "--split-index"]);
        commits
    });
    keeps("a history that was cut", Kept::Workspace, |shape| {
        let commit = shape.commit("one");
        let parent = shape.git(&["rev-parse", "HEAD~1"]);
        fs::write(shape.workspace.join(".git/shallow"), format!("{parent}\n")).unwrap();
        vec![commit]
    });
    keeps("a partial clone", Kept::Workspace, |shape| {
        let commit = shape.commit("one");
        shape.git(&["repack", "-a", "-d", "-q"]);
        for pack in fs::read_dir(shape.workspace.join(".git/objects/pack")).unwrap().map(|entry| entry.unwrap().path())
        {
            if pack.extension() == Some(OsStr::new("pack")) {
                fs::write(pack.with_extension("promisor"), "").unwrap();
            }
        }
        vec![commit]
    });
}

#[test]
fn commits_of_linked_work_trees_are_kept() {
    keeps("a detached one", Kept::Workspace, |shape| {
        shape.git(&["worktree", "add", "--quiet", "--detach", "tree"]);
        let tree = shape.workspace.join("tree");
        vec![shape.site.commit_in(tree, "work", "x")]
    });
}

#[test]
fn nested_repositories_are_kept() {
    keeps("nested", Kept::Workspace, |shape| vec![shape.nested("deep/er/nested", &[])]);
    keeps("nested and ignored", Kept::Workspace, |shape| {
        shape.write(".gitignore", "nested\n");
        shape.commit("ignore");
        vec![shape.nested("nested", &[])]
    });
    keeps("bare", Kept::Workspace, |shape| vec![shape.nested("store.git", &["--bare"])]);
    keeps("tables of references and SHA-256", Kept::Workspace, |shape| {
        vec![shape.nested("nested", &["--ref-format=reftable", "--object-format=sha256"])]
    });
    keeps("a separate git directory", Kept::Workspace, |shape| {
        let commit = shape.commit("x");
        shape.git(&["init", "--quiet", "--separate-git-dir=store"]);
        assert!(shape.workspace.join(".git").is_file());
        vec![commit]
    });
    keeps("a git directory of another name", Kept::Workspace, |shape| {
        let commit = shape.commit("x");
        fs::rename(shape.workspace.join(".git"), shape.workspace.join("renamed")).unwrap();
        vec![commit]
    });
    keeps("alternates in the workspace", Kept::Workspace, |shape| {
        let commit = shape.commit("x");
        fs::rename(shape.workspace.join(".git/objects"), shape.workspace.join("store")).unwrap();
        fs::create_dir_all(shape.workspace.join(".git/objects/info")).unwrap();
        fs::write(shape.workspace.join(".git/objects/info/alternates"), "../../store\n").unwrap();
        // With HEAD, refs and objects, the workspace itself looks like a git directory, which the check below finds.
        fs::rename(shape.workspace.join("store"), shape.workspace.join("objects")).unwrap();
        fs::write(shape.workspace.join(".git/objects/info/alternates"), "../../objects\n").unwrap();
        fs::write(shape.workspace.join("HEAD"), format!("{commit}\n")).unwrap();
        fs::create_dir(shape.workspace.join("refs")).unwrap();
        vec![commit]
    });
}

/// The repository has directories that look like repositories among its files, and its machine has no new work.
#[test]
fn a_committed_repository_is_no_new_work() {
    let site = Site::new();
    for file in ["fixture/HEAD", "fixture/refs/heads/main", "fixture/objects/pack/x"] {
        fs::create_dir_all(site.repo().join(file).parent().unwrap()).unwrap();
        site.write(Path::new("app").join(file), "ref: refs/heads/main\n");
    }
    site.commit("file", "x");
    site.create("main");
    site.run(&["destroy"]).ok().does_not_say("kept");
    // Control: one of these files is changed.
    site.create("main");
    fs::write(site.machine("app-main").join("workspace/fixture/refs/heads/main"), "x").unwrap();
    site.run(&["destroy"]).ok().says("a repository in fixture").says("the workspace is kept whole in");
}

/// Submodules that `create` filled do not count as new work; changes in them do.
#[test]
fn work_in_submodules_is_kept() {
    for work in ["", "commit", "stash", "file", "staged"] {
        let site = Site::new();
        with_submodules(&site);
        check_out(&site);
        site.create("main");
        let deep = site.machine("app-main").join("workspace/libs/the sub/deep");
        site.git_in(&deep, &["config", "user.name", "Test"]);
        site.git_in(&deep, &["config", "user.email", "test@example.invalid"]);
        let commit = match work {
            "" => {
                site.run(&["destroy"]).ok().does_not_say("kept").does_not_say("bundle");
                continue;
            }
            "commit" => site.commit_in(&deep, "work", "x"),
            "staged" => {
                fs::write(deep.join("file"), "staged").unwrap();
                site.git_in(&deep, &["add", "file"]);
                // As after `git submodule deinit --force`: only the index leads to it.
                for entry in [".git", "file"] {
                    fs::remove_file(deep.join(entry)).unwrap();
                }
                site.git_in(deep.join("../../.."), &["rev-parse", "HEAD"])
            }
            _ => {
                fs::write(deep.join("file"), "changed").unwrap();
                if work == "stash" {
                    site.git_in(&deep, &["stash", "--quiet"]);
                }
                site.git_in(&deep, &["rev-parse", if work == "stash" { "refs/stash" } else { "HEAD" }])
            }
        };
        check_kept(&site, work, Kept::Workspace, &[commit]);
    }
}

/// Random histories of commits, amends, stashes, resets, deletions and repacks.
#[test]
fn random_histories_are_kept() {
    for seed in [1_u64, 2, 3] {
        keeps(&format!("seed {seed}"), Kept::Bundle, |shape| {
            let mut state = seed;
            let mut next = |below: u64| {
                // A linear congruential generator; Knuth's constants.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            let mut commits = BTreeSet::new();
            commits.insert(shape.commit("begin"));
            for step in 0..12 {
                match next(7) {
                    0 => drop(commits.insert(shape.commit(&format!("{seed} {step}")))),
                    1 => drop(shape.git(&["commit", "--quiet", "--amend", "--message", &format!("amended {step}")])),
                    2 => drop(shape.git(&["checkout", "--quiet", "-B", &format!("branch-{}", next(3))])),
                    3 => {
                        shape.write("README", &format!("{seed} {step}"));
                        shape.git(&["stash", "--quiet"]);
                        commits.insert(shape.git(&["rev-parse", "refs/stash"]));
                    }
                    4 => drop(shape.git(&["reset", "--quiet", "--hard", "HEAD@{1}"])),
                    5 => drop(shape.git(&["pack-refs", "--all"])),
                    _ => drop(shape.git(&["repack", "-a", "-d", "-q"])),
                }
                commits.insert(shape.git(&["rev-parse", "HEAD"]));
            }
            commits.into_iter().collect()
        });
    }
}
