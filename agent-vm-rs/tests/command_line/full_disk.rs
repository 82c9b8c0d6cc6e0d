//! A full disk: the error says how to get space, nothing half-made stays, and existing files are unchanged.

use std::fs::{self, File};
use std::io::Write as _;

use crate::stand_ins::{ENDS, create, install};
use crate::support::{Power, Site};

/// Fills the disk that the site is on.
fn fill(site: &Site) {
    let mut ballast = File::create(site.path("ballast")).unwrap();
    for size in [1 << 20, 4096, 1] {
        while ballast.write_all(&vec![1; size]).is_ok() {}
    }
    // Data that is still in memory must find no room on the disk either.
    drop(ballast.sync_all());
    while ballast.write_all(&[1; 4096]).is_ok() {}
}

#[test]
fn every_command_says_how_to_get_space() {
    let Some(disk) = Power::new() else { return };
    let site = Site::new_in(&disk.place());
    install(&site, ENDS);
    create(&site, "main");
    disk.sync();
    let before = site.settings("app-main");
    fill(&site);
    let commands: [&[&str]; 5] = [
        &["create", "--branch", "other"],
        &["start"],
        &["egress", "allow", "example.org"],
        &["relink", "--source", "."],
        &["mcp-config", "--client", "cursor", "--write"],
    ];
    let mut full = 0;
    for args in commands {
        let done = site.run(args);
        if done.code == Some(0) {
            // The command had nothing to write.
            continue;
        }
        full += 1;
        let done = done.exits(1).gives_one_error();
        assert!(done.stderr.contains("hint: ") && done.stderr.contains("df -h"), "{done:?}");
        assert_eq!(site.names(), ["app-main"], "{done:?}");
        assert_eq!(site.settings("app-main"), before);
    }
    assert!(full >= 3, "the disk was not full");
    for args in [&["status"][..], &["list"]] {
        site.run(args).ok();
    }
    fs::remove_file(site.path("ballast")).unwrap();
    site.create("other");
    site.run(&["start"]).exits(1).says("did not start completely");
    site.assert_nothing_left();
}
