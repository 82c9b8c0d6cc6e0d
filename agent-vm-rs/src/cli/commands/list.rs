//! `agent-vm list`

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::target;
use crate::host::interrupt;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::term::error::{Failure, Interrupted, exit_code};
use crate::term::output::{print, print_json, redraw};
use crate::term::progress::note;
use crate::term::table::{Columns, below_home};
use crate::term::terminal;
use crate::term::text::{age, one_line};

/// Time between two redraws of `--watch`.
const INTERVAL: Duration = Duration::from_secs(2);

/// Flags of `list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Only machines of the repository that contains DIR
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// Show the list again every two seconds, on a terminal, until ^C
    #[arg(short, long)]
    watch: bool,
}

#[derive(Serialize)]
struct Row {
    name: String,
    state: &'static str,
    branch: Option<String>,
    source: Option<PathBuf>,
    source_missing: bool,
    host: Option<String>,
    port: Option<u16>,
    ssh_port: Option<u16>,
    tls: Option<bool>,
    auth: Option<bool>,
    created: Option<Timestamp>,
    age_seconds: Option<u64>,
    error: Option<String>,
}

/// Prints all machines, or those of one repository; with `--watch`, again and again until a signal ends the command. Returns
/// the exit code.
///
/// # Errors
/// The state directory cannot be read, or the repository does not exist.
pub fn list(context: &Context, args: &ListArgs) -> Result<i32> {
    let source = match &args.source {
        Some(dir) => Some(target::repository(&context.state, Some(dir))?.dir),
        None => None,
    };
    if args.watch {
        // A signal is the only way to end it.
        return watch(context, source.as_deref()).or_else(|error| match error.downcast_ref::<Interrupted>() {
            Some(_) => Ok(exit_code(&error).into()),
            None => Err(error),
        });
    }
    let rows = rows(context, source.as_deref())?;
    if context.json {
        return print_json(&rows).map(|()| 0);
    }
    if rows.is_empty() {
        note(&nothing(source.as_deref()));
        return Ok(0);
    }
    print(&text(&rows))?;
    for row in rows.iter().filter(|row| row.source_missing) {
        note(&format!(
            "notice: the repository of {0} is missing; if it was moved, in its new place: agent-vm relink {0}",
            row.name
        ));
    }
    Ok(0)
}

/// Redraws the table until a signal ends the command.
fn watch(context: &Context, source: Option<&Path>) -> Result<i32> {
    if context.json {
        return Err(Failure::usage("--watch prints no JSON")
            .with_hint("to print it once: agent-vm list --json")
            .into());
    }
    if !std::io::stdout().is_terminal() {
        return Err(Failure::usage("--watch needs a terminal")
            .with_hint("to print the list once: agent-vm list")
            .into());
    }
    loop {
        let rows = rows(context, source)?;
        redraw(&if rows.is_empty() { nothing(source) + "\n" } else { text(&rows) })?;
        interrupt::pause(INTERVAL)?;
    }
}

fn rows(context: &Context, source: Option<&Path>) -> Result<Vec<Row>> {
    let names = context.state.names()?;
    let mut rows: Vec<_> = names.into_iter().map(|name| row(&Machine::new(&context.state, name))).collect();
    rows.retain(|row| source.is_none() || row.source.as_deref() == source);
    Ok(rows)
}

fn text(rows: &[Row]) -> String {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    table(rows, home.as_deref(), terminal::width(std::io::stdout()))
}

fn nothing(source: Option<&Path>) -> String {
    match source {
        Some(source) => format!("{} has no machines yet", source.display()),
        None => "there are no machines yet; to create one for the current branch: agent-vm create".to_owned(),
    }
}

fn row(machine: &Machine) -> Row {
    let run = machine.run();
    let running = run.qemu().is_some();
    let facts = if running { run.facts() } else { None };
    let state = match (running, &facts) {
        (true, Some(facts)) if !run.is_starting(facts) => "running",
        (true, _) => "starting",
        (false, _) => "stopped",
    };
    let name = machine.name.to_string();
    match machine.settings() {
        Ok(settings) => {
            let (port, ssh_port, tls, auth) = facts
                .map_or((settings.port, settings.ssh_port, settings.tls, settings.auth), |facts| {
                    (facts.port, facts.ssh_port, facts.tls, facts.auth)
                });
            let seconds = Timestamp::now().as_second() - settings.created.as_second();
            Row {
                name,
                state,
                source_missing: machine.has_lost_source(&settings),
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
            source_missing: false,
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

/// Columns of the table, and the order in which they are shortened on a narrow terminal.
const COLUMNS: Columns<'_, 7> = Columns {
    header: ["MACHINE", "STATE", "BRANCH", "MCP", "SSH", "AGE", "REPOSITORY"],
    gives_way: &[(6, 16), (2, 10), (0, 16)],
    shorten_start: &[6],
};

fn cells(row: &Row, home: Option<&Path>) -> [String; 7] {
    let unknown = || "-".to_owned();
    [
        row.name.clone(),
        if row.source_missing { format!("{}, source missing", row.state) } else { row.state.to_owned() },
        row.branch.as_deref().map_or_else(unknown, one_line),
        row.port.map_or_else(unknown, |port| port.to_string()),
        row.ssh_port.map_or_else(unknown, |port| port.to_string()),
        row.age_seconds.map_or_else(unknown, |seconds| age(std::time::Duration::from_secs(seconds))),
        row.source.as_deref().map_or_else(unknown, |path| below_home(path, home)),
    ]
}

/// Formats the machines as a table. With `width`, columns are shortened to fit a terminal.
fn table(rows: &[Row], home: Option<&Path>, width: Option<usize>) -> String {
    COLUMNS.format(rows.iter().map(|row| cells(row, home)).collect(), width)
}

#[cfg(test)]
mod tests {
    use textwrap::core::display_width;

    use super::*;

    fn row(name: &str, branch: &str, source: &str) -> Row {
        Row {
            name: name.to_owned(),
            state: "stopped",
            branch: Some(branch.to_owned()),
            source: Some(source.into()),
            source_missing: false,
            host: None,
            port: Some(8000),
            ssh_port: Some(2222),
            tls: None,
            auth: None,
            created: None,
            age_seconds: Some(40_000),
            error: None,
        }
    }

    fn rows() -> Vec<Row> {
        vec![
            row("same-main", "main", "/home/me/code/same"),
            row("same-main-a3558a4a", "main", "/home/me/elsewhere/that/is/a/long/way/down/the/tree/same"),
            row(
                "app-feature-a-rather-long-name-of-a-branch-5b1c2d3e",
                "feature/日本語のブランチ名",
                "/srv/日本語/same",
            ),
        ]
    }

    #[test]
    fn a_terminal_shows_all_columns_within_its_width() {
        for width in [80, 120, 200] {
            let shown = table(&rows(), Some(Path::new("/home/me")), Some(width));
            assert!(shown.lines().all(|line| display_width(line) <= width), "{width}:\n{shown}");
            insta::assert_snapshot!(format!("at_{width}_columns"), shown);
        }
    }

    #[test]
    fn nothing_is_shortened_without_a_terminal() {
        let shown = table(&rows(), None, None);
        // Control: a terminal gets shortened columns.
        assert!(!table(&rows(), None, Some(80)).contains("way/down/the/tree"));
        for row in rows() {
            let line = shown.lines().find(|line| line.starts_with(&format!("{} ", row.name))).unwrap();
            assert!(line.ends_with(row.source.as_deref().unwrap().to_str().unwrap()), "{line}");
        }
    }
}
