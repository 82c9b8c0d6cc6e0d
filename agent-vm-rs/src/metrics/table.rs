//! The table of `stats`: as many columns as the terminal has room for.

use textwrap::core::display_width;

use super::facts::{Facts, State};
use super::history::{self, Rates};
use super::inside::Inside;
use super::plot;
use crate::term::terminal::{pad, shorten_end};
use crate::term::text::age;

/// Columns between two cells.
const GAP: usize = 2;
/// Widest name of a machine where the terminal is narrow.
const NARROW: usize = 20;
/// Width of a plot.
const PLOT: usize = 12;
/// Highest values of plots that are drawn low: a processor's share in percent, and bytes per second.
const LOW_CPU: f64 = 100.0;
const LOW_BYTES: f64 = 65_536.0;

/// A machine, and its answers if it was asked.
pub struct Row<'a> {
    /// What this host knows of it.
    pub facts: &'a Facts,
    /// What it answers.
    pub inside: Option<&'a Inside>,
}

/// How a terminal is.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// Its number of columns; None if there is none.
    pub width: Option<usize>,
    /// Whether it shows Unicode.
    pub unicode: bool,
}

/// A column: its name, how important it is (0 is always shown), and its cells.
struct Column {
    header: &'static str,
    rank: u8,
    is_number: bool,
    cells: Vec<String>,
}

impl Column {
    fn width(&self) -> usize {
        self.cells.iter().map(|cell| display_width(cell)).chain([self.header.len()]).max().unwrap_or(0)
    }
}

/// Formats machines as a table that fits a terminal.
#[must_use]
pub fn format(rows: &[Row<'_>], terminal: Terminal) -> String {
    let mut columns = columns(rows, terminal.unicode);
    if let Some(width) = terminal.width {
        fit(&mut columns, width);
    }
    let widths: Vec<_> = columns.iter().map(Column::width).collect();
    let line = |cell: &dyn Fn(&Column) -> String| {
        let cells = columns.iter().zip(&widths).map(|(column, width)| {
            let cell = cell(column);
            if column.is_number {
                " ".repeat(width.saturating_sub(display_width(&cell))) + &cell
            } else {
                pad(&cell, *width)
            }
        });
        cells.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned() + "\n"
    };
    let header = line(&|column| column.header.to_owned());
    let body = (0..rows.len()).map(|row| line(&|column| column.cells.get(row).cloned().unwrap_or_default()));
    header + &body.collect::<String>()
}

/// Leaves out the least important columns until the table fits, then shortens names.
fn fit(columns: &mut Vec<Column>, width: usize) {
    let needed =
        |columns: &[Column]| columns.iter().map(Column::width).sum::<usize>() + GAP * columns.len().saturating_sub(1);
    let shorten = |columns: &mut Vec<Column>, least: usize| {
        let too_wide = needed(columns).saturating_sub(width);
        if let Some(names) = columns.first_mut() {
            let width = names.width().saturating_sub(too_wide).max(least.min(names.width()));
            names.cells.iter_mut().for_each(|cell| *cell = shorten_end(cell, width));
        }
    };
    shorten(columns, NARROW);
    while needed(columns) > width {
        let rank = columns.iter().map(|column| column.rank).max().unwrap_or(0);
        if rank == 0 {
            break;
        }
        columns.retain(|column| column.rank < rank);
    }
    shorten(columns, 4);
}

fn columns(rows: &[Row<'_>], unicode: bool) -> Vec<Column> {
    let rates: Vec<_> = rows.iter().map(|row| history::now(&row.facts.samples)).collect();
    let of = |header, rank, is_number, cell: &dyn Fn(&Row<'_>, Option<&Rates>) -> Option<String>| {
        let cell =
            |(row, rates): (&Row<'_>, &Option<Rates>)| cell(row, rates.as_ref()).unwrap_or_else(|| "-".to_owned());
        Column { header, rank, is_number, cells: rows.iter().zip(&rates).map(cell).collect() }
    };
    let plot = |header, rank, least, value: fn(&Rates) -> f64| {
        let cell = |row: &Row<'_>| {
            let values: Vec<_> = history::all(&row.facts.samples).iter().map(value).collect();
            pad(&plot::row(&values, PLOT, least, unicode), PLOT)
        };
        Column { header, rank, is_number: false, cells: rows.iter().map(cell).collect() }
    };
    vec![
        of("MACHINE", 0, false, &|row, _| Some(row.facts.name.clone())),
        of("STATE", 0, false, &|row, _| Some(state(row.facts))),
        of("CPU", 1, true, &|_, rates| Some(format!("{:.0}%", rates?.cpu_percent))),
        plot("LAST 15 MIN", 2, LOW_CPU, |rates| rates.cpu_percent),
        of("MEMORY", 1, true, &|row, _| Some(size(history::memory(row.facts.last()?)))),
        of("DISK", 5, true, &|row, _| row.facts.disk_used.map(size)),
        of("READ/S", 6, true, &|_, rates| Some(size_of(rates?.read))),
        of("WRITE/S", 6, true, &|_, rates| Some(size_of(rates?.written))),
        plot("DISK I/O", 9, LOW_BYTES, |rates| rates.read + rates.written),
        of("NET IN/S", 7, true, &|_, rates| Some(size_of(rates?.received))),
        of("OUT/S", 7, true, &|_, rates| Some(size_of(rates?.sent))),
        plot("NETWORK", 10, LOW_BYTES, |rates| rates.received + rates.sent),
        of("MCP", 4, true, &|row, _| Some(row.inside?.calls()?.0.to_string())),
        of("MS/CALL", 4, true, &|row, _| Some(row.inside?.calls()?.1?.as_millis().to_string())),
        of("EGRESS", 8, true, &|row, _| row.facts.last().map(|last| last.egress_allowed.to_string())),
        of("DENIED", 3, true, &|row, _| row.facts.last().map(|last| last.egress_denied.to_string())),
        of("IDLE", 2, true, &|row, _| {
            row.facts.last().map(|last| age(std::time::Duration::from_secs(last.idle_seconds)))
        }),
    ]
}

fn state(facts: &Facts) -> String {
    let is_failed = facts.failed && facts.state == State::Stopped;
    if is_failed { "failed".to_owned() } else { facts.state.as_str().to_owned() }
}

/// Returns a number of bytes in at most five columns: `17B`, `1.2M`, `310M`.
fn size(bytes: u64) -> String {
    size_of(bytes as f64)
}

fn size_of(bytes: f64) -> String {
    const UNITS: [&str; 6] = ["B", "K", "M", "G", "T", "P"];
    let mut value = bytes.max(0.0);
    let mut unit = 0;
    while value >= 1_000.0 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit > 0 && value < 9.95 { format!("{value:.1}{name}") } else { format!("{value:.0}{name}") }
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::sample;
    use super::*;
    use crate::remote::servers::{Calls, Server, State as ServerState};

    fn facts(name: &str, state: State, samples: u64) -> Facts {
        Facts {
            name: name.to_owned(),
            state,
            settings: None,
            run: None,
            failed: state == State::Stopped,
            disk_used: Some(3 << 30),
            samples: (0..samples).map(sample).collect(),
        }
    }

    fn table(terminal: Terminal) -> String {
        let all = [
            facts("app-main", State::Running, 180),
            facts("app-feature-a-rather-long-name-of-a-branch-5b1c2d3e", State::Running, 3),
            facts("other", State::Starting, 0),
            facts("old", State::Stopped, 0),
        ];
        let server = Server {
            name: "codemcp".to_owned(),
            state: ServerState::Running,
            restarts: 0,
            exit_code: None,
            signal: None,
            why: None,
            last_line: None,
            calls: Some(Calls { count: 1_234, errors: 5, time_ms: 61_700 }),
        };
        let inside = Inside { mcp: None, servers: Some(vec![server]) };
        let answers = [Some(&inside), None, None, None];
        let rows: Vec<_> = all.iter().zip(answers).map(|(facts, inside)| Row { facts, inside }).collect();
        format(&rows, terminal)
    }

    #[test]
    fn the_table_fits_80_and_200_columns() {
        for (width, unicode) in [(80, true), (200, true), (80, false), (40, true), (24, false)] {
            let shown = table(Terminal { width: Some(width), unicode });
            assert!(shown.lines().all(|line| display_width(line) <= width), "{width}:\n{shown}");
            assert_eq!(shown.lines().count(), 5);
            assert!(unicode || shown.is_ascii() || shown.contains('…'), "{shown}");
            if width >= 80 {
                insta::assert_snapshot!(
                    format!("at_{width}_columns_{}", if unicode { "unicode" } else { "ascii" }),
                    shown
                );
            }
        }
        // Control: without a terminal there is every column and every name.
        let whole = table(Terminal { width: None, unicode: true });
        assert!(whole.contains("a-branch-5b1c2d3e") && whole.contains("DISK I/O") && whole.contains("NETWORK"));
    }

    #[test]
    fn sizes_are_short() {
        let all = [0, 17, 999, 1_000, 1_023, 10 << 10, 1_228_800, 310 << 20, 1 << 40, u64::MAX];
        let shown: Vec<_> = all.into_iter().map(size).collect();
        assert_eq!(shown, ["0B", "17B", "999B", "1.0K", "1.0K", "10K", "1.2M", "310M", "1.0T", "16384P"]);
        assert_eq!(size_of(f64::NAN), "0B");
    }
}
