//! `agent-vm list`

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::{print, print_json};
use crate::cli::Context;
use crate::machine::Machine;
use crate::text::{age, one_line};

/// Flags of `list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {}

#[derive(Serialize)]
struct Row {
    name: String,
    state: &'static str,
    branch: Option<String>,
    source: Option<std::path::PathBuf>,
    host: Option<String>,
    port: Option<u16>,
    ssh_port: Option<u16>,
    tls: Option<bool>,
    auth: Option<bool>,
    created: Option<Timestamp>,
    age_seconds: Option<u64>,
    error: Option<String>,
}

/// Prints every machine.
///
/// # Errors
/// The state directory cannot be read.
pub fn list(context: &Context, _: &ListArgs) -> Result<()> {
    let names = context.state.names()?;
    let rows: Vec<_> = names.into_iter().map(|name| row(&Machine::new(&context.state, name))).collect();
    if context.json {
        return print_json(&rows);
    }
    if rows.is_empty() {
        crate::progress::note("there are no machines yet: agent-vm create makes one for the current branch");
        return Ok(());
    }
    print(&table(&rows))
}

fn row(machine: &Machine) -> Row {
    let running = machine.run().qemu().is_some();
    let state = if running { "running" } else { "stopped" };
    let name = machine.name.to_string();
    match machine.settings() {
        Ok(settings) => {
            let facts = if running { machine.run().facts() } else { None };
            let (port, ssh_port, tls, auth) = facts
                .map_or((settings.port, settings.ssh_port, settings.tls, settings.auth), |facts| {
                    (facts.port, facts.ssh_port, facts.tls, facts.auth)
                });
            let seconds = Timestamp::now().as_second() - settings.created.as_second();
            Row {
                name,
                state,
                branch: Some(settings.branch.to_string()),
                source: Some(settings.source),
                host: Some(settings.host),
                port: Some(port),
                ssh_port: Some(ssh_port),
                tls: Some(tls),
                auth: Some(auth),
                created: Some(settings.created),
                age_seconds: Some(u64::try_from(seconds).unwrap_or(0)),
                error: None,
            }
        }
        Err(error) => Row {
            name,
            state: if running { state } else { "broken" },
            branch: None,
            source: None,
            host: None,
            port: None,
            ssh_port: None,
            tls: None,
            auth: None,
            created: None,
            age_seconds: None,
            error: Some(format!("{error:#}")),
        },
    }
}

fn table(rows: &[Row]) -> String {
    let header = ["MACHINE", "STATE", "BRANCH", "MCP", "SSH", "AGE"].map(str::to_owned);
    let unknown = || "-".to_owned();
    let cells = rows.iter().map(|row| {
        [
            row.name.clone(),
            row.state.to_owned(),
            row.branch.as_deref().map_or_else(unknown, one_line),
            row.port.map_or_else(unknown, |port| port.to_string()),
            row.ssh_port.map_or_else(unknown, |port| port.to_string()),
            row.age_seconds.map_or_else(unknown, |seconds| age(std::time::Duration::from_secs(seconds))),
        ]
    });
    let lines: Vec<[String; 6]> = std::iter::once(header).chain(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..6).map(width).collect();
    lines
        .iter()
        .map(|line| {
            let padded = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        })
        .collect()
}
