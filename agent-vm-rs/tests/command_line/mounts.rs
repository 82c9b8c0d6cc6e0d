//! Mounts show the machines' files under other paths.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::support::{Site, namespaces, skip, which};

/// Exit code of a script whose mount failed.
const NO_MOUNT: i32 = 66;

/// Runs agent-vm in a mount namespace after a mount; None if that cannot be mounted here.
fn mounted(site: &Site, mount: &[&str], command: &[&str]) -> Option<Output> {
    let unshare = namespaces(&["--mount"])?;
    let quoted = |words: &[&str]| shlex::try_join(words.iter().copied()).unwrap();
    let (program, mount) = (which("mount").unwrap(), quoted(mount));
    let command = quoted(&[&[env!("CARGO_BIN_EXE_agent-vm")], command].concat());
    let script = format!("{} {mount} || exit {NO_MOUNT}; exec {command}", program.display());
    let output = site.command("unshare").args(&unshare).args(["sh", "-c", &script]).output().unwrap();
    if output.status.code() == Some(NO_MOUNT) {
        skip(&format!("mount {mount} fails here"));
        return None;
    }
    Some(output)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The only copy of a commit is in the workspace, and the source finds it there through a mount.
#[test]
fn a_source_that_uses_the_workspaces_objects_through_a_mount_is_refused() {
    let site = Site::new();
    site.create_with_work();
    let store = site.machine("app-main").join("workspace/.git/objects");
    let (place, own) = (site.path("mounted"), site.path("app/.git/objects"));
    fs::create_dir(&place).unwrap();
    let list = own.join("info/alternates");
    let below = place.join("app-main/workspace/.git/objects");
    for (from, to, borrowed) in [
        (store.clone(), &place, Some(&place)),
        (site.state(), &place, Some(&below)),
        (store.join("pack"), &own.join("pack"), None),
    ] {
        match borrowed {
            Some(borrowed) => fs::write(&list, format!("{}\n", borrowed.display())).unwrap(),
            None => fs::remove_file(&list).unwrap(),
        }
        let destroy = mounted(&site, &["--bind", text(&from), text(to)], &["destroy", "--yes", "app-main"]);
        let Some(output) = destroy else { return };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("uses objects of a machine"), "{}: {said}", from.display());
        assert!(output.status.code() == Some(1) && site.machine("app-main").exists(), "{said}");
    }
    // Control: the mount of another store.
    let other = site.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(&list, format!("{}\n", place.display())).unwrap();
    let output = mounted(&site, &["--bind", text(&other), text(&place)], &["destroy", "--yes", "app-main"]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(site.kept().len(), 1);
}

/// The directories above a bind mount are not in the state directory.
#[test]
fn keep_in_finds_the_state_directory_behind_a_mount() {
    let site = Site::new();
    site.create_with_work();
    site.create("other");
    fs::create_dir(site.machine("app-main").join("workspace/deep")).unwrap();
    let place = site.path("mounted");
    fs::create_dir(&place).unwrap();
    let destroy = |from: &Path, to: &str| {
        let kept = place.join(to);
        mounted(&site, &["--bind", text(from), text(&place)], &["destroy", "--yes", "--keep-in", text(&kept)])
    };
    for (from, to) in [
        ("app-main", ""),
        ("app-main", "missing/deep"),
        ("app-main", "workspace"),
        ("app-main/workspace", ""),
        ("app-main/workspace/deep", "er"),
        ("app-other", "kept"),
        (".locks", ""),
    ] {
        let Some(output) = destroy(&site.state().join(from), to) else { return };
        refuses(&site, &output);
    }
    // Control: the mount of another directory.
    fs::create_dir(site.path("elsewhere")).unwrap();
    let output = destroy(&site.path("elsewhere"), "kept").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_dir(site.path("elsewhere/kept")).unwrap().count(), 1);
}

fn refuses(site: &Site, output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("is in the state directory, where files are removed"), "{said}");
    assert!(output.status.code() == Some(2) && site.machine("app-main").exists(), "{said}");
}

/// What is written to an overlay lands in one of its directories.
#[test]
fn keep_in_finds_the_state_directory_below_an_overlay() {
    let site = Site::new();
    site.create_with_work();
    for dir in ["lower", "upper", "work", "mounted"] {
        fs::create_dir(site.path(dir)).unwrap();
    }
    let (inner, elsewhere) = (site.machine("app-main").join("upper"), site.path("upper"));
    fs::create_dir(&inner).unwrap();
    let destroy = |upper: &Path| {
        let work = upper.with_file_name("work");
        fs::create_dir_all(&work).unwrap();
        let lower = site.path("lower");
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        let place = site.path("mounted");
        let mount = ["-t", "overlay", "overlay", "-o", &options, text(&place)];
        mounted(&site, &mount, &["destroy", "--yes", "--keep-in", text(&place)])
    };
    let Some(output) = destroy(&inner) else { return };
    refuses(&site, &output);
    // Control: an overlay of other directories.
    let output = destroy(&elsewhere).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 1);
}
