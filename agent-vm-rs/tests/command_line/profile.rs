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
    // Control: a format that exists is no error of the command line, and a start that fails has a profile, too.
    site.run(&["start", "--profile=svg", "--timeout", "2"]).exits(1).prints("<svg");
    site.run(&["start", "--profile", "--timeout", "2"]).exits(1).prints("total: ");
    let file = site.path("profile");
    site.run(&["start", "--profile=json", "--profile-file", file.to_str().unwrap(), "--timeout", "2"]).exits(1);
    assert!(std::fs::read_to_string(file).unwrap().contains("total_ms"));
    assert_eq!(site.run(&["start", "--timeout", "2"]).exits(1).stdout, "");
}
