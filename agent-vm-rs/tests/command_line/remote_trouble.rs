//! `--remote` with what goes wrong: tasks that do not run, commands at the same time, old commits.

use std::thread;

use crate::guest_services::GuestServices;
use crate::remote_host::{laptop, prepare};
use crate::run::agent;
use crate::stand_ins::{STAYS, install, own_ports};
use crate::support::{Site, which};

#[test]
fn a_task_that_does_not_run_removes_no_machine() {
    let site = Site::new();
    install(&site, STAYS);
    // The group that the agent needs.
    for file in ["package.json", "from-nix.json"] {
        site.write(file, site.read(file).replace("\"name\":\"npm\"", "\"name\":\"anthropic\""));
    }
    prepare(&site);
    laptop(&site, &["create", "--agent", "claude"]).ok();
    own_ports(&site, "app-main");
    let _services = GuestServices::of(&site, "app-main");
    laptop(&site, &["start"]).ok();
    for words in [
        // The machine runs without this agent.
        &["run", "codex", "--task", "x"][..],
        // There is no such agent.
        &["run", "no-such-agent", "--task", "x"],
    ] {
        let words = [words, &["--fetch", "--rm"]].concat();
        laptop(&site, &words).exits(1).says("the task did not run to its end on box").says("nothing was fetched");
        assert!(site.names().contains(&"app-main".to_owned()), "{words:?}");
    }
    // Control: after a task that ran, even if it failed, the machine is removed.
    agent(&site, "claude", "exit 3");
    laptop(&site, &["run", "claude", "--task", "x", "--fetch", "--rm"]).exits(3).says("removed app-main");
    assert!(!site.names().contains(&"app-main".to_owned()));
}

#[test]
fn commands_at_the_same_time_use_one_mirror() {
    let site = Site::new();
    prepare(&site);
    let branches: Vec<_> = (0..6).map(|number| format!("branch-{number}")).collect();
    for branch in &branches {
        site.git(&["branch", branch]);
    }
    thread::scope(|scope| {
        for branch in &branches {
            scope.spawn(|| laptop(&site, &["create", "--branch", branch]).ok());
        }
    });
    assert_eq!(site.names().len(), branches.len());
}

#[test]
fn a_repository_with_an_old_fault_has_machines_elsewhere_too() {
    let site = Site::new();
    prepare(&site);
    // A tree as some early versions of git wrote it.
    let blob = site.git(&["rev-parse", "HEAD:README"]);
    let blob = (0..blob.len()).step_by(2).map(|at| u8::from_str_radix(&blob[at..at + 2], 16).unwrap());
    let tree: Vec<u8> = b"0100644 README\0".iter().copied().chain(blob).collect();
    std::fs::write(site.path("tree"), tree).unwrap();
    let file = site.path("tree").display().to_string();
    let tree = site.git(&["hash-object", "-t", "tree", "-w", "--literally", &file]);
    let commit = site.git(&["commit-tree", &tree, "-p", "HEAD", "-m", "old"]);
    site.git(&["branch", "old", &commit]);
    let fsck = site.command(which("git").unwrap()).args(["fsck", "--strict"]).output().unwrap();
    assert!(String::from_utf8_lossy(&fsck.stderr).contains("zeroPaddedFilemode"), "control: {fsck:?}");

    laptop(&site, &["create", "--branch", "old"]).ok();
    let workspace = site.machine("app-old").join("workspace");
    let new = site.commit_in(&workspace, "new", "x");
    laptop(&site, &["fetch", "app-old"]).ok();
    assert_eq!(site.git(&["rev-parse", "refs/agent-vm/app-old/heads/old"]), new);
}
