//! Profiles of starts and of running machines, as far as they need no guest.

use crate::support::Site;

#[test]
fn a_machine_that_does_not_run_has_no_profile() {
    let site = Site::new();
    site.create("main");
    site.run(&["profile", "app-main"])
        .exits(1)
        .gives_one_error()
        .says("app-main is not running")
        .says("agent-vm start");
    site.run(&["profile", "app-main", "--for", "2h"]).exits(2).gives_one_error().says("such as 30s");
    site.run(&["profile", "none"]).exits(1).gives_one_error();
}

#[test]
fn formats_are_checked_before_a_start() {
    let site = Site::new();
    site.create("main");
    site.run(&["start", "--profile=pdf"]).exits(2).gives_one_error();
    site.run(&["start", "--profile", "--foreground"]).exits(2).gives_one_error();
    // Control: a format that exists is no error of the command line.
    site.run(&["start", "--profile=svg", "--timeout", "2"]).exits(1);
}
