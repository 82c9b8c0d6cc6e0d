//! `prune`: what it removes beside machines.

use std::fs::{self, File};
use std::process::Stdio;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::Value;

use crate::guest_services::GuestServices;
use crate::stand_ins::{ENDS, STAYS, create, install, install_ssh};
use crate::support::{Running, Site, kill, wait_until};

fn prune(site: &Site, flags: &[&str]) -> Vec<Value> {
    let done = site.run(&[&["prune", "--yes", "--json"], flags].concat()).ok();
    // Other programs of this host may have left temporary files, too.
    let ours = |one: &Value| {
        one["kind"] != "temporary" || one["name"].as_str().unwrap().contains(&*site.root().to_string_lossy())
    };
    done.json().as_array().unwrap().iter().filter(|one| ours(one)).cloned().collect()
}

fn kinds(pruned: &[Value]) -> Vec<&str> {
    pruned.iter().map(|one| one["kind"].as_str().unwrap()).collect()
}

#[test]
fn an_image_is_removed_only_if_no_machine_of_any_state_directory_uses_it() {
    let site = Site::new();
    install(&site, ENDS);
    create(&site, "main");
    // The image is built, and then the stand-in guest ends.
    site.run(&["start"]).exits(1);
    let image = site.path("cache/agent-vm/guests/debian-0123456789abcdef");
    assert!(image.exists(), "{:?}", fs::read_dir(site.path("cache/agent-vm/guests")).unwrap().collect::<Vec<_>>());
    assert!(prune(&site, &[]).is_empty() && image.exists());
    let other = site.path("other");
    let other = other.to_str().unwrap();
    site.run(&["--state-dir", other, "create"]).ok();
    site.run(&["--state-dir", other, "start"]).exits(1);
    site.run(&["destroy", "--yes"]).ok();
    assert!(prune(&site, &[]).is_empty() && image.exists());
    site.run(&["--state-dir", other, "destroy", "--yes"]).ok();
    let would = prune(&site, &["--dry-run"]);
    assert_eq!((kinds(&would), &would[0]["outcome"]), (vec!["image"], &"would-be-removed".into()));
    assert!(image.exists());
    let done = site.run(&["prune", "--yes"]).ok();
    done.prints("image 0123456789abcdef: removed (no machine uses it)").says("freed ");
    assert!(!image.exists());
    assert!(prune(&site, &[]).is_empty());
}

#[test]
fn a_running_machine_keeps_its_image_when_its_settings_ask_for_another_one() {
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    create(&site, "main");
    let _inside = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    let image = site.path("cache/agent-vm/guests/debian-0123456789abcdef");
    // As a start that builds another image does.
    let link = site.machine("app-main").join("flake/guest");
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(site.path("else"), &link).unwrap();
    fs::remove_dir_all(site.path("cache/agent-vm/guests/.users-0123456789abcdef")).unwrap();
    assert!(prune(&site, &[]).is_empty() && image.exists());
    site.run(&["status"]).ok().prints("Running");
    site.run(&["stop"]).ok();
    assert_eq!(kinds(&prune(&site, &[])), ["image"]);
    assert!(!image.exists());
}

#[test]
fn files_of_an_ended_run_and_of_killed_builds_are_removed() {
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    create(&site, "main");
    let _inside = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    let run = site.machine("app-main").join("run");
    let guests = site.path("cache/agent-vm/guests");
    let [left, used] = ["left", "used"].map(|name| guests.join(format!(".debian-0123456789abcdef.tmp-{name}")));
    [&left, &used].iter().for_each(|dir| fs::create_dir(dir).unwrap());
    let held = File::open(&used).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    // A machine that runs is not touched.
    let pruned = prune(&site, &[]);
    assert_eq!(kinds(&pruned), ["temporary"]);
    assert!(run.exists() && !left.exists() && used.exists());
    let text = fs::read_to_string(run.join("qemu.pid")).unwrap();
    kill(text.split(' ').next().unwrap().parse().unwrap(), Signal::KILL);
    wait_until("the end to be recorded", || run.join("end-recorded").exists());
    let pruned = prune(&site, &[]);
    assert_eq!((kinds(&pruned), &pruned[0]["name"]), (vec!["run"], &"app-main".into()));
    assert!(!run.exists() && pruned[0]["bytes"].as_u64().unwrap() > 0);
    // The reason of the crash and the workspace stay.
    site.run(&["status"]).ok().prints("QEMU crashed or was killed");
    assert!(site.machine("app-main").join("workspace/.git").exists());
    site.assert_nothing_left();
}

/// A command that uses the machine holds its lock.
#[test]
fn a_machine_that_a_command_works_on_is_left_alone() {
    let site = Site::new();
    install(&site, STAYS);
    create(&site, "main");
    let run = site.machine("app-main").join("run");
    fs::create_dir(&run).unwrap();
    let lock = File::open(site.state().join(".locks/app-main")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    assert!(prune(&site, &[]).is_empty() && run.exists());
    drop(lock);
    let prune = site.agent_vm(&["prune", "--yes"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(Running::new(prune).output().status.success());
    assert!(!run.exists());
}

/// Users who prune images only must not keep what builds left.
#[test]
fn what_is_left_of_images_goes_with_the_images() {
    let site = Site::new();
    site.create("main");
    let guests = site.path("cache/agent-vm/guests");
    for half_built in [".debian-0123456789abcdef.tmp-left", "..prepared-0123456789abcdef.tmp-left"] {
        fs::create_dir_all(guests.join(half_built)).unwrap();
    }
    fs::create_dir(guests.join(".prepared-1111222233334444")).unwrap();
    let records = [".debian-fedcba9876543210.files.json", ".lock-fedcba9876543210", ".spec-fedcba9876543210.json"];
    let of_a_build = [".lock-aaaabbbbccccdddd", ".spec-aaaabbbbccccdddd.json"];
    records.iter().chain(&of_a_build).for_each(|name| drop(File::create(guests.join(name)).unwrap()));
    let builder = File::open(guests.join(of_a_build[0])).unwrap();
    flock(&builder, FlockOperation::LockExclusive).unwrap();
    site.run(&["image", "list"]).ok().prints("1111222233334444");
    fs::create_dir(site.machine("app-main").join("run")).unwrap();
    site.run(&["image", "prune"])
        .ok()
        .prints("records of the image fedcba9876543210: removed")
        .prints("/.debian-0123456789abcdef.tmp-left: removed")
        .prints("/..prepared-0123456789abcdef.tmp-left: removed")
        .prints("image 1111222233334444: removed (no machine uses it)")
        .does_not_say("run ");
    let mut left: Vec<_> = fs::read_dir(&guests).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, of_a_build);
    assert!(site.machine("app-main").join("run").exists());
}

#[test]
fn what_cannot_be_removed_is_a_failure() {
    let site = Site::new();
    install(&site, ENDS);
    create(&site, "main");
    site.run(&["start"]).exits(1);
    site.run(&["destroy", "--yes"]).ok();
    let guests = site.path("cache/agent-vm/guests");
    // A lock that cannot be taken.
    let lock = guests.join(".lock-0123456789abcdef");
    fs::remove_file(&lock).unwrap();
    fs::create_dir_all(lock.join("full")).unwrap();
    for command in ["image", "prune"] {
        let words: &[&str] = if command == "image" { &["image", "prune"] } else { &["prune", "--yes"] };
        let done = site.run(words).exits(1).prints("image 0123456789abcdef: failed");
        done.says("error: failed to remove 0123456789abcdef").says("0123456789abcdef was not removed: ");
    }
    fs::remove_dir_all(&lock).unwrap();
    site.run(&["image", "prune"]).ok().prints("image 0123456789abcdef: removed");
}
