//! The next command, for any machine, removes what killed commands leave, but nothing that a running command uses.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, IFlags, flock, ioctl_getflags, ioctl_setflags};
use rustix::process::Signal;

use crate::support::{Running, Site, skip, suspend, wait_until, which};

/// Makes the files that killed commands leave; returns their paths.
fn leave(site: &Site) -> Vec<PathBuf> {
    let dirs = [".gone-app-old", ".new-app-cut", ".swept-1.gone-app-older", "app-main/.tmp-abc"];
    let files =
        ["app-main/.tmp-disk.raw", "app-main/tls/.tmp-abc", "app-main/egress/rules/.tmp-abc", ".locks/app-nobody"];
    for dir in dirs {
        fs::create_dir_all(site.state().join(dir).join("deep/er")).unwrap();
        fs::write(site.state().join(dir).join("file"), "x").unwrap();
    }
    for file in files {
        fs::create_dir_all(site.state().join(file).parent().unwrap()).unwrap();
        // Locks are empty; any other file there is not of agent-vm.
        fs::write(site.state().join(file), if file.starts_with(".locks") { "" } else { "x" }).unwrap();
    }
    dirs.iter().chain(&files).map(|name| site.state().join(name)).collect()
}

#[test]
fn every_command_about_machines_cleans_up_after_killed_ones() {
    let site = Site::new();
    site.create("main");
    site.create("other");
    for args in [
        &["list"][..],
        &["status", "other"],
        &["stop", "other"],
        &["destroy", "other"],
        &["create", "--branch", "third"],
    ] {
        let left = leave(&site);
        site.run(args).ok();
        let stays: Vec<_> = left.iter().filter(|path| path.exists()).collect();
        assert!(stays.is_empty(), "{args:?} left {stays:?}");
        // Control: the machine's own files stay.
        assert!(site.machine("app-main").join("workspace/README").exists());
    }
    site.run(&["status", "main"]).ok().prints("0 changed files");
}

/// A start may be killed when it has begun a process and not yet recorded it.
#[test]
fn processes_of_a_half_made_start_end_with_any_command() {
    let site = Site::new();
    site.create("main");
    let machine = site.machine("app-main");
    let run = machine.join("run");
    fs::create_dir(&run).unwrap();
    let begin = || {
        let mut process = site.command(which("sleep").unwrap());
        Running::new(process.arg("1000").env("AGENT_VM_MACHINE", &machine).spawn().unwrap())
    };

    // Controls: a start is under way, or the machine runs.
    let mut process = begin();
    let lock = File::open(site.state().join(".locks/app-main")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    site.run(&["list"]).ok();
    flock(&lock, FlockOperation::Unlock).unwrap();
    fs::write(run.join("ports.json"), "{}").unwrap();
    site.run(&["list"]).ok();
    assert!(!process.ended());

    fs::remove_file(run.join("ports.json")).unwrap();
    for args in [&["list"][..], &["status", "main"]] {
        site.run(args).ok();
        wait_until("the process to end", || process.ended());
        process = begin();
    }
    site.run(&["destroy"]).ok();
    site.assert_nothing_left();
}

/// A command that only reads the machine needs no lock.
#[test]
fn processes_of_a_running_command_do_not_end_with_those_of_a_half_made_start() {
    let site = Site::new();
    site.create("main");
    let machine = site.machine("app-main");
    fs::create_dir(machine.join("run")).unwrap();
    // Git of the first command waits.
    let (asked, go) = (site.path("asked"), site.path("go"));
    let until = format!("until test -e '{}'; do sleep 0.02; done", go.display());
    site.intercept("git", "cat-file", &format!("if mkdir '{}' 2>/dev/null; then {until}; fi", asked.display()));
    let reads = site.spawn(&["status", "main"]);
    wait_until("git to be asked", || asked.exists());
    // Control: one that a start left ends.
    let mut left = Running::new(
        site.command(which("sleep").unwrap()).arg("1000").env("AGENT_VM_MACHINE", &machine).spawn().unwrap(),
    );
    site.run(&["list"]).ok();
    wait_until("the process to end", || left.ended());
    fs::write(&go, "").unwrap();
    let output = reads.output();
    let [printed, said] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && printed.contains("0 changed files"), "{printed}{said}");
}

#[test]
fn a_lock_is_removed_with_its_machine() {
    let site = Site::new();
    site.create("main");
    let locks = || {
        let entries = fs::read_dir(site.state().join(".locks")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with('.')).collect::<Vec<_>>()
    };
    assert_eq!(locks(), ["app-main"]);
    site.run(&["destroy"]).ok();
    assert!(locks().is_empty());
    // A machine whose creation failed leaves no lock either.
    site.stand_in("ssh-keygen", "exit 1");
    site.run(&["create"]).exits(1);
    assert!(locks().is_empty());
}

/// Only empty files are locks.
#[test]
fn a_file_with_contents_among_the_locks_stays() {
    let site = Site::new();
    site.create("main");
    let lock = |name: &str| site.state().join(".locks").join(name);
    fs::write(lock("app-empty"), "").unwrap();
    fs::write(lock("app-full"), "x").unwrap();
    fs::create_dir(lock("app-directory")).unwrap();
    fs::write(lock("app-directory").join("file"), "x").unwrap();
    for args in [&["list"][..], &["destroy"], &["list"]] {
        site.run(args).ok();
    }
    assert_eq!(fs::read_to_string(lock("app-full")).unwrap(), "x");
    assert!(lock("app-directory").join("file").exists());
    // Control.
    assert!(!lock("app-empty").exists() && !lock("app-main").exists());
}

#[test]
fn files_of_a_running_command_stay() {
    let site = Site::new();
    site.create("main");
    // One command creates a machine, another one examines a workspace.
    let hang = |name: &str| format!("touch '{}'; exec sleep 1000", site.path(name).display());
    site.intercept("git", "clone", &hang("clones"));
    let create = site.spawn(&["create", "--branch", "third"]);
    site.wait_for("clones");
    site.intercept("git", "init", &hang("looks"));
    let status = site.spawn(&["status", "main"]);
    site.wait_for("looks");
    // It is suspended so that it does not time out.
    suspend(status.pid());
    site.restore("git");
    let scratch = || {
        let entries = fs::read_dir(site.machine("app-main")).unwrap().flatten();
        entries.filter(|entry| entry.file_name().to_str().unwrap().starts_with(".tmp-")).count()
    };
    assert_eq!((scratch(), site.state().join(".new-app-third").exists()), (2, true));
    site.run(&["list"]).ok();
    site.create("other");
    assert_eq!((scratch(), site.state().join(".new-app-third").exists()), (2, true));
    // Control: once the commands are dead, their files are removed.
    for command in [create, status] {
        command.signal(Signal::KILL);
        drop::<Running>(command);
    }
    site.run(&["list"]).ok();
    assert_eq!((scratch(), site.state().join(".new-app-third").exists()), (0, false));
}

/// Sets or clears the immutable flag of a file; returns false, with the test reported as skipped, if that fails.
pub fn set_immutable(path: &Path, on: bool) -> bool {
    let file = File::open(path).unwrap();
    let set = ioctl_getflags(&file).and_then(|flags| {
        let flags = if on { flags | IFlags::IMMUTABLE } else { flags - IFlags::IMMUTABLE };
        ioctl_setflags(&file, flags)
    });
    if set.is_err() {
        skip("nothing can be made immutable here");
    }
    set.is_ok()
}

/// An immutable file obstructs only its own machine, and the error has a hint.
#[test]
fn immutable_files_are_reported_and_obstruct_no_other_machine() {
    let site = Site::new();
    site.create("other");
    for (object, verbs) in [
        (".gone-app-x", &["list", "status", "create"][..]),
        ("app-main/config.json", &["destroy"]),
        ("app-main/workspace", &["destroy"]),
        ("app-main", &["start", "destroy"]),
    ] {
        if !site.machine("app-main").exists() {
            site.create("main");
        }
        let path = site.state().join(object);
        if !path.exists() {
            fs::create_dir(&path).unwrap();
        }
        if !set_immutable(&path, true) {
            return;
        }
        let said: Vec<_> = verbs
            .iter()
            .map(|verb| {
                let args: &[&str] = match *verb {
                    "create" => &["create", "--branch", "third"],
                    "destroy" => &["destroy", "main"],
                    "status" => &["status", "other"],
                    other => &[other],
                };
                (verb, site.run(args))
            })
            .collect();
        site.run(&["status", "other"]).ok();
        site.run(&["list"]).ok().prints("app-other");
        let moved =
            site.state_entries().into_iter().find(|name| name.starts_with(".swept-") || name.starts_with(".gone-"));
        let now = if path.exists() {
            path
        } else {
            site.state().join(moved.unwrap()).join(object.rsplit('/').next().unwrap())
        };
        let now = if now.exists() { now } else { now.parent().unwrap().to_owned() };
        assert!(set_immutable(&now, false));
        for (verb, done) in said {
            assert!(done.stderr.contains("chattr -i"), "{verb} beside {object}: {done:?}");
        }
        drop(site.run(&["destroy", "third"]));
        site.run(&["list"]).ok();
        let left: Vec<_> = site
            .state_entries()
            .into_iter()
            .filter(|name| name.starts_with(".gone") || name.starts_with(".swept"))
            .collect();
        assert!(left.is_empty(), "{object}: {left:?}");
    }
}
