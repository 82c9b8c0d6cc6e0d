//! `agent-vm` without a command.

use crate::guest_services::GuestServices;
use crate::stand_ins::{DefaultPorts, ENDS, STAYS, change_runner, install, install_ssh};
use crate::support::Site;

#[test]
fn it_creates_shows_and_starts_the_machine() {
    let _ports = DefaultPorts::take();
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    {
        let _services = GuestServices::of(&site, "app-main");
        site.run(&[]).ok().says("created app-main").prints("app-main is running.");
        let running = site.pids();
        site.run(&[])
            .ok()
            .prints("VM Status: app-main\nAgent Service: Running")
            .prints("app-main is running.")
            .does_not_say("created");
        assert_eq!(site.pids(), running);
        assert_eq!(site.run(&["--json"]).ok().json()["state"], "running");
    }
    site.run(&["stop"]).ok();
    let _services = GuestServices::of(&site, "app-main");
    site.run(&[]).ok().does_not_say("created").prints("app-main is running.");
    site.run(&["stop"]).ok();
    site.assert_nothing_left();
}

/// The machine stays when its start fails; the next run continues with it.
#[test]
fn a_failed_start_keeps_the_new_machine() {
    let _ports = DefaultPorts::take();
    let site = Site::new();
    install(&site, ENDS);
    site.run(&[]).exits(1).says("created app-main").says("app-main did not start completely");
    site.assert_nothing_left();
    site.run(&["status"]).ok().prints("Stopped");
    change_runner(&site, "echo again; exit 1");
    site.run(&[]).exits(1).does_not_say("created").says("again");
}

/// `--json` prints one JSON value, even if the machine has to be created and started.
#[test]
fn json_is_one_value_on_the_first_run() {
    let _ports = DefaultPorts::take();
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    let _services = GuestServices::of(&site, "app-main");
    assert_eq!(site.run(&["--json"]).ok().json()["name"], "app-main");
    site.run(&["stop"]).ok();
}
