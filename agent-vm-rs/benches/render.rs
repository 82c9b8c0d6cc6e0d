//! Time to render and check a flake: `cargo bench --bench render`.

use std::time::{Duration, Instant};

use agent_vm::manifest::Share;
use agent_vm::render::flake;
use agent_vm::settings::{GuestKind, Settings, VERSION};
use anyhow::{Context as _, Result};

const RUNS: usize = 1_000;

fn main() -> Result<()> {
    let settings = Settings {
        version: VERSION,
        source: "/src/app".into(),
        branch: "feature/some-work".parse()?,
        created: jiff::Timestamp::UNIX_EPOCH,
        guest: GuestKind::Debian,
        host: "localhost".into(),
        port: 8000,
        port_asked: false,
        ssh_port: 2222,
        ssh_port_asked: false,
        memory: 4096,
        cores: 4,
        disk: 20480,
        packages: (0..50).map(|number| format!("package-{number}")).collect(),
    };
    let mut times: Vec<Duration> = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let begun = Instant::now();
        std::hint::black_box(flake(&settings, "path:/opt/toolkit", Share::Virtiofs)?);
        times.push(begun.elapsed());
    }
    times.sort();
    let median = times.get(RUNS / 2).context("no run")?;
    agent_vm::commands::print(&format!("render one flake with 50 packages: {median:?} (median of {RUNS})\n"))
}
