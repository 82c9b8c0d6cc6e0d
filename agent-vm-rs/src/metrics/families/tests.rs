use super::super::exposition::{Format, write};
use super::super::history::tests::sample;
use super::*;
use crate::machine::settings::tests::sample as settings;
use crate::remote::servers::{Calls, Server};

fn server() -> Server {
    Server {
        name: "codemcp".to_owned(),
        state: ServerState::Running,
        restarts: 2,
        exit_code: None,
        signal: None,
        why: None,
        last_line: None,
        calls: Some(Calls { count: 7, errors: 1, time_ms: 350 }),
    }
}

fn run() -> Run {
    let facts = serde_json::from_value(serde_json::json!({
        "started": "2026-03-01T00:00:00Z", "host": "127.0.0.1", "port": 8000, "ssh_port": 2222,
        "accel": "kvm", "share": "9p",
    }));
    let directory = std::path::Path::new("/no/such/machine");
    let facts = facts.unwrap();
    let helpers = crate::machine::helpers::all(&crate::machine::run_state::RunDir::of(directory), &facts);
    let certificate_expires = Timestamp::from_second(1_800_000_000).ok();
    Run { facts, helpers, egress_up: true, certificate_expires }
}

fn seen() -> Vec<(Facts, Option<Inside>)> {
    let running = Facts {
        name: "app-main".to_owned(),
        state: State::Running,
        settings: Some(settings()),
        run: Some(run()),
        failed: false,
        disk_used: Some(3 << 30),
        samples: vec![sample(1), sample(2)],
    };
    let stopped = Facts {
        name: "app-old".to_owned(),
        state: State::Stopped,
        run: None,
        failed: true,
        samples: Vec::new(),
        ..running.clone()
    };
    let inside = Inside { mcp: Some(Duration::from_millis(12)), servers: Some(vec![server()]) };
    vec![(running, Some(inside)), (stopped, None)]
}

fn all() -> Vec<Metric> {
    metrics(&Seen {
        machines: &seen(),
        directory: "/home/me/.local/share/agent-vms",
        space: Some(Space { free: 1 << 30, size: 1 << 40 }),
    })
}

#[test]
fn the_metrics_match_their_snapshot() {
    // checks/steps/64-monitoring reads both with Prometheus' own tools.
    insta::assert_snapshot!("openmetrics", write(&all(), Format::OpenMetrics));
    insta::assert_snapshot!("prometheus", write(&all(), Format::Prometheus));
}

/// Prometheus' conventions: base units at the end of the name, and nothing that a counter or the server adds.
#[test]
fn names_follow_the_conventions() {
    for family in ALL {
        let name = family.name;
        assert!(name.starts_with("agent_vm_") && !name.ends_with("_total"), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert!(family.unit.is_empty() || name.ends_with(&format!("_{}", family.unit)), "{name}");
        assert!(family.unit.is_empty() || ["bytes", "seconds"].contains(&family.unit), "{name}");
        assert!(!family.help.is_empty() && !family.help.ends_with('.'), "{name}");
        assert!(!["_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end)), "{name}");
        assert!(!family.labels.iter().any(|label| ["job", "instance", "le"].contains(label)), "{name}");
    }
    let names: std::collections::BTreeSet<_> = ALL.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), ALL.len());
}

#[test]
fn each_metric_has_a_sample_and_the_page_describes_it() {
    let text = write(&all(), Format::Prometheus);
    let page = include_str!("../../../../docs/reference/metrics.md");
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| `agent_vm_")).collect();
    for family in ALL {
        let name = family.sample_name();
        assert!(text.contains(&format!("\n{name}")), "{name} has no sample");
        let labels = family.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let unit = if family.unit.is_empty() { "" } else { family.unit };
        let row = format!("| `{name}` | {} | {unit} | {labels} | {} |", family.kind.as_str(), family.help);
        let row = row.replace("|  |", "| |");
        assert!(rows.contains(&row.as_str()), "docs/reference/metrics.md lacks:\n{row}");
    }
    assert_eq!(rows.len(), ALL.len(), "docs/reference/metrics.md describes a metric that does not exist");
}
