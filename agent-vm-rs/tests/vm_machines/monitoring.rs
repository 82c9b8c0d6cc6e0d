//! What a running machine does is seen from the host: the phases of its start, stats, metrics and a profile.

use serde_json::Value;

use crate::site::{Site, wait_until};

/// Stats, metrics and a profile of a running machine.
pub fn stats_and_metrics_are_reported(site: &Site) {
    // The first samples come a few seconds after the start.
    wait_until("two samples", || stats(site)["cpu_percent"].is_f64());
    let seen = stats(site);
    assert_eq!(seen["state"], "running");
    assert!(seen["memory_bytes"].as_u64().unwrap() > 50 << 20, "{seen}");
    assert!(seen["mcp"]["response_ms"].is_u64(), "{seen}");
    site.run(&["stats"]).ok().says("running");

    let metrics = site.run(&["metrics"]).ok().stdout;
    for line in [
        "agent_vm_machine_state{machine=\"app-main\",state=\"running\"} 1",
        "agent_vm_machine_mcp_up{machine=\"app-main\"} 1",
        "agent_vm_machine_mcp_server_up{machine=\"app-main\",server=\"codemcp\"} 1",
        "agent_vm_machine_helper_up{machine=\"app-main\",helper=\"QEMU\"} 1",
        "agent_vm_machine_cpu_seconds_total{machine=\"app-main\",process=\"qemu\"} ",
        "agent_vm_machine_mcp_calls_total{machine=\"app-main\",server=\"codemcp\"} ",
    ] {
        assert!(metrics.contains(line), "{line}:\n{metrics}");
    }
    busy_threads_are_seen(site);
    site.run(&["doctor", "main"]).says("running, with");
}

/// A stopped machine is not asked; control: a running one is, in [`stats_and_metrics_are_reported`].
pub fn a_stopped_machine_is_not_asked(site: &Site) {
    let metrics = site.run(&["metrics"]).ok().stdout;
    assert!(metrics.contains("agent_vm_machine_state{machine=\"app-main\",state=\"stopped\"} 1"), "{metrics}");
    assert!(!metrics.contains("agent_vm_machine_mcp_up"), "{metrics}");
}

fn stats(site: &Site) -> Value {
    site.run(&["stats", "main", "--json"]).ok().json()[0].clone()
}

/// Checks the phases of a start that built or looked for its guest.
pub fn phases_are_reported(profile: &Value) {
    let phases = profile["phases"].as_array().unwrap();
    let of =
        |name: &str| phases.iter().find(|phase| phase["name"] == name).unwrap_or_else(|| panic!("{name}: {profile}"));
    for name in ["settings", "Nix", "KVM", "QEMU", "ssh", "kernel", "systemd", "servers"] {
        of(name);
    }
    // The guest's boot lies within the wait for it.
    let (ssh, kernel) = (of("ssh"), of("kernel"));
    assert_eq!(kernel["side"], "guest");
    let end = ssh["begin_ms"].as_u64().unwrap() + ssh["took_ms"].as_u64().unwrap();
    assert!(kernel["begin_ms"].as_u64().unwrap() < end, "{profile}");
    assert!(profile["dominant"].is_string() && profile["total_ms"].as_u64().unwrap() > 1_000, "{profile}");
}

/// The threads of QEMU that are busy are its processors, also in a pid namespace of their own.
fn busy_threads_are_seen(site: &Site) {
    let _busy = site.exec("main", &["sh", "-c", "timeout 60 sh -c 'while :; do :; done' >/dev/null 2>&1 &"]);
    let report = site.run(&["profile", "main", "--for", "5s", "--json"]).ok().json();
    let threads = report["threads"].as_array().unwrap();
    let busiest = &threads[0];
    assert_eq!(busiest["process"], "QEMU", "{report}");
    // Emulated processors may share one thread.
    assert!(busiest["name"].as_str().unwrap().starts_with("vCPU"), "{report}");
    assert!(busiest["cpu_percent"].as_f64().unwrap() > 10.0, "{report}");
    assert!(!report["disks"].as_array().unwrap().is_empty(), "{report}");
}
