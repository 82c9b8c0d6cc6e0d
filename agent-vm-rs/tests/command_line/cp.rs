//! Copies between this host and a machine, whose place a directory of this host takes; its tar is the real one.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use crate::guest_services::running;
use crate::support::{Site, tree, which};

/// Returns a site with a running machine that has tar.
fn site() -> (Site, crate::guest_services::GuestServices) {
    let (site, services) = running();
    for program in ["tar", "chmod", "mkdir", "cat", "cut"] {
        let place = site.path("bin").join(program);
        if !place.exists() {
            symlink(which(program).unwrap(), place).unwrap();
        }
    }
    (site, services)
}

#[test]
fn files_and_directories_are_copied_both_ways() {
    let (site, _services) = site();
    fs::create_dir_all(site.path("app/tree/sub dir")).unwrap();
    site.write("app/tree/sub dir/-x 'y'", "text");
    site.write("app/tree/run", "#!/bin/sh\n");
    fs::set_permissions(site.path("app/tree/run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("run", site.path("app/tree/link")).unwrap();

    // To a new name, and into a directory.
    site.run(&["cp", "tree", ":copy"]).ok();
    site.run(&["cp", "tree", "main:."]).ok();
    site.run(&["cp", "tree/run", "app-main:copy/again"]).ok();
    assert_eq!(site.read("inside/copy/sub dir/-x 'y'"), "text");
    assert_eq!(fs::read_link(site.path("inside/tree/link")).unwrap().to_str(), Some("run"));
    let mode = |path: &str| fs::metadata(site.path(path)).unwrap().permissions().mode() & 0o111;
    assert_ne!(mode("inside/copy/again"), 0);

    // A socket, such as that of git's file system monitor, is left out.
    let _socket = UnixListener::bind(site.path("app/tree/socket")).unwrap();
    let done = site.run(&["cp", "tree", ":more", "--json"]).ok();
    assert_eq!(done.says("notice: 1 item not copied").json()["left_out"], 1);
    assert!(site.path("inside/more/run").exists());

    // And back: a single link is followed, and others are left out.
    site.run(&["cp", ":copy", "back"]).ok().says("notice: 1 item not copied");
    assert_eq!(
        (site.read("app/back/sub dir/-x 'y'").as_str(), mode("app/back/run")),
        ("text", 0o111 & mode("app/tree/run"))
    );
    site.run(&["cp", ":copy/link", "followed"]).ok();
    assert_eq!(site.read("app/followed"), "#!/bin/sh\n");
    // A second copy merges and replaces.
    site.write("app/back/own", "own");
    site.write("inside/copy/run", "new");
    let done = site.run(&["cp", ":copy/.", "back", "--json"]).ok().json();
    assert_eq!(done["left_out"], 1);
    assert_eq!((site.read("app/back/own").as_str(), site.read("app/back/run").as_str()), ("own", "new"));

    for (source, destination, code, says) in [
        ("a", "b", 2, "neither side of the copy is in a machine"),
        (":a", "main:b", 2, "both sides of the copy are in machines"),
        (":none", "x", 1, "none: no such file or directory"),
        (":none", "x", 1, "cannot copy none of app-main"),
        (":none", "x", 1, "agent-vm exec app-main -- ls -l DIRECTORY"),
        ("tree/run", ":none/run", 1, "cannot copy to none/run of app-main"),
        ("none", ":x", 1, "failed to read none"),
        ("none", ":x", 1, "agent-vm cp :none ."),
        ("tree/none", ":x", 1, "to see what is there: ls -l tree"),
        (":copy/run", "back/none/", 1, "is not a directory"),
        (":copy/run", "back/sub dir/../../back", 0, ""),
        (":copy/sub dir", "back/run", 1, "would be replaced by a directory"),
    ] {
        site.run(&["cp", source, destination]).exits(code).says(says);
    }
    let left: Vec<_> = tree(&site.repo()).into_keys().filter(|path| path.to_string_lossy().contains(".tmp-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The stand-in for the guest's tar sends what a hostile guest could.
#[test]
fn a_hostile_machine_writes_only_below_the_destination() {
    let (site, _services) = site();
    site.write("outside", "outside");
    fs::create_dir(site.path("inside/hostile")).unwrap();
    let tar = which("tar").unwrap();
    for (transform, code) in [("s,^\\./x,./../../outside,", 1), ("s,^\\./x,/tmp/agent-vm-escape,", 1), ("s,^,,", 0)] {
        site.write("inside/hostile/x", "hostile");
        let _ = fs::remove_dir_all(site.path("app/dst"));
        site.stand_in("tar", &format!("exec '{}' -P --transform='{transform}' \"$@\"", tar.display()));
        let done = site.run(&["cp", ":hostile", "dst"]).exits(code);
        assert_eq!(site.path("app/dst/x").exists(), code == 0, "{transform}: {}", done.stderr);
        assert_eq!(site.read("outside"), "outside");
        assert!(!fs::exists("/tmp/agent-vm-escape").unwrap());
    }
    site.restore("tar");
    // Its names and messages reach the terminal without control characters, and its repositories are left out.
    fs::create_dir(site.path("inside/hostile/.git")).unwrap();
    site.write("inside/hostile/.git/config", "[core]\n\tfsmonitor = touch /tmp/x\n");
    site.write("inside/hostile/\u{1b}]0;title\u{7}", "");
    symlink("/etc/passwd", site.path("inside/hostile/link")).unwrap();
    site.run(&["cp", ":hostile", "other"]).ok().says("notice: git repositories were not copied").says("1 item");
    assert!(!site.path("app/other/.git").exists() && site.path("app/other/link").symlink_metadata().is_err());
    let said = site.run(&["cp", ":\u{1b}]0;title\u{7}", "x"]).exits(1).stderr;
    assert!(said.contains("no such file") && !said.contains(['\u{1b}', '\u{7}']), "{said:?}");
    // It sends without end, and too many files.
    File::create(site.path("inside/hostile/large")).unwrap().set_len(2 << 20).unwrap();
    let large = || site.run(&["cp", "--max-size", "1", ":hostile/large", "large"]);
    large().exits(1).gives_one_error().says("the machine sent more than 1.00 MiB").says("--max-size 2");
    fs::create_dir(site.path("inside/many")).unwrap();
    for number in 0..2100 {
        File::create(site.path(format!("inside/many/{number}"))).unwrap();
    }
    site.run(&["cp", "--max-size", "1", ":many", "many"]).exits(1).says("the machine sent more than");
    assert!(!site.path("app/large").exists() && !site.path("app/many").exists());
    site.run(&["cp", "--max-size", "3", ":hostile/large", "large"]).ok();
    fs::remove_file(site.path("inside/hostile/large")).unwrap();
    // A link of this host at the destination is replaced, and not followed.
    fs::create_dir(site.path("app/third")).unwrap();
    symlink(site.path("outside"), site.path("app/third/x")).unwrap();
    site.run(&["cp", ":hostile/x", "third"]).ok();
    assert_eq!((site.read("outside").as_str(), site.read("app/third/x").as_str()), ("outside", "hostile"));
}
