//! `destroy` also keeps commits and changes where git itself does not look for them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::kept_work::{Kept, Shape, keeps};
use crate::support::{skip, which};

impl Shape<'_> {
    /// Changes a file; returns the object id of its contents.
    fn change(&self, path: &str, contents: &str) -> String {
        self.write(path, contents);
        self.git(&["hash-object", "--no-filters", path])
    }

    /// Runs git, which may fail.
    fn try_git(&self, args: &[&str]) {
        let git = self.site.command(which("git").unwrap()).args(args).current_dir(&self.workspace).output();
        drop(git.unwrap());
    }

    /// Makes a commit and moves it to the bare repository at `to`, so that it is nowhere else.
    fn hide(&self, to: &str) -> String {
        self.git(&["init", "--quiet", "--bare", to]);
        let commit = self.commit("hidden");
        self.git(&["push", "--quiet", to, "HEAD:refs/heads/main"]);
        self.forget();
        commit
    }

    /// Removes the last commit and everything that refers to it.
    fn forget(&self) {
        self.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
        self.git(&["update-ref", "-d", "ORIG_HEAD"]);
        self.git(&["reflog", "expire", "--expire=now", "--all"]);
        self.git(&["gc", "--quiet", "--prune=now"]);
    }
}

#[test]
fn changes_that_the_index_hides_are_kept() {
    for flag in ["--assume-unchanged", "--skip-worktree"] {
        keeps(flag, Kept::Bundle, |shape| {
            shape.git(&["update-index", flag, "README"]);
            vec![shape.change("README", "hidden\n")]
        });
    }
    // As a build with reproducible times leaves it.
    keeps("of the time zero", Kept::Bundle, |shape| {
        let set = || {
            let file = fs::File::open(shape.workspace.join("README")).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        };
        set();
        shape.git(&["status"]);
        let changed = shape.change("README", "HELLO\n");
        set();
        vec![changed]
    });
    keeps("outside of a sparse checkout", Kept::Bundle, |shape| {
        shape.write("in/file", "x");
        shape.write("out/file", "x");
        shape.commit("both");
        shape.git(&["sparse-checkout", "set", "in"]);
        vec![shape.change("out/file", "beside it\n")]
    });
    keeps("of the same size and time", Kept::Bundle, |shape| {
        let set = |time| {
            let file = fs::File::open(shape.workspace.join("README")).unwrap();
            file.set_modified(time).unwrap();
        };
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        set(long_ago);
        shape.git(&["status"]);
        let changed = shape.change("README", "HELLO\n");
        set(long_ago);
        vec![changed]
    });
    keeps("staged in a merge that is not done", Kept::Bundle, |shape| {
        shape.git(&["checkout", "--quiet", "-b", "topic"]);
        shape.commit("ours");
        shape.git(&["checkout", "--quiet", "main"]);
        shape.commit("theirs");
        shape.try_git(&["merge", "topic"]);
        assert!(shape.workspace.join(".git/MERGE_HEAD").exists());
        let staged = shape.change("new", "staged\n");
        shape.git(&["add", "new"]);
        vec![staged, shape.change("new", "changed\n"), shape.change("work", "resolved\n")]
    });
    keeps("a staged submodule", Kept::Bundle, |shape| {
        let commit = shape.loose("x");
        shape.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},sub")]);
        vec![commit, shape.git(&["write-tree"])]
    });
    keeps("files in the place of a submodule", Kept::Workspace, |shape| {
        let commit = shape.commit("x");
        shape.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},sub")]);
        shape.git(&["commit", "--quiet", "--message", "sub"]);
        shape.write("sub/file", "nobody else has it\n");
        vec![shape.git(&["rev-parse", "HEAD"])]
    });
    for (name, link) in [("a file in the place of a submodule", false), ("a link in the place of a submodule", true)] {
        keeps(name, Kept::Workspace, |shape| {
            let commit = shape.git(&["rev-parse", "HEAD"]);
            shape.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},sub")]);
            shape.git(&["commit", "--quiet", "--message", "sub"]);
            // Without new commits.
            shape.site.git(&["fetch", "--quiet", shape.workspace.to_str().unwrap(), "main:from-the-machine"]);
            if link {
                symlink("nowhere", shape.workspace.join("sub")).unwrap();
            } else {
                shape.write("sub", "nobody else has it\n");
            }
            vec![shape.git(&["rev-parse", "HEAD"])]
        });
    }
}

#[test]
fn tags_without_a_reference_are_kept() {
    keeps("a deleted tag", Kept::Bundle, |shape| {
        shape.git(&["tag", "--annotate", "--message", "a tag", "release"]);
        let tag = shape.git(&["rev-parse", "release"]);
        shape.git(&["tag", "--delete", "release"]);
        vec![tag]
    });
}

/// Git does not treat these directories as repositories, but a guest's program may have put one there.
#[test]
fn repositories_inside_the_git_directory_are_kept() {
    for place in [".git/info/store.git", ".git/hooks", ".git/branches/store", ".git/rr-cache/x"] {
        keeps(place, Kept::Workspace, |shape| vec![shape.hide(place)]);
    }
    keeps("with a work tree", Kept::Workspace, |shape| vec![shape.nested(".git/info/tree", &[])]);
}

/// Git never tracks these names, and skips them without an error.
#[test]
fn files_with_names_that_git_refuses_are_kept() {
    for path in ["fixtures/.GIT/config", "git~1"] {
        keeps(path, Kept::Workspace, |shape| {
            shape.write(path, "nobody else has it\n");
            vec![shape.git(&["rev-parse", "HEAD"])]
        });
    }
}

/// Git does not look for repositories in a directory whose files it tracks; nor is the inner one complete.
#[test]
fn repositories_in_what_looks_like_a_repository_are_kept() {
    for damage in ["HEAD", "objects"] {
        keeps(damage, Kept::Workspace, |shape| {
            shape.write("x/HEAD", "data");
            shape.write("x/refs/f", "data");
            shape.write("x/sub/file", "data");
            shape.git(&["add", "--all"]);
            shape.git(&["commit", "--quiet", "--message", "x"]);
            shape.site.git(&["fetch", "--quiet", shape.workspace.to_str().unwrap(), "main:from-the-machine"]);
            shape.nested("x/sub", &[]);
            let part = shape.workspace.join("x/sub/.git").join(damage);
            fs::rename(&part, part.with_extension("moved")).unwrap();
            vec![shape.git(&["rev-parse", "HEAD"])]
        });
    }
}

/// Git keeps object ids and messages in files with names in capitals; another such file may be anything.
#[test]
fn unknown_files_of_the_git_directory_are_kept() {
    keeps("a bundle with a name in capitals", Kept::Workspace, |shape| {
        let commit = shape.commit("visible");
        shape.git(&["bundle", "create", "--quiet", ".git/BACKUP_HEAD", "HEAD"]);
        vec![commit]
    });
    keeps("a bundle with the name of a lock", Kept::Workspace, |shape| {
        let commit = shape.commit("visible");
        shape.git(&["bundle", "create", "--quiet", ".git/my.lock", "HEAD"]);
        vec![commit]
    });
    // Control: git's own files are no work.
    keeps("git's own files", Kept::Bundle, |shape| {
        let commit = shape.commit("visible");
        for name in ["ORIG_HEAD", "FETCH_HEAD", "AUTO_MERGE", "BISECT_START", "SQUASH_MSG"] {
            shape.write(&format!(".git/{name}"), &format!("{commit}\n"));
        }
        vec![commit]
    });
}

/// An object store in an ignored directory, which the repository borrows from, has a commit that no reference reaches.
#[test]
fn stores_that_the_workspace_lends_itself_are_kept() {
    keeps("a lent store", Kept::Workspace, |shape| {
        let commit = shape.commit("visible");
        let hidden = shape.loose("hidden");
        shape.write(".git/info/exclude", "lent\n");
        let object = Path::new(&hidden[..2]).join(&hidden[2..]);
        fs::create_dir_all(shape.workspace.join("lent").join(&hidden[..2])).unwrap();
        let (from, to) =
            (shape.workspace.join(".git/objects").join(&object), shape.workspace.join("lent").join(object));
        fs::rename(from, to).unwrap();
        shape.write(".git/objects/info/alternates", "../../lent\n");
        assert_eq!(shape.git(&["cat-file", "-t", &hidden]), "commit");
        vec![commit]
    });
}

#[test]
fn patches_of_an_unfinished_git_am_are_kept() {
    keeps("patches", Kept::Workspace, |shape| {
        let first = shape.commit("one");
        let patch = shape.git(&["format-patch", "--output-directory=.git", "HEAD~1"]);
        shape.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
        shape.commit("another");
        shape.try_git(&["am", &patch]);
        fs::remove_file(shape.workspace.join(patch)).unwrap();
        assert!(shape.workspace.join(".git/rebase-apply/0001").exists());
        vec![first]
    });
}

/// Git ignores this damage, or only prints a warning.
#[test]
fn a_damaged_repository_is_kept_whole() {
    keeps("a damaged index of a pack", Kept::Workspace, |shape| {
        shape.commit("in the pack");
        shape.git(&["repack", "-a", "-d", "-q"]);
        shape.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
        // This commit needs nothing from the pack.
        let tree = shape.git(&["hash-object", "-t", "tree", "-w", "/dev/null"]);
        let kept = shape.git(&["commit-tree", "-m", "beside it", &tree]);
        let dir = fs::read_dir(shape.workspace.join(".git/objects/pack")).unwrap().map(|entry| entry.unwrap().path());
        let index = dir.into_iter().find(|path| path.extension() == Some(OsStr::new("idx"))).unwrap();
        let good = fs::read(&index).unwrap();
        fs::remove_file(&index).unwrap();
        fs::write(&index, [b"\0", &good[1..]].concat()).unwrap();
        vec![kept]
    });
    keeps("a damaged object", Kept::Workspace, |shape| {
        let (lost, kept) = (shape.loose("lost"), shape.loose("kept"));
        let object = shape.workspace.join(".git/objects").join(&lost[..2]).join(&lost[2..]);
        fs::remove_file(&object).unwrap();
        fs::write(object, "").unwrap();
        vec![kept]
    });
    keeps("a path that is too long", Kept::Workspace, |shape| {
        let name = "d".repeat(200);
        let directory = rustix::fs::OFlags::DIRECTORY;
        let mut dir = rustix::fs::open(&shape.workspace, directory, 0.into()).unwrap();
        for _ in 0..30 {
            rustix::fs::mkdirat(&dir, name.as_str(), 0o700.into()).unwrap();
            dir = rustix::fs::openat(&dir, name.as_str(), directory, 0.into()).unwrap();
        }
        rustix::fs::openat(&dir, "file", rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY, 0o600.into())
            .unwrap();
        vec![shape.git(&["rev-parse", "HEAD"])]
    });
}

/// Git skips the pack without an error.
#[test]
fn a_pack_whose_index_cannot_be_read_is_kept() {
    if rustix::process::geteuid().is_root() {
        return skip("root may read everything");
    }
    keeps("an unreadable index of a pack", Kept::Workspace, |shape| {
        let commit = shape.git(&["rev-parse", "HEAD"]);
        // Only this commit is in the pack, and no reference leads to it.
        let pack = format!("echo {} | git pack-objects -q .git/objects/pack/pack", shape.loose("lost"));
        let packed = shape.site.command("sh").args(["-c", &pack]).current_dir(&shape.workspace).output().unwrap();
        let name = String::from_utf8(packed.stdout).unwrap();
        shape.git(&["prune-packed", "-q"]);
        let index = shape.workspace.join(format!(".git/objects/pack/pack-{}.idx", name.trim()));
        fs::set_permissions(index, fs::Permissions::from_mode(0o000)).unwrap();
        vec![commit]
    });
}
