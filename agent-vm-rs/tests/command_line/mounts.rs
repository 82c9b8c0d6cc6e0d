//! Mounts show the machines' files under other paths.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
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

/// Runs agent-vm after several mounts; None if one cannot be mounted here.
fn mounted_by(site: &Site, mounts: &str, command: &[&str]) -> Option<Output> {
    let unshare = namespaces(&["--mount"])?;
    let path = std::env::var("PATH").unwrap();
    let command = shlex::try_join([env!("CARGO_BIN_EXE_agent-vm")].iter().chain(command).copied()).unwrap();
    let script = format!("export PATH=\"$PATH:{path}\"; set -e; {mounts}\n touch mounted; exec {command}");
    let output = site.command("unshare").args(&unshare).args(["sh", "-c", &script]).output().unwrap();
    if !site.path("app/mounted").exists() {
        skip(&format!("{mounts} fails here"));
        return None;
    }
    fs::remove_file(site.path("app/mounted")).unwrap();
    Some(output)
}

/// An overlay on a directory of the source's store shows the workspace's packs, or a mount point has an odd name.
#[test]
fn a_mount_of_any_kind_is_found() {
    for odd_name in [false, true] {
        let site = Site::new();
        let (workspace, commit) = site.create_with_work();
        site.git_in(&workspace, &["repack", "-a", "-d", "--quiet"]);
        site.git(&["repack", "-a", "-d", "--quiet"]);
        for dir in ["upper", "work", "lower", "place"] {
            fs::create_dir(site.path(dir)).unwrap();
        }
        let (packs, own) = (workspace.join(".git/objects/pack"), site.path("app/.git/objects/pack"));
        for pack in fs::read_dir(&own).unwrap().flatten() {
            fs::copy(pack.path(), site.path("lower").join(pack.file_name())).unwrap();
        }
        let root = site.root();
        let root = root.display();
        let (packs, own, place) = (packs.display(), own.display(), site.path("place"));
        let mounts = if odd_name {
            let odd = site.root().join(std::ffi::OsStr::from_bytes(b"\xff"));
            fs::create_dir(odd).unwrap();
            let (place, objects) = (place.display(), workspace.join(".git/objects"));
            fs::write(site.path("app/.git/objects/info/alternates"), format!("{place}\n")).unwrap();
            format!("mount -t tmpfs none {root}/$(printf '\\377'); mount --bind {} {place}", objects.display())
        } else {
            format!(
                "mount -t overlay none -o lowerdir={packs}:{root}/lower,upperdir={root}/upper,workdir={root}/work {own}"
            )
        };
        fs::write(site.path("app/.git/refs/heads/other"), format!("{commit}\n")).unwrap();
        let control = format!("{mounts}; git cat-file -e {commit}");
        let Some(output) = mounted_by(&site, &control, &["destroy", "--yes", "app-main"]) else { return };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("uses objects of a machine"), "{odd_name}: {said}");
        assert!(output.status.code() == Some(1) && site.machine("app-main").exists(), "{said}");
    }
}

/// The source seems to have the workspace's large files.
#[test]
fn large_files_of_the_workspace_are_found_through_a_mount() {
    let site = Site::new();
    site.create("main");
    let large = site.machine("app-main").join("workspace/.git/lfs");
    // The hash of the contents.
    let oid = "d1b2a59fbea7e20077af9f91b27e95e865061b270be03ff539ab3b73587882e8";
    fs::create_dir_all(large.join("objects/d1/b2")).unwrap();
    fs::write(large.join("objects/d1/b2").join(oid), "contents").unwrap();
    fs::create_dir(site.path("app/.git/lfs")).unwrap();
    let mount = ["--bind", text(&large), &site.path("app/.git/lfs").display().to_string()].map(str::to_owned);
    let mount: Vec<_> = mount.iter().map(String::as_str).collect();
    let Some(output) = mounted(&site, &mount, &["destroy", "--yes", "app-main"]) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("large files that its source lacks"), "{said}");
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

/// What is mounted is not the machine's, and the kernel would not move or remove its directory.
#[test]
fn a_mount_in_a_machine_is_to_be_unmounted_first() {
    let site = Site::new();
    site.create_with_work();
    let place = site.machine("app-main").join("workspace/mounted");
    fs::create_dir(&place).unwrap();
    fs::create_dir(site.path("mine")).unwrap();
    site.write("mine/file", "x");
    for keep in ["changes", "workspace", "nothing"] {
        let mount = ["--bind", &site.path("mine").display().to_string(), text(&place)].map(str::to_owned);
        let mount: Vec<_> = mount.iter().map(String::as_str).collect();
        let Some(output) = mounted(&site, &mount, &["destroy", "--yes", "app-main", "--keep", keep]) else { return };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("a file system is mounted in the machine") && said.contains("hint: umount "), "{said}");
        assert!(output.status.code() == Some(1) && place.exists() && site.kept().is_empty(), "{keep}: {said}");
        assert_eq!(site.read("mine/file"), "x");
    }
    site.run(&["destroy", "--yes"]).ok();
}

/// The directory of `--keep-in` is the mount point of a disk, and is there without it.
#[test]
fn a_disk_that_is_not_mounted_keeps_its_record() {
    let site = Site::new();
    site.create_with_work();
    let disk = site.path("disk");
    for dir in [&disk, &site.path("real")] {
        fs::create_dir(dir).unwrap();
    }
    let mount = ["--bind", &site.path("real").display().to_string(), text(&disk)].map(str::to_owned);
    let mount: Vec<_> = mount.iter().map(String::as_str).collect();
    let Some(output) = mounted(&site, &mount, &["destroy", "--yes", "app-main", "--keep-in", text(&disk)]) else {
        return;
    };
    assert!(output.status.success());
    assert_eq!(fs::read_dir(site.path("real")).unwrap().count(), 1);
    site.run(&["kept", "prune", "--all", "--yes"]).ok().prints("stays (its directory does not exist, or its disk");
    let listed = mounted(&site, &mount, &["kept"]).unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("1 commit"), "{listed:?}");
    // Control: on the disk, the user removed it.
    let bundle = fs::read_dir(site.path("real")).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(bundle).unwrap();
    let pruned = mounted(&site, &mount, &["kept", "prune"]).unwrap();
    assert!(String::from_utf8_lossy(&pruned.stdout).contains("it was moved or removed"), "{pruned:?}");
}
