//! Power cuts: what a command has reported as done is on the disk, and what it was doing is either done or not begun.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::guest_services::GuestServices;
use crate::stand_ins::{ENDS, STAYS, create, install, install_ssh};
use crate::support::{Power, Site, tree, which};

/// Returns a machine's files, without those that exist only while it runs, and without logs, whose end may be lost.
fn kept(site: &Site, machine: &str) -> BTreeMap<PathBuf, String> {
    let others = ["run", "events.jsonl", "samples.jsonl"].map(|name| site.machine(machine).join(name));
    let is_kept = |path: &PathBuf| !others.iter().any(|other| path.starts_with(other));
    tree(&site.machine(machine)).into_iter().filter(|(path, _)| is_kept(path)).collect()
}

/// Checks that a machine's files are unchanged.
#[track_caller]
fn assert_kept(site: &Site, machine: &str, before: &BTreeMap<PathBuf, String>) {
    let now = kept(site, machine);
    let paths: BTreeSet<_> = before.keys().chain(now.keys()).collect();
    let changed: Vec<_> = paths.into_iter().filter(|path| before.get(*path) != now.get(*path)).collect();
    assert!(changed.is_empty(), "changed files: {changed:?}");
}

/// Makes every call of these programs save the disk as a power cut at this moment would leave it.
fn cut_at_each_call(site: &Site, power: &Power, programs: &[&str]) {
    let (cuts, image) = (power.cuts(), power.image());
    for program in programs {
        let real = site.path("bin").join(program);
        let moved = site.path("bin").join(format!("real-{program}"));
        if fs::symlink_metadata(&moved).is_err() {
            fs::rename(&real, &moved).unwrap();
        }
        site.stand_in(
            program,
            &format!(
                "number=$(ls '{0}' | wc -l)\n\
                 cp --sparse=always '{1}' '{0}/'$((100 + number))\n\
                 exec '{2}' \"$@\"",
                cuts.display(),
                image.display(),
                moved.display()
            ),
        );
    }
    power.sync();
}

/// Returns the saved cuts in their order.
fn cuts(power: &Power) -> Vec<PathBuf> {
    let mut cuts: Vec<_> = fs::read_dir(power.cuts()).unwrap().map(|cut| cut.unwrap().path()).collect();
    cuts.sort();
    cuts
}

fn uncut(site: &Site, programs: &[&str]) {
    for program in programs {
        fs::rename(site.path("bin").join(format!("real-{program}")), site.path("bin").join(program)).unwrap();
    }
}

/// Control: unsynced writes and renames are lost, synced ones are not.
#[test]
fn unsynced_writes_are_lost() {
    let Some(power) = Power::new() else { return };
    let write = |name: &str, sync: bool| {
        let (new, file) = (power.place().join("new"), power.place().join(name));
        fs::write(&new, "contents").unwrap();
        if sync {
            fs::File::open(&new).unwrap().sync_all().unwrap();
        }
        fs::rename(&new, &file).unwrap();
    };
    fs::write(power.place().join("replaced"), "old").unwrap();
    power.sync();
    write("replaced", false);
    write("unsynced", false);
    write("synced", true);
    // Syncing the directory saves the names of the other files, but not their contents.
    fs::File::open(power.place()).unwrap().sync_all().unwrap();
    let cut = power.cut("cut");
    power.back(&cut);
    let read = |name: &str| fs::read_to_string(power.place().join(name)).unwrap();
    assert_eq!([read("replaced"), read("unsynced"), read("synced")], ["", "", "contents"]);
}

/// Commits so many files that `create` syncs the whole file system.
fn with_many_files(site: &Site) {
    fs::create_dir(site.repo().join("many")).unwrap();
    for number in 0..300 {
        fs::write(site.repo().join("many").join(number.to_string()), "text\n").unwrap();
    }
    site.commit("last", "x");
}

#[test]
fn a_created_machine_survives_a_power_cut() {
    let Some(power) = Power::new() else { return };
    for many in [false, true] {
        let site = Site::new_in(&power.place());
        if many {
            with_many_files(&site);
        }
        power.sync();
        site.create("main");
        let before = kept(&site, "app-main");
        assert_eq!(before.len() > 300, many);
        power.back(&power.cut("cut"));
        assert_kept(&site, "app-main", &before);
        site.run(&["status"]).ok().does_not_say("error").prints("0 changed files");
    }
}

#[test]
fn a_started_machine_survives_a_power_cut() {
    let Some(power) = Power::new() else { return };
    let site = Site::new_in(&power.place());
    install(&site, STAYS);
    install_ssh(&site);
    create(&site, "main");
    power.sync();
    let inside = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    let before = kept(&site, "app-main");
    assert!(before.keys().any(|path| path.ends_with("disk.qcow2")));
    let cut = power.cut("cut");
    site.run(&["stop"]).ok();
    drop(inside);
    power.back(&cut);
    assert_kept(&site, "app-main", &before);
    // The next start removes what the run has left.
    install(&site, ENDS);
    site.run(&["status"]).ok().prints("it stopped unexpectedly");
    site.run(&["start"]).exits(1).says("app-main did not start completely");
    site.run(&["destroy"]).ok();
    site.assert_nothing_left();
}

/// When `set` and `apply` end, the new settings and the declaration are on the disk.
#[test]
fn changed_settings_survive_a_power_cut() {
    let Some(power) = Power::new() else { return };
    let site = Site::new_in(&power.place());
    let file = site.path("vm.json");
    site.create("main");
    power.sync();
    site.run(&["set", "main", "memory=1024"]).ok();
    fs::write(&file, r#"{"cores": 1}"#).unwrap();
    site.run(&["apply", "main", "--config", file.to_str().unwrap()]).ok();
    let before = kept(&site, "app-main");
    power.back(&power.cut("cut"));
    assert_kept(&site, "app-main", &before);
    assert_eq!(
        (site.settings("app-main")["memory"].as_u64(), site.settings("app-main")["cores"].as_u64()),
        (Some(1024), Some(1))
    );
}

/// The power is cut at every program that `create` runs: the machine is complete or missing, and the next create works.
#[test]
fn create_works_after_a_power_cut() {
    let Some(power) = Power::new() else { return };
    let site = Site::new_in(&power.place());
    cut_at_each_call(&site, &power, &["git", "ssh-keygen"]);
    site.create("main");
    let cuts = cuts(&power);
    assert!(cuts.len() > 8, "too few programs ran: the test shows nothing");
    for cut in cuts {
        power.back(&cut);
        uncut(&site, &["git", "ssh-keygen"]);
        if site.names().is_empty() {
            site.create("main");
        }
        site.assert_nothing_left();
        site.run(&["status"]).ok().prints("0 changed files").prints("Agent Service: Stopped");
    }
}

/// The power is cut at every program that the first start runs: the next start works.
#[test]
fn start_works_after_a_power_cut() {
    let Some(power) = Power::new() else { return };
    let site = Site::new_in(&power.place());
    install(&site, ENDS);
    create(&site, "main");
    let programs = ["nix", "mke2fs", "qemu-img", "qemu-system-x86_64"];
    cut_at_each_call(&site, &power, &programs);
    site.run(&["start"]).exits(1).says("app-main did not start completely");
    power.cut("999");
    let cuts = cuts(&power);
    assert!(cuts.len() > 3, "too few programs ran: the test shows nothing");
    for cut in cuts {
        power.back(&cut);
        install(&site, ENDS);
        site.run(&["start"]).exits(1).says("app-main did not start completely");
        site.assert_nothing_left();
        site.run(&["status"]).ok().prints("Agent Service: Stopped");
    }
}

#[test]
fn a_written_client_file_survives_a_power_cut() {
    let Some(power) = Power::new() else { return };
    let site = Site::new_in(&power.place());
    site.create("main");
    let files = [("claude-code", ".mcp.json"), ("cursor", ".cursor/mcp.json")]
        .map(|(client, file)| (client, site.repo().join(file)));
    site.write("app/.mcp.json", "{\"mcpServers\": {\"mine\": {\"command\": \"x\"}}}\n");
    power.sync();
    let written = files.each_ref().map(|(client, file)| {
        site.run(&["mcp-config", "--client", client, "--write"]).ok();
        fs::read_to_string(file).unwrap()
    });
    power.back(&power.cut("cut"));
    assert_eq!(files.map(|(_, file)| fs::read_to_string(file).unwrap()), written);
}

/// The power is cut at every program that `destroy` runs: the commits are in a bundle, or the machine still exists.
#[test]
fn destroy_loses_no_commits_in_a_power_cut() {
    let Some(power) = Power::new() else { return };
    let site = Site::new_in(&power.place());
    let machine = site.create("main");
    let workspace = site.machine(&machine).join("workspace");
    let commit = site.commit_in(&workspace, "work", "of the agent\n");
    cut_at_each_call(&site, &power, &["git"]);
    site.run(&["destroy", "--yes"]).ok();
    power.cut("999");
    let cuts = cuts(&power);
    assert!(cuts.len() > 3, "too few programs ran: the test shows nothing");
    for cut in cuts {
        power.back(&cut);
        uncut(&site, &["git"]);
        if site.names().is_empty() {
            assert_rescued(&site, &commit);
        } else {
            assert_eq!(site.git_in(&workspace, &["rev-parse", "HEAD"]), commit);
            site.run(&["destroy", "--yes"]).ok();
            assert_rescued(&site, &commit);
        }
        site.create("main");
        site.assert_nothing_left();
    }
}

fn assert_rescued(site: &Site, commit: &str) {
    let bundles = site.kept();
    let whole = |bundle: &Path| {
        let list = site.command(which("git").unwrap()).args(["bundle", "list-heads"]).arg(bundle).output().unwrap();
        list.status.success() && String::from_utf8_lossy(&list.stdout).contains(commit)
    };
    assert!(bundles.iter().any(|bundle| whole(bundle)), "the commit {commit} is not in {bundles:?}");
}
