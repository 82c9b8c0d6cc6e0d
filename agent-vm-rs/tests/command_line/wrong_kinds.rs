//! Something else in place of a file or directory of agent-vm: one error with a hint, only for that machine, and
//! nothing hangs.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::stand_ins::{ENDS, create, install};
use crate::support::{Done, Site, skip};

/// Paths in a state directory, besides machines.
const OF_THE_STATE: [&str; 5] = [".locks", ".locks/app-main", ".bundles", ".gone-x-main", ".new-y-main"];
/// Paths in a machine that was started once.
const OF_A_MACHINE: [&str; 20] = [
    "config.json",
    "workspace",
    "workspace/.git",
    "ssh",
    "ssh/id_ed25519",
    "ssh/known_hosts",
    "tls",
    "tls/ca.key",
    "tls/token",
    "disk.qcow2",
    "flake",
    "flake/fingerprint",
    "flake/guest",
    "egress",
    "egress/rules/rules.json",
    "egress/ca/ca.pem",
    "run",
    "console.log",
    "failure",
    "",
];
/// Paths in a machine whose QEMU runs or seems to run.
const OF_A_RUN: [&str; 4] = ["run/qemu.pid", "run/ports.json", "run/virtiofsd.pid", "run/qemu"];

/// The commands, in this order: the last one removes the machine.
const VERBS: [&[&str]; 9] = [
    &["status", "app-main"],
    &["list"],
    &["logs", "app-main", "--console"],
    &["egress", "list", "app-main"],
    &["mcp-config", "app-main", "--client", "cursor"],
    &["exec", "app-main", "--", "true"],
    &["start", "app-main"],
    &["stop", "app-main"],
    &["destroy", "app-main", "--yes"],
];

fn pipe(path: &Path) {
    mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).unwrap();
}

fn put(kind: &str, path: &Path) {
    let found = path.symlink_metadata();
    if kind == "unreadable" {
        if found.is_ok_and(|found| !found.is_symlink()) {
            fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
        }
        return;
    }
    let is_dir = found.as_ref().is_ok_and(|found| found.is_dir());
    let was_file = found.is_ok_and(|found| found.is_file());
    if is_dir {
        fs::remove_dir_all(path).unwrap();
    } else {
        drop(fs::remove_file(path));
    }
    match kind {
        "nothing" => {}
        "file" => fs::write(path, if was_file { "" } else { "x" }).unwrap(),
        "directory" => {
            fs::create_dir(path).unwrap();
            fs::write(path.join("something"), "x").unwrap();
        }
        "link" => symlink("/proc/self", path).unwrap(),
        "pipe" => pipe(path),
        _ => unreachable!(),
    }
}

/// Runs a command, which must end in time.
#[track_caller]
fn in_time(site: &Site, what: &str, args: &[&str]) -> Done {
    let mut command = site.agent_vm(args);
    let (out, err) = (site.path("out"), site.path("err"));
    let file = |path| Stdio::from(fs::File::create(path).unwrap());
    let mut child = command.stdout(file(&out)).stderr(file(&err)).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{what}: {args:?} hangs\n{}", fs::read_to_string(&err).unwrap());
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    let output = std::process::Output { status, stdout: fs::read(&out).unwrap(), stderr: fs::read(&err).unwrap() };
    Done::new(format!("{what}: {args:?}"), &output)
}

/// Makes a site with a machine that was started once, and another machine.
fn place() -> Site {
    let site = Site::new();
    install(&site, ENDS);
    create(&site, "main");
    site.run(&["start"]).exits(1).says("app-main did not start completely");
    site.create("other");
    site
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

/// Returns a description of the command if it ended in an unexpected way.
fn wrong_with(done: &Done) -> Option<String> {
    let count = |label: &str| done.stderr.lines().filter(|line| line.starts_with(label)).count();
    let fits = match done.code {
        Some(0) => count("error:") == 0,
        Some(1 | 2) => count("error:") == 1 && count("hint:") == 1 && done.stdout.is_empty(),
        _ => false,
    };
    (!fits || done.stderr.contains("panicked")).then(|| format!("{done:?}"))
}

/// Runs every command while something is wrong at a path. Afterwards the machine must be gone, or the commands must
/// have named the path. Returns descriptions of the unexpected results.
fn try_verbs(site: &Site, what: &str, wrong: &Path) -> Vec<String> {
    let mut trouble: Vec<_> = VERBS.iter().filter_map(|verb| wrong_with(&in_time(site, what, verb))).collect();
    // Commands for the other machine must work. If all machines need the path, they may fail with an error that names
    // it.
    let of_all = wrong.parent().is_some_and(|dir| dir == site.state()) && !wrong.ends_with("app-main");
    let more: &[&[&str]] = if of_all { &[&["create", "--branch", "third"], &["destroy", "third"]] } else { &[] };
    for args in [&["status", "app-other"][..], &["list"]].iter().chain(more) {
        let done = in_time(site, what, args);
        let well = done.code == Some(0) && !done.stdout.contains("Problem");
        let named = of_all && wrong_with(&done).is_none() && done.stderr.contains(wrong.to_str().unwrap());
        if !well && !named {
            trouble.push(format!("{done:?}"));
        }
    }
    if wrong.symlink_metadata().is_err()
        && (site.names() != ["app-other"] || site.state_entries().iter().any(|name| name.starts_with(".gone")))
    {
        trouble.push(format!("{what}: left {:?}", site.state_entries()));
    }
    trouble
}

fn each(kind: &str) {
    let site = place();
    let (state, kept) = (site.state(), site.path("kept"));
    copy(&state, &kept);
    let again = |changed: &Path| {
        if kind == "unreadable" && changed.symlink_metadata().is_ok_and(|found| !found.is_symlink()) {
            fs::set_permissions(changed, fs::Permissions::from_mode(0o700)).unwrap();
        }
        fs::remove_dir_all(&state).unwrap();
        copy(&kept, &state);
    };
    let mut trouble = Vec::new();
    for object in OF_THE_STATE {
        let path = state.join(object);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).unwrap();
        }
        put(kind, &path);
        trouble.extend(try_verbs(&site, &format!("{kind} at {object}"), &path));
        again(&path);
    }
    for object in OF_A_MACHINE.iter().chain(&OF_A_RUN) {
        let path: PathBuf = state.join("app-main").join(object).components().collect();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        put(kind, &path);
        trouble.extend(try_verbs(&site, &format!("{kind} at {object}"), &path));
        again(&path);
    }
    assert!(trouble.is_empty(), "{}", trouble.join("\n"));
}

#[test]
fn a_missing_path_is_handled() {
    each("nothing");
}

#[test]
fn a_file_is_handled() {
    each("file");
}

#[test]
fn a_directory_is_handled() {
    each("directory");
}

#[test]
fn a_link_is_handled() {
    each("link");
}

#[test]
fn a_pipe_is_handled() {
    each("pipe");
}

#[test]
fn an_unreadable_path_is_handled() {
    if rustix::process::geteuid().is_root() {
        return skip("root may read everything");
    }
    each("unreadable");
}
