//! A cached image, a manifest or a disk that is truncated, zeroed or removed.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::guest_services::running;
use crate::stand_ins::{ENDS, change_runner, create, install, recorded};
use crate::support::Site;

fn package(site: &Site) -> PathBuf {
    fs::canonicalize(site.machine("app-main").join("flake/guest")).unwrap()
}

/// Each file of the guest package is truncated, zeroed or removed: the next start builds the package again and says
/// why.
#[test]
fn a_damaged_image_is_rebuilt() {
    let site = Site::new();
    install(&site, ENDS);
    create(&site, "main");
    site.run(&["start"]).exits(1).says("did not start completely");
    let mut built = 1;
    for file in ["share/agent-vm/manifest.json", "bin/run-agent-vm", "vmlinux"] {
        for (damage, why) in [("cut", "bytes and should have"), ("zeroed", " changed)"), ("removed", "is missing")] {
            let path = package(&site).join(file);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            let length = fs::metadata(&path).unwrap().len();
            match damage {
                // Truncating or zeroing an empty file changes nothing.
                "cut" if length > 0 => File::options().write(true).open(&path).unwrap().set_len(length / 2).unwrap(),
                "zeroed" if length > 0 => fs::write(&path, vec![0; usize::try_from(length).unwrap()]).unwrap(),
                "removed" => fs::remove_file(&path).unwrap(),
                _ => continue,
            }
            built += 1;
            site.run(&["start"])
                .exits(1)
                .says("is damaged")
                .says(why)
                .says("rebuilding the guest image")
                .says("did not start completely");
            assert_eq!(recorded(&site, "builder").len(), built, "{file} {damage}");
        }
    }
    assert!(built > 5);
    // Control: an intact image is used, also after it was copied.
    let copy = site.path("copy");
    let guests = site.path("cache/agent-vm/guests");
    for (from, to) in [(&guests, &copy), (&copy, &guests)] {
        drop(fs::remove_dir_all(to));
        assert!(std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
    }
    site.run(&["start"]).exits(1).says("did not start completely").does_not_say("rebuilding");
}

/// A build without the record that it finished (after a power cut) is not used.
#[test]
fn an_unfinished_build_is_repeated() {
    let site = Site::new();
    install(&site, ENDS);
    create(&site, "main");
    site.run(&["start"]).exits(1);
    let name = package(&site).file_name().unwrap().to_str().unwrap().to_owned();
    fs::remove_file(package(&site).with_file_name(format!(".{name}.files.json"))).unwrap();
    site.run(&["start"]).exits(1).says("its build did not finish").says("did not start completely");
    assert_eq!(recorded(&site, "builder").len(), 2);
}

#[test]
fn a_running_machine_needs_no_cache() {
    let (site, _services) = running();
    fs::remove_dir_all(site.path("cache")).unwrap();
    assert_eq!(site.run(&["exec", "--", "echo", "still here"]).ok().stdout, "still here\n");
    site.run(&["start"]).ok().says("app-main is already running");
    site.run(&["status"]).ok().prints("Agent Service: Running");
    site.run(&["logs"]).ok();
    site.run(&["egress", "allow", "example.org"]).ok();
    site.run(&["stop"]).ok();
    // Control: a stopped machine needs the cache.
    site.run(&["exec", "--", "true"]).exits(1).says("app-main is not running");
    change_runner(&site, ENDS);
    site.run(&["start"]).exits(1).says("building the guest image");
}

#[test]
fn a_damaged_disk_is_kept_and_replaced_on_request() {
    let site = Site::new();
    install(&site, ENDS);
    create(&site, "main");
    site.run(&["start"]).exits(1).says("did not start completely");
    let disk = site.machine("app-main").join("disk.qcow2");
    let whole = fs::read(&disk).unwrap();
    for (contents, why) in [
        (Vec::new(), "it has only 0 bytes"),
        (vec![0; whole.len()], "it does not start with the qcow2 magic number"),
        (whole[..whole.len() - 1].to_vec(), "it is truncated"),
    ] {
        fs::write(&disk, &contents).unwrap();
        for _ in 0..2 {
            site.run(&["start"])
                .exits(1)
                .says("cannot use the disk ")
                .says(why)
                .says(": agent-vm start app-main --new-disk\n");
            assert_eq!(fs::read(&disk).unwrap(), contents, "the disk was changed");
        }
        let started = site.run(&["start", "--new-disk"]).exits(1).says("did not start completely");
        let aside = started
            .stderr
            .lines()
            .find_map(|line| line.split("the old disk of app-main is now ").nth(1)?.split("; remove").next());
        assert_eq!(fs::read(aside.unwrap()).unwrap(), contents);
        assert_eq!(fs::read(&disk).unwrap(), whole);
        site.run(&["start"]).exits(1).says("did not start completely");
    }
    assert!(site.machine("app-main").join("workspace/README").exists());
    site.run(&["destroy"]).ok();
    assert!(site.names().is_empty());
}

#[test]
fn the_disk_of_a_running_machine_is_not_replaced() {
    let (site, _services) = running();
    site.run(&["start", "--new-disk"])
        .exits(1)
        .gives_one_error()
        .says("cannot replace the disk")
        .says("agent-vm stop app-main");
}
