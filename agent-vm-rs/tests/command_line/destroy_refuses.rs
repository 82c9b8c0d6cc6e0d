//! `destroy` that fails to keep what only the machine has: the machine is unchanged, and the error has a hint.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::{Running, Site, skip, tree, wait_until};

#[test]
fn a_temporary_failure_leaves_the_machine_unchanged() {
    // What happens to git (or to agent-vm itself), the exit code, and the message.
    let troubles = [
        ("kill -INT $PPID; sleep 5", 130, "interrupted"),
        ("kill -TERM $PPID; sleep 5", 143, "interrupted"),
        ("kill -HUP $PPID; sleep 5", 129, "interrupted"),
        ("kill -KILL $$", 1, "git was killed by signal 9"),
        ("echo 'error: pack-objects died of signal 9' >&2; exit 128", 1, "agent-vm destroy app-main --keep workspace"),
        (
            "echo 'fatal: write error: No space left on device' >&2; exit 128",
            1,
            "--keep-in DIR\n  if the disk is not full, keep the whole workspace: agent-vm destroy app-main --keep workspace",
        ),
        ("echo 'bwrap: Creating new namespace failed' >&2; exit 1", 1, "agent-vm destroy app-main --keep workspace"),
    ];
    let site = Site::new();
    site.create_with_work();
    let before = tree(&site.machine("app-main"));
    for word in ["cat-file", "status", "create", "unbundle"] {
        for (trouble, code, said) in troubles {
            // Matches only the git that examines the workspace, not the one that reads the source.
            site.intercept("prlimit", word, &format!("case $1 in --as=4294967296) {trouble};; esac"));
            let done = site.run(&["destroy", "--yes"]).exits(code).gives_one_error().says(said);
            assert!(tree(&site.machine("app-main")) == before, "{word}: {trouble}: {done:?}");
            assert_eq!(site.kept(), Vec::<PathBuf>::new(), "{word}: {trouble}");
        }
    }
    // Control: if git reports damage of the repository itself, the workspace is kept.
    site.intercept("prlimit", "create", "echo 'fatal: bad object HEAD' >&2; exit 128");
    site.run(&["destroy", "--yes"]).ok().says("cannot be read (bad object HEAD); the workspace is kept whole in");
    assert!(site.kept()[0].join("work").is_file());
}

/// `status` also distinguishes a temporary failure from damage.
#[test]
fn status_distinguishes_a_failure_from_damage() {
    let site = Site::new();
    let (workspace, _) = site.create_with_work();
    site.intercept("prlimit", "rev-list", "kill -KILL $$");
    let done = site.run(&["status"]).ok().prints("failed to examine the workspace: git was killed by signal 9");
    assert!(!done.stdout.contains("the workspace's repository"), "{done:?}");
    site.intercept("prlimit", "rev-list", "kill -INT $PPID; sleep 5");
    site.run(&["status"]).exits(130).gives_one_error();
    // Control: the repository is damaged.
    site.restore("prlimit");
    fs::write(workspace.join(".git/refs/heads/broken"), "5".repeat(40)).unwrap();
    site.run(&["status"]).ok().prints("the workspace's repository: ");
    // The machine is removed while `status` examines it.
    let rename = format!("mv '{0}' '{0}.moved'", site.machine("app-main").display());
    site.intercept("prlimit", "rev-list", &rename);
    site.run(&["status"]).exits(1).gives_one_error().says("there is no machine for app-main");
}

#[test]
fn keep_in_sets_the_directory_of_bundles() {
    let site = Site::new();
    let (workspace, commit) = site.create_with_work();
    let bundles = site.state().join(".bundles");
    fs::write(&bundles, "in the way").unwrap();
    let refused = site.run(&["destroy"]).exits(1).gives_one_error().says(".bundles is not a directory");
    refused.says("agent-vm destroy app-main --keep-in DIR");
    for inside in [&workspace.join("kept"), &site.state(), &site.state().join(".locks"), &site.state().join(".gone-x")]
    {
        site.run(&["destroy", "--keep-in", &inside.display().to_string()])
            .exits(2)
            .gives_one_error()
            .says("is in the state directory, where files are removed");
    }
    assert_eq!(site.names(), ["app-main"]);
    let elsewhere = site.path("elsewhere/kept");
    site.run(&["destroy", "--keep-in", elsewhere.to_str().unwrap()]).ok().says("elsewhere/kept/app-main-");
    let entries: Vec<_> = fs::read_dir(&elsewhere).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [bundle] = entries.as_slice() else { panic!("{entries:?}") };
    assert!(site.git(&["bundle", "list-heads", bundle.to_str().unwrap()]).contains(&commit));
    assert_eq!(fs::read_to_string(bundles).unwrap(), "in the way");
}

/// The next command would remove the bundle.
#[test]
fn keep_in_finds_the_state_directory_by_every_path() {
    let site = Site::new();
    let (_, commit) = site.create_with_work();
    site.create("other");
    let state = site.state();
    symlink(&state, site.path("link")).unwrap();
    symlink(state.join(".locks"), site.path("link-to-locks")).unwrap();
    let back = format!("missing/../{}", state.strip_prefix(site.root()).unwrap().display());
    let absolute = |path: &str| site.root().join(path).display().to_string();
    for (number, inside) in [
        absolute("link/.locks"),
        absolute("link/.gone-x"),
        absolute("link/.new-app-third"),
        absolute("link/app-other/kept"),
        absolute("link-to-locks"),
        absolute("link-to-locks/deep/er"),
        absolute(&back),
        absolute(&format!("{back}/.locks")),
        absolute(&format!("{back}/.bundles/../.locks")),
        absolute(&format!("{back}/.bundles/missing/../../.gone-x")),
        format!("../{back}/.swept-1"),
    ]
    .iter()
    .enumerate()
    {
        site.run(&["destroy", "--keep-in", inside])
            .exits(2)
            .gives_one_error()
            .says("is in the state directory, where files are removed")
            .says("hint: choose a directory outside");
        assert!(site.machine("app-main").exists() && !site.path("missing").exists(), "{number}: {inside}");
    }
    // A link in place of `.bundles` allows no other directory.
    symlink(".", state.join(".bundles")).unwrap();
    site.run(&["destroy", "--keep-in", &absolute("link/.locks")]).exits(2).gives_one_error();
    fs::remove_file(state.join(".bundles")).unwrap();
    // Controls: what is in `.bundles` stays, and so does what only looks as if it were in the state directory.
    let deep = absolute("link/.bundles/deep");
    site.run(&["destroy", "--keep-in", &deep]).ok().says("the commits that only app-main had are in");
    let beside = state.with_file_name("agent-vms-kept").display().to_string();
    site.commit_in(site.machine("app-other").join("workspace"), "more", "x");
    site.run(&["destroy", "other", "--keep-in", &beside]).ok();
    site.run(&["list"]).ok();
    for dir in [&deep, &beside] {
        let kept: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(kept.len(), 1, "{kept:?}");
    }
    let bundle = fs::read_dir(deep).unwrap().next().unwrap().unwrap().path();
    assert!(site.git(&["bundle", "list-heads", bundle.to_str().unwrap()]).contains(&commit));
}

#[test]
fn keep_workspace_and_keep_nothing_are_obeyed() {
    let site = Site::new();
    site.create_with_work();
    site.run(&["destroy", "--keep", "workspace"]).ok().says("the workspace is kept whole in");
    assert!(site.kept()[0].join("work").is_file());
    site.create_with_work();
    site.run(&["destroy", "--keep", "nothing"]).ok().does_not_say("kept").says("removed app-main");
    assert_eq!(site.kept().len(), 1);
}

/// The killed command has moved the workspace and done nothing else.
#[test]
fn destroy_completes_a_killed_one() {
    // Also if the next one has another directory.
    for elsewhere in [false, true] {
        let site = Site::new();
        let (workspace, _) = site.create_with_work();
        fs::create_dir(workspace.join(".git/hooks")).unwrap();
        let bundles = site.state().join(".bundles");
        fs::create_dir(&bundles).unwrap();
        fs::rename(&workspace, bundles.join(".unfinished-app-main-20260101T000000Z.workspace")).unwrap();
        site.run(&["start"])
            .exits(1)
            .gives_one_error()
            .says("an interrupted destroy has moved the workspace of app-main to ")
            .says(".bundles/.unfinished-app-main-20260101T000000Z.workspace")
            .says("hint: to complete it and keep the workspace: agent-vm destroy app-main");
        let other = site.path("elsewhere").display().to_string();
        let args = if elsewhere { vec!["destroy", "--keep-in", &other] } else { vec!["destroy"] };
        site.run(&args).ok().says("app-main-20260101T000000Z.workspace").says("removed app-main");
        let kept = bundles.join("app-main-20260101T000000Z.workspace");
        assert!(kept.join("work").is_file() && kept.join(".git/hooks.of-the-guest").is_dir());
    }
}

/// The killed command had the directory in its record.
#[test]
fn a_workspace_that_was_moved_to_another_directory_is_found() {
    for next in [&["destroy", "--yes"][..], &["kept", "prune", "--yes"]] {
        let site = Site::new();
        site.create_with_work();
        let elsewhere = site.path("elsewhere");
        site.run(&["destroy", "--yes", "--keep", "workspace", "--keep-in", elsewhere.to_str().unwrap()]).ok();
        let kept = fs::read_dir(&elsewhere).unwrap().next().unwrap().unwrap().path();
        let name = kept.file_name().unwrap().to_str().unwrap().to_owned();
        // As it is left after the move: git's configuration and hooks are the guest's.
        fs::rename(&kept, elsewhere.join(format!(".unfinished-{name}"))).unwrap();
        if next[0] == "destroy" {
            let workspace = site.machine(&site.create("main")).join("workspace");
            fs::remove_dir_all(workspace).unwrap();
            site.run(&["start"]).exits(1).gives_one_error().says("an interrupted destroy has moved the workspace");
        }
        if next[0] == "kept" {
            let stem = name.strip_suffix(".workspace").unwrap();
            site.run(&["kept", "show", stem])
                .exits(1)
                .gives_one_error()
                .says("half done")
                .says("agent-vm destroy app-main");
            // The name is no excuse: nobody has seen what is in it.
            let named = [next, &[stem][..]].concat();
            site.run(&named).ok().prints("stays").prints("a killed destroy left it half done");
        }
        let done = site.run(next).ok();
        match next[0] {
            "destroy" => done.says(&name).says("take it back: agent-vm kept restore"),
            _ => done.prints("stays").prints("lacks 1 commit"),
        };
        assert!(kept.join("work").is_file(), "{next:?}");
    }
}

/// Killed while it copies the workspace to another disk.
#[test]
fn a_half_copied_workspace_is_removed() {
    let site = Site::new();
    site.create_with_work();
    let Ok(disk) = tempfile::tempdir_in("/dev/shm") else { return skip("there is no /dev/shm") };
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    if device(disk.path()) == device(&site.root()) {
        return skip("there is no other file system");
    }
    let reached = site.path("reached");
    let half = format!("for last; do :; done\ntouch \"$last\" '{}'; exec sleep 1000", reached.display());
    site.intercept("cp", "--archive", &half);
    let place = disk.path().to_str().unwrap();
    let destroy = site.spawn(&["destroy", "--keep", "workspace", "--keep-in", place]);
    site.wait_for("reached");
    destroy.signal(Signal::KILL);
    drop(destroy.output());
    site.restore("cp");
    let left = || fs::read_dir(disk.path()).unwrap().count();
    assert_eq!(left(), 1, "control");
    site.run(&["list"]).ok();
    assert_eq!(left(), 0);
    site.run(&["destroy", "--yes", "--keep", "workspace", "--keep-in", place]).ok();
    let kept = fs::read_dir(disk.path()).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    assert!(kept.len() == 1 && kept[0].join("work").is_file(), "{kept:?}");
}

/// Killed while it writes the bundle, `destroy` leaves a temporary directory outside the state directory.
#[test]
fn the_next_command_cleans_the_directory_of_keep_in() {
    for next in [&["list"][..], &["destroy", "--yes"]] {
        let site = Site::new();
        site.create_with_work();
        let elsewhere = site.path("elsewhere");
        let reached = site.path("reached");
        site.intercept("prlimit", "create", &format!("touch '{}'; exec sleep 1000", reached.display()));
        let destroy = site.spawn(&["destroy", "--keep-in", elsewhere.to_str().unwrap()]);
        site.wait_for("reached");
        destroy.signal(Signal::KILL);
        drop(destroy.output());
        site.restore("prlimit");
        let left = || fs::read_dir(&elsewhere).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        // Control: it is there.
        assert_eq!(left(), [".part-app-main"]);
        fs::write(elsewhere.join("mine"), "x").unwrap();
        site.run(next).ok();
        assert_eq!(left(), ["mine"], "{next:?}");
        assert!(!site.machine("app-main").join("scratch-elsewhere").exists());
    }
}

/// The second command finds nothing to do.
#[test]
fn commands_that_waited_for_destroy_find_no_machine() {
    let site = Site::new();
    site.create_with_work();
    // Hold the lock as the first `destroy` does.
    let locks = site.state().join(".locks");
    fs::create_dir_all(&locks).unwrap();
    let lock = fs::File::create(locks.join("app-main")).unwrap();
    lock.lock().unwrap();
    let others = [("one", &["destroy", "--yes", "app-main"][..]), ("two", &["stop", "app-main"])];
    let others = others.map(|(name, args)| {
        let said = fs::File::create(site.path(name)).unwrap();
        (name, Running::new(site.agent_vm(args).stdout(Stdio::null()).stderr(said).spawn().unwrap()))
    });
    // The commands have found the machine and report that they wait.
    for (name, _) in &others {
        wait_until(name, || {
            site.read(name).contains("waiting for another agent-vm command that is using this machine")
        });
    }
    fs::remove_dir_all(site.state().join("app-main")).unwrap();
    drop(lock);
    for (name, other) in others {
        assert_eq!(other.output().status.code(), Some(1), "{name}");
        let said = site.read(name);
        assert_eq!(said.matches("error: ").count(), 1, "{said}");
        assert!(said.contains("there is no machine for app-main"), "{said}");
    }
}

/// What a damaged source has is unknown, so the whole history would count as new.
#[test]
fn a_damaged_source_does_not_count_as_missing() {
    let site = Site::new();
    site.create_with_work();
    let refuse = |said: &str| {
        let before = tree(&site.machine("app-main"));
        site.run_in(site.root(), &["destroy", "app-main", "--yes"])
            .exits(1)
            .gives_one_error()
            .says(said)
            .says("hint: ");
        assert!(tree(&site.machine("app-main")) == before);
        assert_eq!(site.kept(), Vec::<PathBuf>::new());
    };
    site.write("app/.git/refs/heads/broken", "no object id\n");
    refuse("its reference refs/heads/broken cannot be read");
    fs::remove_file(site.path("app/.git/refs/heads/broken")).unwrap();
    let config = site.read("app/.git/config");
    site.write("app/.git/config", "[core\n");
    refuse("its source cannot be used");
    site.write("app/.git/config", config);
    // Control: a remote's HEAD may point to a deleted branch.
    fs::create_dir_all(site.path("app/.git/refs/remotes/origin")).unwrap();
    site.write("app/.git/refs/remotes/origin/HEAD", "ref: refs/remotes/origin/gone\n");
    site.run(&["destroy", "--yes"]).ok().says("removed app-main");
}

#[test]
fn a_failed_destroy_leaves_no_new_directory() {
    let site = Site::new();
    site.create_with_work();
    let deep = site.path("new/deep").display().to_string();
    // A source that cannot be read.
    site.write("app/.git/shallow", "damaged\n");
    site.run(&["destroy", "--yes", "--keep-in", &deep]).exits(1).gives_one_error();
    assert!(!site.path("new").exists());
    // Control: what was there stays, and what is kept there.
    fs::create_dir(site.path("new")).unwrap();
    site.run(&["destroy", "--yes", "--keep-in", &deep]).exits(1);
    assert_eq!(fs::read_dir(site.path("new")).unwrap().count(), 0);
    fs::remove_file(site.path("app/.git/shallow")).unwrap();
    site.run(&["destroy", "--yes", "--keep-in", &deep]).ok();
    assert_eq!(fs::read_dir(&deep).unwrap().count(), 1);
}
