//! Measures the time to render and check a flake: `cargo bench --bench render`.

use std::time::{Duration, Instant};

use agent_vm::guest::manifest::Share;
use agent_vm::guest::render::flake;
use agent_vm::machine::settings::Settings;
use anyhow::{Context as _, Result};

const RUNS: usize = 1_000;

fn main() -> Result<()> {
    let mut settings: Settings = serde_json::from_str(include_str!("../tests/data/config.json"))?;
    settings.packages = (0..50).map(|number| format!("package-{number}")).collect();
    let mut times: Vec<Duration> = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let begun = Instant::now();
        std::hint::black_box(flake(&settings, "path:/opt/toolkit", Share::Virtiofs, None)?);
        times.push(begun.elapsed());
    }
    times.sort();
    let median = times.get(RUNS / 2).context("no run")?;
    agent_vm::term::output::print(&format!("render one flake with 50 packages: {median:?} (median of {RUNS})\n"))
}
