//! What a guest that uses all that it has can do to the host: nothing beyond its limits, and the host's commands still work.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::site::{Done, Site, site, wait_until};

const MIB: u64 = 1 << 20;
/// Guest memory and disk of the machines of these tests, and the limit of the workspace here.
const MEMORY: u64 = 1024 * MIB;
const DISK: u64 = 1024 * MIB;
const WORKSPACE: u64 = 64 * MIB;
/// What QEMU may use beside the guest's memory: it caches translated code.
const OWN_MEMORY: u64 = 1536 * MIB;
/// Size above which a log is shortened, and what one more write can add.
const LOG: u64 = 17 * MIB;

/// Uses all of the machine.
const LOADS: &str = include_str!("hostile_loads.sh");

fn sh(site: &Site, script: &str) -> Done {
    site.exec("main", &["sh", "-c", script])
}

/// Returns the space that a directory or file occupies.
fn occupied(place: &Path) -> u64 {
    let own = place.symlink_metadata().map_or(0, |found| found.blocks() * 512);
    let entries = if place.is_dir() { fs::read_dir(place).unwrap().flatten().collect() } else { Vec::new() };
    own + entries.iter().map(|entry| occupied(&entry.path())).sum::<u64>()
}

fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

fn problems(site: &Site) -> String {
    site.status("main")["problems"].to_string()
}

#[test]
fn a_machine_that_takes_all_it_can_stays_within_its_limits() {
    let Some(site) = site() else { return };
    site.create_with(&["--branch", "main", "--workspace-size", "64", "--disk-bandwidth", "1073741824"]);
    site.start("main");
    let machine = site.machine("app-main");
    let limits = site.status("main")["limits"].clone();
    let by = |name: &str| {
        let all = limits.as_array().unwrap().iter();
        all.filter(|limit| limit["name"] == name).map(|limit| limit["by"].to_string()).collect::<String>()
    };
    assert!(by("disk_bandwidth").contains("QEMU") && by("workspace_size").contains("watcher"), "{limits}");
    assert!(by("pids").contains("RLIMIT_NPROC") || by("pids").contains("cgroup") || by("pids").contains("systemd"));

    // The workspace. Control: a smaller file can be written.
    sh(&site, "head -c 10000000 /dev/zero >small").ok();
    let fill =
        "n=0; while head -c 4000000 /dev/zero >large-$n; do n=$((n + 1)); sleep 0.2; [ $n -lt 100 ] || exit 9; done";
    sh(&site, fill).ok().says("File too large");
    assert!(problems(&site).contains("the workspace is larger than 64"), "{}", problems(&site));
    let workspace = machine.join("workspace");
    let full = occupied(&workspace);
    assert!((WORKSPACE..WORKSPACE + WORKSPACE).contains(&full), "{full}");
    // Reading and deleting works, and then writing again.
    sh(&site, "cat README && rm large-*").ok().says("hello");
    wait_until("the workspace to be writable", || sh(&site, "echo again >after && cat after").stdout == "again\n");
    // Space that is taken without a write: the machine is paused, and goes on with a larger limit.
    sh(&site, "for n in 0 1 2; do head -c 24000000 /dev/zero >large-$n; sleep 1; done; :").ok();
    wait_until("writes to fail", || problems(&site).contains("writes to the workspace fail"));
    let take = "touch taken; fallocate --keep-size --length 80M taken; touch done; sleep 1; touch later";
    begin_as_agent(&site, take);
    wait_until("the pause", || site.status("main")["vm"]["state"] == "paused");
    assert!(workspace.join("done").exists());
    site.run(&["start", "main"]).exits(1).says("cannot go on: the machine is paused");
    site.run(&["set", "main", "workspace_size=4096"]).ok().says("workspace_size changed at once");
    wait_until("the machine to go on", || workspace.join("later").exists());
    sh(&site, "rm -f large-* taken; echo more >after").ok();

    // Its own disk, memory, processes, console and journal.
    let loads = ["exec", "--root", "main", "--", "setsid", "--fork", "sh", "-c", LOADS];
    site.run(&loads).ok();
    let console = machine.join("run/console.log");
    // Controls: each of these loads has reached what the machine has. The script prints it on the console.
    for reached in ["the disk is full", "the memory was full", "there are many processes", "a line of the console"] {
        wait_until(reached, || String::from_utf8_lossy(&fs::read(&console).unwrap()).contains(reached));
    }

    // Nothing of it is beyond the limits, and the host's commands answer.
    let qemu = site.qemu("app-main");
    assert!(resident(qemu) < MEMORY + OWN_MEMORY, "{}", resident(qemu));
    assert!(occupied(&machine.join("disk.qcow2")) < DISK + DISK / 8);
    for log in ["console.log", "virtiofsd.log", "egress.log", "ssh.log", "watch.log"] {
        let size = fs::metadata(machine.join("run").join(log)).map_or(0, |log| log.len());
        assert!(size < LOG, "{log}: {size}");
    }
    assert!(site.processes("app-main").len() < 64);
    site.run(&["list"]).ok().says("app-main");
    assert_eq!(site.status("main")["vm"]["state"], "running");
    site.commit("another", "commit\n");
    site.run(&["stop", "main"]).ok();
    assert!(site.processes("app-main").is_empty());
    assert_eq!(fs::read_to_string(workspace.join("after")).unwrap(), "more\n");
}

/// Starts a script as the agent that goes on after the command, in the workspace.
fn begin_as_agent(site: &Site, script: &str) {
    sh(site, &format!("setsid sh -c '{script}' </dev/null >/dev/null 2>&1 &")).ok();
}
