//! `--remote` with what goes wrong: tasks that do not run.

use crate::guest_services::GuestServices;
use crate::remote_host::{laptop, prepare};
use crate::run::agent;
use crate::stand_ins::{STAYS, install, own_ports};
use crate::support::Site;

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
