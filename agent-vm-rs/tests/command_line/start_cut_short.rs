//! A start that is interrupted or killed in each of its phases.

use std::fs;

use rustix::process::Signal;

use crate::stand_ins::{ENDS, STAYS, change_runner, create, install};
use crate::support::{Done, Running, Site, wait_until};

/// The programs in which a start hangs.
const PHASES: [&str; 6] = ["nix", "builder", "mke2fs", "qemu-img", "runner", "ssh"];

/// Makes a site and a start that hangs in a phase.
fn hanging(phase: &str) -> (Site, Running) {
    let site = Site::new();
    install(&site, STAYS);
    let hang = format!("touch '{}'; exec sleep 1000", site.path("reached").display());
    match phase {
        "nix" | "mke2fs" | "qemu-img" => site.stand_in(phase, &hang),
        "builder" => site.script("builder", &hang),
        "runner" => install(&site, &hang),
        // The guest greets, and then the login hangs.
        _ => site.stand_in("ssh", &hang),
    }
    create(&site, "main");
    let inside = (phase == "ssh").then(|| crate::guest_services::GuestServices::of(&site, "app-main"));
    let start = site.spawn(&["start"]);
    site.wait_for("reached");
    drop(inside);
    // Control: a process runs that could be left behind.
    assert!(!site.processes().is_empty(), "nothing runs in the phase {phase}");
    (site, start)
}

/// Makes every phase work again; the guest then ends at once.
fn repair(site: &Site) {
    install(site, ENDS);
    change_runner(site, ENDS);
    site.restore("ssh");
}

#[test]
fn an_interrupted_start_leaves_nothing() {
    for (phase, (signal, code)) in
        PHASES.iter().zip([(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)].iter().cycle())
    {
        let (site, start) = hanging(phase);
        start.signal(*signal);
        Done::new(format!("start, interrupted in {phase}"), &start.output())
            .exits(*code)
            .gives_one_error()
            .says("interrupted");
        site.assert_nothing_left();
        assert!(!site.machine("app-main").join("run").exists(), "{phase}");
        repair(&site);
        site.run(&["start"]).exits(1).says("app-main did not start completely").says("kernel: panic");
    }
}

#[test]
fn start_cleans_up_after_a_killed_one() {
    for phase in PHASES {
        let (site, start) = hanging(phase);
        start.signal(Signal::KILL);
        drop(start);
        // Control: the killed start could not clean up.
        assert!(!site.processes().is_empty(), "nothing was left by the phase {phase}");
        repair(&site);
        if site.machine("app-main").join("run/qemu.pid").exists() {
            // QEMU runs and has a pid file: the machine counts as running, however far its start got.
            site.run(&["status"]).ok().does_not_say("error");
            site.run(&["stop"]).ok();
        }
        site.run(&["start"]).exits(1).says("app-main did not start completely");
        site.assert_nothing_left();
    }
}

#[test]
fn destroy_cleans_up_after_a_killed_start() {
    for phase in PHASES {
        let (site, start) = hanging(phase);
        start.signal(Signal::KILL);
        drop(start);
        site.run(&["destroy"]).ok().says("removed app-main");
        site.assert_nothing_left();
        assert!(site.names().is_empty(), "{phase}");
    }
}

/// The second start waits for the first, and starts the machine itself if the first was interrupted.
#[test]
fn two_starts_of_one_machine_start_it_once() {
    let (site, first) = hanging("runner");
    let mut second = site.agent_vm(&["start"]);
    let second = Running::new(second.stderr(fs::File::create(site.path("second")).unwrap()).spawn().unwrap());
    wait_until("the second to wait", || site.read("second").contains("waiting for another agent-vm"));
    let sleeping = |site: &Site| site.processes().iter().filter(|(_, line)| line.contains("sleep")).count();
    assert_eq!(sleeping(&site), 1);
    repair(&site);
    first.signal(Signal::INT);
    Done::new("the first start".to_owned(), &first.output()).exits(130);
    assert_eq!(second.output().status.code(), Some(1));
    assert!(site.read("second").contains("error: app-main did not start completely"));
    site.assert_nothing_left();
}

#[test]
fn status_and_list_work_during_a_start() {
    let (site, start) = hanging("runner");
    wait_until("the start to have written its facts", || site.machine("app-main").join("run/ports.json").exists());
    site.run(&["status"]).ok().prints("VM Status: app-main").prints("Agent Service: Starting");
    site.run(&["list"]).ok().prints("starting");
    let (other, _) = (create(&site, "other"), site.run(&["destroy", "other"]).ok());
    assert_eq!(other, "app-other");
    start.signal(Signal::INT);
    Done::new("start".to_owned(), &start.output()).exits(130);
    site.assert_nothing_left();
}
