//! One machine from its creation to its end. The parts are those of other modules: a start takes half a minute of a processor's
//! time where QEMU emulates the guest.

use crate::clients::{self, CODEMCP};
use crate::parts::Parts;
use crate::site::site;
use crate::{doors, endpoint, isolation, journey, monitoring, owner, terminal, trouble};

#[test]
fn one_machine_is_used_in_every_way() {
    let (Some(clients), Some(site)) = (clients::clients(), site()) else { return };
    site.commit("Makefile", "test:\n\t@echo tested\n");
    site.commit("codemcp.toml", CODEMCP);
    for branch in ["main", "other"] {
        site.create(branch);
    }
    let mut parts = Parts::default();
    parts.run("bridge without a machine", || clients::the_bridge_needs_a_machine(&clients, &site));

    let profile = site.run(&["start", "main", "--profile=json"]).ok().json();
    parts.run("profile", || monitoring::phases_are_reported(&profile));
    parts.run("without a command", || {
        let shown = site.run(&[]).ok().says("VM Status: app-main").says("Agent Service: Running");
        shown.says("https://127.0.0.1:").says("agent-vm logs app-main");
    });
    parts.run("commands", || journey::commands_run_in_the_machine(&site));
    parts.run("bridge", || clients::the_bridge_needs_no_url_and_no_key(&clients, &site));
    parts.run("clients", || clients::clients_list_and_call_tools_over_both_transports(&clients, &site));
    parts.run("monitoring", || monitoring::stats_and_metrics_are_reported(&site));
    parts.run("files", || journey::files_have_the_right_owner_on_both_sides(&site));
    parts.run("terminals", || terminal::terminals_pass(&site));
    parts.run("owner", || owner::the_owner_is_root(&site));
    parts.run("endpoint", || endpoint::token_host_and_origin_are_checked(&site));
    parts.run("credentials", || endpoint::the_agent_cannot_read_key_or_token(&site));
    parts.run("network", || isolation::the_guest_reaches_no_host_and_no_network(&site));
    parts.run("firewall", || isolation::only_ssh_and_mcp_are_let_in(&site));
    parts.run("ssh", || isolation::ssh_checks_the_login_key_and_the_host_key(&site));
    let port = parts.run("ports", || doors::ports_and_files_reach_the_machine(&site, &clients));
    let certificates = parts.run("TLS", || endpoint::only_current_tls_is_accepted(&site));

    // A restart, after which everything is as before.
    parts.run("killed helpers", || trouble::a_killed_forwarder_or_virtiofsd_is_reported(&site));
    parts.run("owner, again", || owner::what_root_installed_stays(&site));
    if let Some(port) = port {
        parts.run("ports, again", || doors::forwards_come_back(&site, port));
    }
    if let Some(certificates) = certificates {
        parts.run("TLS, again", || endpoint::each_run_has_a_certificate(&site, &certificates));
    }

    // A crash, a start and a stop.
    parts.run("killed QEMU", || trouble::a_killed_qemu_is_reported(&site));
    parts.run("start without Nix", || journey::a_start_needs_no_nix(&site));
    parts.run("failing service", || trouble::a_failing_service_is_reported_with_its_journal(&site));
    parts.run("commit", || journey::a_commit_that_only_the_machine_has(&site));
    site.run(&["stop"]).ok().says("powered off");
    parts.run("stopped", || journey::nothing_of_a_stopped_machine_runs(&site));
    parts.run("stopped: metrics", || monitoring::a_stopped_machine_is_not_asked(&site));
    if let Some(port) = port {
        parts.run("stopped: ports", || doors::a_stopped_machine_has_no_ports(port));
    }
    parts.run("destroy", || journey::commits_survive_a_destroy(&site));
    parts.end();
}
