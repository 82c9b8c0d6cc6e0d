//! What a running machine answers: whether MCP answers, and what its gateway counts. The guest is not trusted: its numbers are
//! bounded and only shown.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;

use crate::guest::running::running;
use crate::host::files::{read_if_there, write_unsynced};
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunDir;
use crate::mcp::endpoint::{Endpoint, Timeouts};
use crate::mcp::health::probe_mcp;
use crate::remote::servers::{Server, Servers};
use crate::remote::ssh::Ssh;

/// Time for an answer of MCP, and for one of the gateway; see `RunFacts::answer_limit`.
const ANSWER: Duration = Duration::from_millis(1_500);
/// Most names of servers in a run: as many as a guest's report can have.
const MOST: usize = 64;
/// Number of machines that are asked at the same time.
const THREADS: usize = 8;

/// The answers of one machine.
#[derive(Clone, Debug, Default)]
pub struct Inside {
    /// Time until MCP answered; None if it did not.
    pub mcp: Option<Duration>,
    /// Its servers; None if the gateway did not answer.
    pub servers: Option<Vec<Server>>,
}

impl Inside {
    /// Returns the number of calls of all servers, and their mean time; None if no gateway counts them.
    #[must_use]
    pub fn calls(&self) -> Option<(u64, Option<Duration>)> {
        let counts: Vec<_> = self.servers.as_ref()?.iter().filter_map(|server| server.calls).collect();
        if counts.is_empty() {
            return None;
        }
        let count = counts.iter().map(|calls| calls.count).fold(0, u64::saturating_add);
        let time = counts.iter().map(|calls| calls.time_ms).fold(0, u64::saturating_add);
        Some((count, time.checked_div(count).map(Duration::from_millis)))
    }
}

/// Asks running machines, several at the same time. The answers are in the order of the machines.
#[must_use]
pub fn ask(context: &Context, machines: &[&Machine]) -> Vec<Inside> {
    let mut answers = Vec::new();
    for some in machines.chunks(THREADS) {
        std::thread::scope(|scope| {
            let asking: Vec<_> = some.iter().map(|machine| scope.spawn(|| ask_one(context, machine))).collect();
            answers.extend(asking.into_iter().map(|asking| asking.join().unwrap_or_default()));
        });
    }
    answers
}

fn ask_one(context: &Context, machine: &Machine) -> Inside {
    std::thread::scope(|scope| {
        let mcp = scope.spawn(|| ask_mcp(machine).inspect_err(|error| tracing::info!("{}: {error:#}", machine.name)));
        let servers = ask_servers(context, machine).inspect_err(|error| tracing::info!("{}: {error:#}", machine.name));
        let mcp = mcp.join().ok().and_then(Result::ok);
        Inside { mcp, servers: servers.ok().flatten() }
    })
}

fn ask_mcp(machine: &Machine) -> Result<Duration> {
    let (guest, facts) = running(machine)?;
    let limit = Some(facts.answer_limit(ANSWER));
    let timeouts = Timeouts { connect: limit, whole: limit };
    probe_mcp(&Endpoint::for_queries(machine, &facts, timeouts)?, &guest.manifest.service.mcp_path)
}

fn ask_servers(context: &Context, machine: &Machine) -> Result<Option<Vec<Server>>> {
    let (guest, facts) = running(machine)?;
    let ssh = Ssh::to(machine, &guest.manifest, &facts, context.verbosity);
    if !ssh.is_connected() {
        return Ok(None);
    }
    Ok(Servers::ask(&ssh, &guest.manifest, facts.answer_limit(ANSWER))?
        .map(|servers| first_ones(&machine.run(), servers.servers)))
}

/// Leaves out servers whose names come after the first [`MOST`] of a run. Each name is a time series that Prometheus keeps, and
/// a hostile guest can report others every time.
fn first_ones(run: &RunDir, mut servers: Vec<Server>) -> Vec<Server> {
    let file = run.file(MachinePath::ServerNames);
    let text = read_if_there(&file).ok().flatten().unwrap_or_default();
    let mut names: BTreeSet<String> = serde_json::from_str(&text).unwrap_or_default();
    let known = names.len();
    for server in &servers {
        if names.len() < MOST {
            names.insert(server.name.clone());
        }
    }
    if names.len() > known {
        let written = serde_json::to_string(&names).map_err(anyhow::Error::from);
        let written = written.and_then(|text| write_unsynced(&file, text + "\n", 0o600));
        if let Err(error) = written {
            // Without the record, nothing bounds the names.
            tracing::warn!("{error:#}");
            return Vec::new();
        }
    }
    servers.retain(|server| names.contains(&server.name));
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_make_up_ever_more_names() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::of(dir.path());
        std::fs::create_dir_all(run.path()).unwrap();
        let server = |name: &str| -> Server {
            serde_json::from_value(serde_json::json!({ "name": name, "state": "running", "restarts": 0 })).unwrap()
        };
        let named = |servers: Vec<Server>| servers.into_iter().map(|server| server.name).collect::<Vec<_>>();
        assert_eq!(named(first_ones(&run, vec![server("codemcp")])), ["codemcp"]);
        let mut seen = BTreeSet::new();
        for number in 0..200 {
            seen.extend(named(first_ones(&run, vec![server("codemcp"), server(&format!("made-up-{number}"))])));
        }
        assert_eq!(seen.len(), MOST);
        // Control: those that were there first stay.
        assert_eq!(named(first_ones(&run, vec![server("new"), server("codemcp")])), ["codemcp"]);
    }
}
