//! `agent-vm stats`

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::target;
use crate::host::interrupt;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::metrics::facts::Facts;
use crate::metrics::inside::{self, Inside};
use crate::metrics::table::{Row, Terminal, format};
use crate::metrics::{history, plot};
use crate::term::error::{Failure, Interrupted, exit_code};
use crate::term::output::{WholeTerminal, print, print_json, redraw};
use crate::term::progress::note;
use crate::term::terminal;

/// Time between two redraws of `--watch`.
const INTERVAL: Duration = Duration::from_secs(2);
/// Time between two questions to the guests.
const ASKING: Duration = Duration::from_secs(10);

/// Flags of `stats`.
#[derive(Args, Clone, Debug)]
pub struct StatsArgs {
    /// Branches of the current repository, or names of machines [default: all machines]
    #[arg(value_name = "BRANCH|MACHINE")]
    machines: Vec<String>,
    /// Show the table again every two seconds, on a terminal, until ^C
    #[arg(short, long)]
    watch: bool,
}

/// Prints what machines use; with `--watch`, again and again until a signal ends the command. Returns the exit code.
///
/// # Errors
/// There is no such machine, or the state directory cannot be read.
pub fn stats(context: &Context, args: &StatsArgs) -> Result<i32> {
    // Reports a wrong name before anything is drawn.
    let machines = named(context, &args.machines)?;
    if args.watch {
        // A signal is the only way to end it.
        return watch(context, &args.machines).or_else(|error| match error.downcast_ref::<Interrupted>() {
            Some(_) => Ok(exit_code(&error).into()),
            None => Err(error),
        });
    }
    let facts: Vec<_> = machines.iter().map(Facts::of).collect();
    let answers = ask(context, &machines, &facts);
    if context.json {
        let values: Vec<_> = facts.iter().map(|facts| Stats::of(facts, answers.get(&facts.name))).collect();
        return print_json(&values).map(|()| 0);
    }
    if machines.is_empty() {
        note("there are no machines yet; to create one for the current branch: agent-vm create");
        return Ok(0);
    }
    print(&table(&facts, &answers)).map(|()| 0)
}

fn named(context: &Context, words: &[String]) -> Result<Vec<Machine>> {
    if words.is_empty() {
        let names = context.state.names()?;
        return Ok(names.into_iter().map(|name| Machine::new(&context.state, name)).collect());
    }
    words.iter().map(|word| target::find_used(&context.state, Some(word))).collect()
}

/// Answers of the guests, by the machines' names.
type Answers = BTreeMap<String, Inside>;

fn ask(context: &Context, machines: &[Machine], facts: &[Facts]) -> Answers {
    let running = machines.iter().zip(facts).filter(|(_, facts)| facts.run.is_some());
    let running: Vec<_> = running.map(|(machine, _)| machine).collect();
    let names = running.iter().map(|machine| machine.name.to_string());
    names.zip(inside::ask(context, &running)).collect()
}

fn table(facts: &[Facts], answers: &Answers) -> String {
    let rows: Vec<_> = facts.iter().map(|facts| Row { facts, inside: answers.get(&facts.name) }).collect();
    let unicode = plot::has_unicode(|name| std::env::var(name).ok());
    format(&rows, Terminal { width: terminal::width(std::io::stdout()), unicode })
}

/// Redraws the table until a signal ends the command.
fn watch(context: &Context, words: &[String]) -> Result<i32> {
    if context.json {
        return Err(Failure::usage("--watch prints no JSON")
            .with_hint("to print it once: agent-vm stats --json")
            .into());
    }
    if !std::io::stdout().is_terminal() {
        return Err(Failure::usage("--watch needs a terminal")
            .with_hint("to print the table once: agent-vm stats")
            .into());
    }
    let _whole = WholeTerminal::take()?;
    let mut answers = Answers::new();
    let mut asked: Option<Instant> = None;
    loop {
        // A machine that was destroyed meanwhile is left out.
        let machines = named(context, words).unwrap_or_default();
        let facts: Vec<_> = machines.iter().map(Facts::of).collect();
        if asked.is_none_or(|asked| asked.elapsed() >= ASKING) {
            // Without an answer there is still the host's part.
            redraw(&table(&facts, &answers))?;
            answers = ask(context, &machines, &facts);
            asked = Some(Instant::now());
        }
        redraw(&table(&facts, &answers))?;
        interrupt::pause(INTERVAL)?;
    }
}

#[derive(Serialize)]
struct Stats<'a> {
    name: &'a str,
    state: &'static str,
    failed: bool,
    time: Option<Timestamp>,
    cpu_percent: Option<f64>,
    memory_bytes: Option<u64>,
    disk_used_bytes: Option<u64>,
    read_bytes_per_second: Option<u64>,
    written_bytes_per_second: Option<u64>,
    received_bytes_per_second: Option<u64>,
    sent_bytes_per_second: Option<u64>,
    connections: Option<crate::watch::samples::Connections>,
    egress_allowed: Option<u64>,
    egress_denied: Option<u64>,
    idle_seconds: Option<u64>,
    mcp: Option<Mcp>,
    history: Vec<Point>,
}

#[derive(Serialize)]
struct Mcp {
    response_ms: Option<u128>,
    calls: Option<u64>,
    mean_ms: Option<u128>,
}

#[derive(Serialize)]
struct Point {
    time: Timestamp,
    cpu_percent: f64,
    memory_bytes: u64,
}

/// Returns a share with one decimal.
fn rounded(share: f64) -> f64 {
    (share * 10.0).round() / 10.0
}

impl<'a> Stats<'a> {
    fn of(facts: &'a Facts, inside: Option<&Inside>) -> Self {
        let (rates, last) = (history::now(&facts.samples), facts.last());
        // A rate is not negative and fits.
        let bytes = |rate: f64| rate as u64;
        let points = facts.samples.windows(2).filter_map(|pair| {
            let (before, after) = (pair.first()?, pair.last()?);
            let rates = history::between(before, after)?;
            let cpu_percent = rounded(rates.cpu_percent);
            Some(Point { time: after.time, cpu_percent, memory_bytes: history::memory(after) })
        });
        Self {
            name: &facts.name,
            state: facts.state.as_str(),
            failed: facts.failed,
            time: last.map(|last| last.time),
            cpu_percent: rates.map(|rates| rounded(rates.cpu_percent)),
            memory_bytes: last.map(history::memory),
            disk_used_bytes: facts.disk_used,
            read_bytes_per_second: rates.map(|rates| bytes(rates.read)),
            written_bytes_per_second: rates.map(|rates| bytes(rates.written)),
            received_bytes_per_second: rates.map(|rates| bytes(rates.received)),
            sent_bytes_per_second: rates.map(|rates| bytes(rates.sent)),
            connections: last.map(|last| last.connections),
            egress_allowed: last.map(|last| last.egress_allowed),
            egress_denied: last.map(|last| last.egress_denied),
            idle_seconds: last.map(|last| last.idle_seconds),
            mcp: inside.map(|inside| Mcp {
                response_ms: inside.mcp.map(|took| took.as_millis()),
                calls: inside.calls().map(|(count, _)| count),
                mean_ms: inside.calls().and_then(|(_, mean)| Some(mean?.as_millis())),
            }),
            history: points.collect(),
        }
    }
}
