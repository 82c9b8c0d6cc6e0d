//! The states of a machine's MCP servers, as `status` and the end of `start` show them.

use serde_json::json;

use crate::guest_services::GuestServices;
use crate::stand_ins::{STAYS, create, install, install_ssh, server, servers};
use crate::support::Site;

#[test]
fn every_server_is_shown_and_failures_are_in_the_headline() {
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    create(&site, "main");
    servers(&site, &[server("codemcp", "running"), server("own", "failed")], &[]);
    let _services = GuestServices::of(&site, "app-main");
    let started = site.run(&["start"]).ok();
    started.prints("servers codemcp running, own failed (1 restart)").says("\n  servers: ").says(
        "notice: the MCP server own has failed: it exited with status 3: no such module (agent-vm logs app-main)",
    );
    let status = site.run(&["status"]).ok().prints("Agent Service: Running, but an MCP server has failed\n");
    assert!(status.stdout.contains("Servers    codemcp running, own failed (1 restart)\n"), "{}", status.stdout);
    assert!(!status.stdout.contains('\u{1b}'));
    let report = site.run(&["status", "--json"]).ok().json();
    assert_eq!(report["servers"][0], server("codemcp", "running"));
    assert_eq!(report["servers"][1]["exit_code"], json!(3));
    every_field_is_documented(&report);
    every_field_is_documented(&site.run(&["list", "--json"]).ok().json()[0]);
    let mut problems = report["problems"].as_array().unwrap().iter();
    assert!(problems.any(|problem| problem.as_str().unwrap().contains("own has failed")), "{report}");

    let headline = |of: &[serde_json::Value], problems: &[&str]| {
        servers(&site, of, problems);
        let shown = site.run(&["status"]).ok().stdout;
        shown.lines().nth(1).unwrap().to_owned()
    };
    // Control: if all servers run, the headline has no addition.
    assert_eq!(headline(&[server("codemcp", "running"), server("own", "running")], &[]), "Agent Service: Running");
    assert_eq!(
        headline(&[server("codemcp", "failed"), server("own", "running")], &[]),
        "Agent Service: Running, but its MCP server codemcp has failed"
    );
    assert_eq!(headline(&[server("codemcp", "starting")], &[]), "Agent Service: Running, its MCP servers are starting");
    assert_eq!(
        headline(&[server("codemcp", "running")], &[".mcp.json: server \"x\": not an object"]),
        "Agent Service: Running, but some MCP servers are not available"
    );
    // A report in an unknown form is a problem, and nothing of it is shown.
    site.write("servers.json", "{\"servers\": [\u{1b}[2J");
    let odd = site.run(&["status"]).ok().prints("the guest's report of its servers has an unknown format");
    assert!(!odd.stdout.contains("[2J"), "{}", odd.stdout);
    assert!(odd.stdout.contains("Agent Service: Running, but"), "{}", odd.stdout);
    site.run(&["stop"]).ok();
}

/// An entry for a server that the machine does not have would fail in the client, long after the command.
#[test]
fn a_client_is_configured_only_for_a_server_that_the_machine_has() {
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    create(&site, "main");
    servers(&site, &[server("codemcp", "running"), server("own", "failed")], &[]);
    let config = |name| ["mcp-config", "--client", "cursor", "--server", name];
    // The servers of a stopped machine are not known yet.
    site.run(&config("nope"))
        .ok()
        .prints("app-main-nope")
        .says("notice: app-main is not running, so agent-vm cannot check");
    site.set("app-main", "servers", json!(["nixos"]));
    site.run(&config("nixos")).ok().does_not_say("notice");
    site.set("app-main", "servers", json!([]));
    let _services = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    for more in [&[][..], &["--http"], &["--write"]] {
        let refused = site.run(&[&config("nope"), more].concat()).exits(1).gives_one_error();
        refused.says("app-main has no MCP server nope").says("hint: its servers: codemcp, own\n");
    }
    assert!(!site.path("app/.cursor").exists());
    // Control: a server of the machine gets an entry.
    site.run(&config("own")).ok().prints("app-main-own").does_not_say("notice");
    site.run(&["stop"]).ok();
}

/// Checks that docs/reference/json.md names every field in and below a value.
fn every_field_is_documented(value: &serde_json::Value) {
    let page = include_str!("../../../docs/reference/json.md");
    let mut left = vec![value];
    let mut seen = 0;
    while let Some(value) = left.pop() {
        for (name, below) in value.as_object().into_iter().flatten() {
            assert!(page.contains(&format!("`{name}`")), "docs/reference/json.md does not have {name}");
            seen += 1;
            left.push(below);
        }
        left.extend(value.as_array().into_iter().flatten());
    }
    assert!(seen > 8, "{value}");
}
